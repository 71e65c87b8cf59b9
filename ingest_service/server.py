"""One uvicorn server around the application, stopped without waiting for its viewers."""

from __future__ import annotations

import socket

import uvicorn

from ingest_service.app import create_app
from ingest_service.config import IngestConfig
from ingest_service.service import Service

_KEEP_ALIVE_S = 75
_GRACE_S = 10


class Server(uvicorn.Server):
    """Ends the open live pages before it waits for requests to end: theirs would last for ever."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop serving."""
        self._service.hub.close()
        await super().shutdown(sockets)


def make_server(config: IngestConfig) -> Server:
    """Open the stores and return the server; ``await server.serve()`` runs it.

    Raises:
        StoreUnavailable: a database can't be opened.
        OSError: the data folder or a TLS file can't be used; it names which.
    """
    if config.tls:
        # ssl itself would not say which of the two it could not open.
        for file in (config.tls.certificate, config.tls.key):
            file.open("rb").close()
    service = Service(config)
    settings = uvicorn.Config(
        create_app(service),
        host=config.host,
        port=config.port,
        loop="auto",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=config.tls.certificate if config.tls else None,
        ssl_keyfile=config.tls.key if config.tls else None,
    )
    return Server(settings, service)
