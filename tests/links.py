"""The network of tests: paths on loopback that can be cut, swallow everything, be slow, or lie."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Final

from tests.ports import free_port

_CHUNK: Final = 65_536
_UNAVAILABLE: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/html\r\nretry-after: 1\r\ncontent-length: 20\r\n\r\n"
    b"<h1>maintenance</h1>"
)


class Link:
    """A TCP path to a port of this computer, on a port of its own (a free one unless it is given)."""

    def __init__(self, target_port: int, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self._target = target_port
        self._cut = False
        self._delay_s = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Close everything."""
        if self._server is None:
            return
        self._server.close()
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Reset all connections, and every new one."""
        self._cut = True
        self.reset()

    def reset(self) -> None:
        """Reset all connections that there are."""
        for writer in list(self._writers):
            writer.transport.abort()

    def swallow(self) -> None:
        """Let nothing pass, and nobody know: as if a cable were pulled somewhere on the way."""
        self._flowing.clear()

    def delay(self, seconds: float) -> None:
        """Hold up everything that passes for so long."""
        self._delay_s = seconds

    def heal(self) -> None:
        """Be a good link again."""
        self._cut, self._delay_s = False, 0.0
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                if not self._cut:
                    await self._carry(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flowing.wait()
        there_reader, there = await self._connect()
        try:
            pumps = [
                asyncio.create_task(self._pump(reader, there)),
                asyncio.create_task(self._pump(there_reader, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._disconnect(there)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers.add(writer)
        return reader, writer

    def _disconnect(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._pass()
                writer.write(data)
                await writer.drain()

    async def _pass(self) -> None:
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        await self._flowing.wait()


class HttpLink(Link):
    """A Link that knows where a request ends, and can answer in the service's place or keep its answer back."""

    def __init__(self, target_port: int, port: int | None = None) -> None:
        super().__init__(target_port, port)
        self.unavailable = False
        """Whether every request is answered with 503, as a proxy in front of the service would."""
        self.loses_answers = False
        """Whether requests arrive, and nobody hears of it."""
        self.refused = 0
        self.lost_answers = 0

    def heal(self) -> None:
        """Be a good link again."""
        super().heal()
        self.unavailable = self.loses_answers = False

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await _message(reader)
            await self._pass()
            if self.unavailable:
                self.refused += 1
                answer = _UNAVAILABLE
            else:
                answer = await self._ask(request)
            await self._pass()
            if self.loses_answers:
                self.lost_answers += 1
                return
            writer.write(answer)
            await writer.drain()

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await self._connect()
        try:
            writer.write(request)
            return await _message(reader)
        finally:
            self._disconnect(writer)


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")
