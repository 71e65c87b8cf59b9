"""One connection: what uvicorn leaves to whoever uses it. Bounds on headers, time and numbers; who the peer is in TLS."""

from __future__ import annotations

import asyncio
import http
from collections import Counter
from typing import Any, Final, cast

import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ingest_service.access.config import AccessConfig
from ingest_service.access.origin import certificate_names

_MOST_OVERHEAD: Final = 2**20
"""Bytes of a chunked body that are none of its content."""
_LARGE_PART: Final = 32 * 1024


class Doorkeeper:
    """The bounds of a service's connections, and how many each address has open. Belongs to the event loop."""

    def __init__(self, access: AccessConfig, body_timeout_s: float) -> None:
        self.access = access
        self.body_timeout_s = body_timeout_s
        self.open: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Count a connection; False where there are too many, and then it is not counted."""
        if self.open.total() >= self.access.connections:
            return False
        if self.open[address] >= self.access.address_connections:
            return False
        self.open[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Count it no more."""
        self.open[address] -= 1
        if self.open[address] <= 0:
            del self.open[address]

    def protocol(self) -> type[asyncio.Protocol]:
        """Return the class of connections for uvicorn's configuration."""
        keeper = self

        class _Connection(Connection):
            doorkeeper = keeper

        return _Connection


class Connection(HttpToolsProtocol):
    """uvicorn's connection on httptools, bounded.

    - Line and headers of a request have a size and a time; httptools itself would collect a header without end.
    - A body that nobody waits for any more (refused by its head) has a time, and so has a peer that does not read.
    - A client that closed its side for writing still gets the answer to a whole request (RFC 9112, section 9.6).
    - The names of a verified client certificate stand in the scope: ``extensions.tls.client_cert_names``, beside what the
      ASGI extension for TLS calls ``client_cert_name``.
    """

    doorkeeper: Doorkeeper

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._address: str | None = None
        self._message = 0
        self._in_head = False
        self._whole = True
        self._head_bytes = 0
        self._raw_bytes = 0
        self._body_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._certificate: tuple[str, ...] = ()
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        if not self.doorkeeper.enter(address):
            self._refuse(503, {"Retry-After": "5"})
            return
        self._address = address
        self._certificate = certificate_names(transport.get_extra_info("peercert") or {})
        self._allow(self.doorkeeper.access.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._address is not None:
            self.doorkeeper.leave(self._address)
            self._address = None
        self._stop_waiting()
        self._is_read()
        # Also where it ended with an error: uvicorn stops this clock for the others only.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._refused:
            return
        before = self._message if self._in_head else -1
        super().data_received(data)
        if self._in_head and self._message == before:
            self._head_bytes += len(data)
            if self._head_bytes > self.doorkeeper.access.header_bytes:
                self._refuse(431)
        elif not self._in_head and not self._whole:
            self._raw_bytes += len(data)
            # Trailers and extensions of chunks are bytes as well, which httptools collects.
            if self._raw_bytes - self._body_bytes > _MOST_OVERHEAD + 8 * self._body_bytes:
                self._refuse(431)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep the other direction open while an answer to a whole request is under way."""
        if self.cycle is None or self.cycle.response_complete or not self._whole or self.scheme == "https":
            return None
        self.cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._message += 1
        self._in_head, self._whole = True, False
        self._head_bytes = self._raw_bytes = self._body_bytes = 0
        if self._certificate:
            tls = {"client_cert_name": self._certificate[0], "client_cert_names": self._certificate}
            cast("dict[str, Any]", self.scope)["extensions"] = {"tls": tls}
        if not self._refused:
            self._allow(self.doorkeeper.access.header_timeout_s, 408)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header is there, or a trailer, of which none is wanted."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Line and headers are there."""
        self._in_head = False
        self._stop_waiting()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.doorkeeper.access.header_bytes:
            self._refuse(431)
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body is there."""
        self._body_bytes += len(body)
        if not self._refused:
            if not self.cycle.body and len(body) >= _LARGE_PART:
                # Added to no bytes it stays what it is; uvicorn would copy it into its bytearray, and out again.
                self.cycle.body = b""  # type: ignore[assignment]
            elif isinstance(self.cycle.body, bytes):
                self.cycle.body = bytearray(self.cycle.body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._whole = True
        self._stop_waiting()
        if self._refused:
            return
        if self.cycle.response_complete:
            # uvicorn's clock stopped when the rest of this body came.
            self._allow(self.timeout_keep_alive)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is written."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._must_be_read()
        elif not self._whole:
            # Nobody waits for the rest of this body; it may still come, but not for ever.
            self._allow(self.doorkeeper.body_timeout_s)

    def pause_writing(self) -> None:
        """The peer does not read."""
        super().pause_writing()
        self._must_be_read()

    def resume_writing(self) -> None:
        """The peer reads again."""
        super().resume_writing()
        self._is_read()

    def _must_be_read(self) -> None:
        if self._unread is None:
            self._unread = self.loop.call_later(self.doorkeeper.access.write_timeout_s, self.transport.abort)

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _allow(self, seconds: float, status: int = 0) -> None:
        """Close the connection after so long, with that answer if there is one to give."""
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, self._refuse, status)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: int, headers: dict[str, str] | None = None) -> None:
        """Close; with an answer of our own where there is a status, and none of the application is under way."""
        self._refused = True
        self._stop_waiting()
        if self.transport.is_closing():
            return
        if status and (self.cycle is None or self.cycle.response_complete):
            phrase = http.HTTPStatus(status).phrase
            body = msgspec.json.encode({"error": phrase.lower()})
            lines = [f"HTTP/1.1 {status} {phrase}", "Content-Type: application/json", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
            lines.append(f"Content-Length: {len(body)}")
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()
        self._must_be_read()
