"""TLS of the service: its certificate, the authorities of its clients, and how both are exchanged while it runs."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Final

from ingest_service.access.config import TlsConfig

_log = logging.getLogger(__name__)
_REQUIRED: Final = "required"


class Certificates:
    """Gives every new connection the newest files that fit together; open connections stay as they are.

    Args:
        config: which files.

    Raises:
        OSError: one can't be read, or they do not fit together; it names them.
    """

    def __init__(self, config: TlsConfig) -> None:
        self._config = config
        self._files = [
            file for file in (config.certificate, config.key, config.client_ca) if file is not None
        ]
        self._seen = self._look()
        self._newest = _make_context(config)
        self.context = _make_context(config)
        """What the server is made with; each handshake moves on to the newest one (RFC 6066 section 3 asks for a choice by
        name, OpenSSL calls back whether a name was sent or not)."""
        self.context.sni_callback = self._choose

    def reload(self) -> bool:
        """Read the files again; False where they can't be used, and then the ones before go on."""
        self._seen = self._look()
        try:
            self._newest = _make_context(self._config)
        except OSError as error:
            _log.error("the certificates stay as they were: %s", error)
            return False
        _log.info("certificates read again: %s", self._config.certificate)
        return True

    def reload_if_changed(self) -> bool:
        """Read the files again where one of them is another than it was; tell whether new ones hold."""
        return self._look() != self._seen and self.reload()

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_mark(file) for file in self._files]


def _mark(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _make_context(config: TlsConfig) -> ssl.SSLContext:
    # ssl itself would not say which of the files it could not open.
    for file in (config.certificate, config.key, *([config.client_ca] if config.client_ca else [])):
        file.open("rb").close()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(config.certificate, config.key)
    except ssl.SSLError as error:
        raise OSError(f"{config.certificate} and {config.key}: {error.reason or error}") from error
    if config.client_ca is not None:
        try:
            context.load_verify_locations(config.client_ca)
        except ssl.SSLError as error:
            raise OSError(f"{config.client_ca}: {error.reason or error}") from error
        required = config.client_certificates == _REQUIRED
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        # A resumed session would bring along a certificate that nobody has looked at again.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    return context
