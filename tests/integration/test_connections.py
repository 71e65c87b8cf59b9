"""Connections that want too much or never end: each has a bound, and nobody else notices."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from shopfloor.messages import BATCH_MEDIA_TYPE
from tests.integration.ingest_server import Running, batch, running

LONG_S = 60
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Wire:
    """A bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(LONG_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")[:-2]
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split()[1]), headers, body

    async def closed(self) -> bytes:
        """Wait until the other side closes; return what it still said."""
        async with asyncio.timeout(LONG_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def wire(plant: Running) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection(plant.client.base_url.host, plant.client.base_url.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def bounded(folder: Path, **access: Any) -> AsyncIterator[Running]:
    async with running(folder, access=access) as plant:
        yield plant
        # Whatever a test did to its own connections: everybody else is served, and nothing is left of them.
        assert (await plant.client.get("/healthz")).status_code == 200


async def gone(plant: Running) -> None:
    async with asyncio.timeout(LONG_S):
        while plant.server.server_state.connections:
            await asyncio.sleep(0.01)


async def test_a_head_beyond_its_size_is_431(tmp_path: Path) -> None:
    async with bounded(tmp_path, header_bytes=2048) as plant:
        async with wire(plant) as whole:
            await whole.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2048 + b"\r\n\r\n")
            assert (await whole.answer())[0] == 431
            assert await whole.closed() == b""
        async with wire(plant) as many:
            await many.send(b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 400 + b"\r\n")
            assert (await many.answer())[0] == 431
        async with wire(plant) as endless:
            await endless.send(b"GET /")
            with pytest.raises(ConnectionError):
                while True:  # one header value that never ends would be collected for ever
                    await endless.send(b"x" * 65536)
                    await asyncio.sleep(0)
        async with wire(plant) as modest:
            await modest.send(GET * 3)
            for _ in range(3):
                assert (await modest.answer())[0] == 200


async def test_a_large_body_is_no_large_head(tmp_path: Path) -> None:
    async with bounded(tmp_path, header_bytes=1024) as plant:
        sent = batch(n=5000)
        assert (await plant.post(sent)).status_code == 200
        async with wire(plant) as pipelined:
            body = b"x" * 40_000
            head = f"POST /v1/spans HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            await pipelined.send((head + body) * 2 + GET)
            assert [(await pipelined.answer())[0] for _ in range(3)] == [401, 401, 200]


async def test_a_head_that_does_not_come_and_a_silent_peer_are_cut(tmp_path: Path) -> None:
    async with bounded(tmp_path, header_timeout_s=0.2) as plant:
        async with wire(plant) as silent:
            assert await silent.closed() == b""
        answered = b""
        async with asyncio.timeout(LONG_S):
            while not answered:  # a machine that is busy enough may bring even the first line too late
                async with wire(plant) as slow:
                    await slow.send(b"GET /healthz HTTP/1.1\r\n")
                    answered = await slow.closed()
        assert answered.startswith(b"HTTP/1.1 408 ")
        await gone(plant)


async def test_the_rest_of_a_refused_body_does_not_keep_a_connection(tmp_path: Path) -> None:
    async with running(tmp_path, limits={"body_timeout_s": 0.2}) as plant:
        async with wire(plant) as one:
            await one.send(b"POST /v1/batches HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nx")
            assert (await one.answer())[0] == 401
            assert await one.closed() == b""
        await gone(plant)


async def test_the_rest_of_a_refused_body_does_not_disturb_what_follows(tmp_path: Path) -> None:
    async with bounded(tmp_path) as plant:
        async with wire(plant) as sound:
            await sound.send(b"POST /v1/spans HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab")
            assert (await sound.answer())[0] == 401
            await sound.send(b"cde" + GET)
            assert (await sound.answer())[0] == 200
        await gone(plant)


async def test_a_body_that_trickles_is_408(tmp_path: Path) -> None:
    async with running(tmp_path, limits={"body_timeout_s": 0.2}) as plant:
        async with wire(plant) as one:
            headers = plant.agent | {"Content-Type": BATCH_MEDIA_TYPE, "Content-Length": "1000", "Host": "h"}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            await one.send(f"POST /v1/batches HTTP/1.1\r\n{head}\r\nx".encode())
            status, answered, _ = await one.answer()
            assert (status, answered["connection"]) == (408, "close")
        assert plant.service.backpressure.waiting_bytes == 0
        await gone(plant)


async def test_trailers_and_extensions_of_chunks_are_not_collected_without_end(tmp_path: Path) -> None:
    async with bounded(tmp_path) as plant:
        for endless in (b"5;" + b"e" * 60_000, b"0\r\nTrailer: " + b"t" * 60_000):
            async with wire(plant) as one:
                await one.send(
                    b"POST /v1/session HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n" + endless
                )
                with pytest.raises(ConnectionError):
                    while True:
                        await one.send(b"x" * 65536)
                        await asyncio.sleep(0)
        await gone(plant)


async def test_connections_beyond_their_number_are_told_so(tmp_path: Path) -> None:
    async with bounded(tmp_path, address_connections=2) as plant:
        async with wire(plant) as first, wire(plant) as second:
            for one in (first, second):
                await one.send(GET)
                assert (await one.answer())[0] == 200
            async with wire(plant) as third:
                status, headers, _ = await third.answer()
                assert (status, headers["retry-after"]) == (503, "5")
                assert await third.closed() == b""
            await first.send(GET)
            assert (await first.answer())[0] == 200
        await gone(plant)
        async with wire(plant) as again:
            await again.send(GET)
            assert (await again.answer())[0] == 200


async def test_who_closed_one_side_still_gets_the_answer(tmp_path: Path) -> None:
    async with bounded(tmp_path) as plant:
        async with wire(plant) as whole:
            await whole.send(GET)
            whole.writer.write_eof()
            assert (await whole.answer())[0] == 200
            assert await whole.closed() == b""
        async with wire(plant) as half:
            await half.send(b"POST /v1/session HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n")
            await half.send(b"Content-Length: 100\r\n\r\n{")
            half.writer.write_eof()
            await half.closed()
        await gone(plant)


async def test_a_viewer_who_does_not_read_is_cut(tmp_path: Path) -> None:
    async with bounded(tmp_path, write_timeout_s=0.3) as plant:
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.setblocking(False)
            loop = asyncio.get_running_loop()
            url = plant.client.base_url
            await loop.sock_connect(peer, (url.host, url.port))
            token = plant.viewer["Authorization"]
            await loop.sock_sendall(
                peer,
                f"GET /openapi.json HTTP/1.1\r\nHost: h\r\nAuthorization: {token}\r\n\r\n".encode() * 400,
            )
            await gone(plant)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/batches HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/batches HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        b"\0" * 1000,
    ],
)
async def test_bytes_that_are_no_request_are_refused(tmp_path: Path, garbage: bytes) -> None:
    async with bounded(tmp_path) as plant:
        async with wire(plant) as one:
            await one.send(garbage)
            assert (await one.answer())[0] == 400
            assert await one.closed() == b""
        await gone(plant)
