"""The byte stream to a broker: asyncio owns socket and TLS, paho sees something that looks like a socket."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, NoReturn

from edge_agent.sources.mqtt.broker import TlsConfig
from shopfloor.errors import SourceMisconfigured

REST_S: Final = 0.005
"""For how long the broker's messages gather in the network while nobody waits for them. Read as they come, one by one,
each would cost a turn of the event loop; what is read is stamped with the time of receipt, so it must not be long."""


class Stream(asyncio.Protocol):
    """The transport to a broker, and for paho a socket on which one packet at a time arrives."""

    def __init__(self, on_data: Callable[[bytes], None], on_lost: Callable[[Exception | None], None]) -> None:
        self._on_data = on_data
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._packet = b""
        self._resting: asyncio.TimerHandle | None = None
        self.is_paused = False
        """Whether `pause` was called, and `resume` not yet."""
        self.heard = self._loop.time()
        """Loop time at which the broker last said anything."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the open transport (called by asyncio)."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take bytes from the broker (called by asyncio)."""
        self.heard = self._loop.time()
        self._on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the stream is gone (called by asyncio)."""
        self._end_rest()
        if not self._gone.done():
            self._gone.set_result(None)
        self._on_lost(exc)

    def write(self, data: bytes | bytearray) -> None:
        """Send bytes, unless the stream is closing."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def rest(self) -> None:
        """Stop reading until somebody waits (`attend`), for `REST_S` at most."""
        if self._resting is None and not self.is_paused:
            if self._transport is not None and not self._transport.is_closing():
                self._transport.pause_reading()
            self._resting = self._loop.call_later(REST_S, self.attend)

    def attend(self) -> None:
        """Read as soon as something comes: somebody waits for it."""
        if self._resting is not None:
            self._end_rest()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def _end_rest(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None

    def pause(self) -> None:
        """Stop reading: the broker's messages wait in its queue and in the network."""
        self._end_rest()
        self.is_paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Go on reading after `pause`."""
        self.is_paused = False
        self.heard = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, whatever was not sent yet."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_hung_up(self, timeout_s: float) -> None:
        """Wait until the broker has closed the connection, for ``timeout_s`` at most; go on reading meanwhile.

        A socket closed with something unread resets the connection, and the broker may lose what it has not read.
        """
        if self._transport is not None and not self.is_paused:
            self.attend()
            await asyncio.wait([self._gone], timeout=timeout_s)

    async def wait_closed(self, timeout_s: float) -> None:
        """Close, and wait until what was sent is out and the socket is gone; by force after ``timeout_s``."""
        if self._transport is None:
            return
        self._end_rest()
        try:
            self._transport.close()
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._gone)
        except TimeoutError:
            pass
        finally:
            self._transport.abort()

    # What paho calls: the part of a socket that it uses.

    def put_packet(self, packet: bytes) -> None:
        """Let ``packet`` be what `recv` returns next."""
        self._packet = packet

    def recv(self, size: int) -> bytes:
        """Return at most ``size`` bytes of the packet; BlockingIOError where nothing is left of it."""
        if not self._packet:
            raise BlockingIOError
        data, self._packet = self._packet[:size], self._packet[size:]
        return data

    def send(self, data: bytes | bytearray) -> int:
        """Send all of ``data``."""
        self.write(data)
        return len(data)

    def close(self) -> None:
        """Close once what was sent is out."""
        if self._transport is not None:
            self._transport.close()

    def fileno(self) -> int:
        """Return no descriptor: asyncio owns the socket."""
        return -1

    def setblocking(self, _flag: bool, /) -> None:  # noqa: FBT001 - the signature of a socket
        """Do nothing: it never blocks."""


def tls_context(files: TlsConfig | None) -> ssl.SSLContext:
    """Return a context that verifies the broker's certificate and name.

    Raises:
        SourceMisconfigured: a file can't be read or holds no certificate or key.
    """
    try:
        context = ssl.create_default_context(cafile=files.ca if files else None)
    except OSError as error:
        _unusable("tls.ca", files.ca if files else None, error)
    if files and files.cert:
        try:
            # An empty pass phrase, lest OpenSSL ask for one on the terminal.
            context.load_cert_chain(files.cert, files.key, password="")
        except OSError as error:
            _unusable("tls.cert and tls.key", f"{files.cert} and {files.key}", error)
    return context


def _unusable(key: str, path: object, error: OSError) -> NoReturn:
    raise SourceMisconfigured(f"{key}: can't use {path}: {error.strerror or error}") from error
