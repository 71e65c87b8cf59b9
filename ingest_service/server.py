"""One uvicorn server around the application, stopped without waiting for its viewers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from typing import Final

import uvicorn

from ingest_service.access.first_token import ensure_administrator
from ingest_service.app import create_app
from ingest_service.certificates import Certificates
from ingest_service.config import IngestConfig
from ingest_service.connection import Doorkeeper
from ingest_service.service import Service
from ingest_service.shortcut import Shortcut
from shopfloor.systemd import Notifier
from shopfloor.wire import remember_series_tables

_KEEP_ALIVE_S: Final = 75
_GRACE_S: Final = 10
_SERIES_TABLES_BYTES: Final = 128 * 2**20
"""Some 600,000 series of all agents."""
_LOOK_TICKS: Final = 20
"""uvicorn ticks ten times a second; so often the files of the certificates are looked at."""
_log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """Ends the open live pages before it waits for requests to end: theirs would last for ever.

    Certificates are read again on HUP and when their files change; connections that are open stay open. The service
    manager is told when requests are answered, and that the event loop turns: a database that does not answer is said by
    ``/readyz`` and by an alarm, since starting this process again would not help it.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        certificates: Certificates | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        super().__init__(config)
        self._service = service
        self._certificates = certificates
        self._notifier = notifier or Notifier()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        # Without certificates HUP ends the process, as it always does: its terminal is gone.
        listens = self._certificates is not None and threading.current_thread() is threading.main_thread()
        if listens and self._certificates is not None:
            loop.add_signal_handler(signal.SIGHUP, self._certificates.reload)
        feeding = asyncio.create_task(self._notifier.feed_watchdog(lambda _within_s: True), name="watchdog")
        try:
            await super().serve(sockets)
        finally:
            feeding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await feeding
            if listens:
                loop.remove_signal_handler(signal.SIGHUP)

    async def on_tick(self, counter: int) -> bool:
        """Do what is due ten times a second."""
        if self._certificates is not None and counter % _LOOK_TICKS == 0:
            self._certificates.reload_if_changed()
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        if self.started:
            places = [place.getsockname()[:2] for server in self.servers for place in server.sockets]
            where = ", ".join(
                f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in places
            )
            _log.info("serves at %s, %s", where, "with TLS" if self._certificates else "without TLS")
            self._notifier.status(f"serves at {where}")
            self._notifier.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop serving."""
        self._notifier.stopping()
        self._service.hub.close()
        await super().shutdown(sockets)


def make_server(config: IngestConfig) -> Server:
    """Open the stores and return the server; ``await server.serve()`` runs it.

    Raises:
        StoreUnavailable: a database can't be opened.
        OSError: the data folder or a TLS file can't be used; it names which.
    """
    certificates = Certificates(config.tls) if config.tls else None
    remember_series_tables(_SERIES_TABLES_BYTES)
    service = Service(config)
    if config.read_access != "open" and (file := ensure_administrator(service.plant.engine, config.data)):
        _log.warning("no token existed yet: %s holds one of an administrator; take it out of there", file)
    settings = uvicorn.Config(
        Shortcut(create_app(service), service),
        host=config.host,
        port=config.port,
        loop="auto",
        http=Doorkeeper(config.access, config.limits.body_timeout_s).protocol(),
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_context_factory=(lambda *_: certificates.context) if certificates else None,
    )
    return Server(settings, service, certificates, Notifier.from_environment(os.environ, os.getpid()))
