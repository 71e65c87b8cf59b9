"""What passed a balancer, against a ledger and against points: each thing that may be amiss is made by hand, and found."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import numpy as np

from shopfloor.asset import parse_asset
from shopfloor.block import make_block
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey
from shopfloor.wire import decode_batch, encode_batch
from tests.faults.balancer import Balancer
from tests.faults.books import Books
from tests.faults.holdings import Columns
from tests.faults.sent import balanced, taken
from tests.links import Link
from tests.ports import free_port

KEY = SeriesKey(parse_asset("acme/hk01/line/cell/kept"), "s0")


def body(first: int, last: int, shift: int = 0, stream: str = "a") -> bytes:
    """Return a batch whose values are its numbers, and whose times are those and the shift."""
    seq = np.arange(first, last + 1)
    rows = make_block((KEY,), np.zeros(len(seq)), seq + shift, seq, seq)
    return encode_batch(Batch("agent", stream, Lane.LIVE, first, rows))


def request(content: bytes) -> bytes:
    return b"POST /v1/batches HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(content) + content


REQUEST = request(body(1, 4))


def points(*times: int) -> Columns:
    n = len(times)
    return Columns((str(KEY.asset),) * n, (KEY.signal,) * n, times, times, (0,) * n)


def balancer() -> Balancer:
    return Balancer([1, 2], 0, random.Random(1), 0.5)


def test_batches_that_came_again_and_cut_otherwise_are_each_number_once() -> None:
    came = taken(
        [body(1, 4), body(1, 6), body(5, 6), body(5, 9)], [("a", 1, 4), ("a", 5, 6)], (), lambda _: 7
    )
    assert came.held.value.tolist() == [1, 2, 3, 4, 5, 6]
    assert set(came.held.series.tolist()) == {7}
    assert came.amiss == ()
    said = balanced(balancer(), came, points(*range(1, 7)))
    assert said.adds_up(Books(6, 6, 0, ()))
    assert not said.adds_up(Books(6, 5, 0, ()))


def test_what_lies_in_quarantine_is_not_stored() -> None:
    came = taken([body(1, 4)], [("a", 1, 4)], {("a", 2)}, lambda _: 0)
    assert came.held.value.tolist() == [1, 3, 4]
    assert came.amiss == ()


def test_a_number_with_two_contents_is_amiss() -> None:
    came = taken([body(1, 4), body(4, 6, shift=1)], [("a", 1, 6)], (), lambda _: 0)
    assert len(came.amiss) == 1
    assert not balanced(balancer(), came, points(*range(1, 5), 6, 7)).adds_up(Books(6, 6, 0, ()))


def test_a_row_of_the_ledger_for_what_never_came_or_is_there_already_is_amiss() -> None:
    assert len(taken([body(1, 4)], [("a", 1, 5)], (), lambda _: 0).amiss) == 1
    assert len(taken([body(1, 4)], [("a", 1, 4), ("a", 3, 4)], (), lambda _: 0).amiss) == 2


def test_points_that_are_not_there_or_that_nobody_sent_are_counted() -> None:
    came = taken([body(1, 4)], [("a", 1, 4)], (), lambda _: 0)
    said = balanced(balancer(), came, points(1, 2, 4, 9, 10))
    assert (said.points_missing, said.points_strange, said.merged) == (1, 2, -1)
    assert not said.adds_up(Books(4, 4, 0, ()))


def test_what_a_server_made_one_of_is_told() -> None:
    bodies = [body(1, 4), body(2, 3, stream="b")]
    came = taken(bodies, [("a", 1, 4), ("b", 2, 3)], (), lambda _: 0)
    assert balanced(balancer(), came, points(1, 2, 3, 4)).merged == 2


# Balancer


class Answering:
    """Two servers that answer each request with their own name, once they are let."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        self.go = {name: asyncio.Event() for name in "ab"}

    async def serve(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length
            self.bodies.append(await reader.readexactly(int(length[1])))
            self.asked.append(name)
            await self.go[name].wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n" + name.encode())
            await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def two(twice: float, cut: float = 0.0) -> AsyncIterator[tuple[Balancer, Answering, list[Link]]]:
    servers = Answering()
    async with AsyncExitStack() as stack:
        links = []
        for name in "ab":
            server = await asyncio.start_server(partial(servers.serve, name), "127.0.0.1", 0)
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)
            link = Link(server.sockets[0].getsockname()[1])
            await link.start()
            stack.push_async_callback(link.stop)
            links.append(link)
        front = Balancer([link.port for link in links], free_port(), random.Random(1), twice, cut)
        await front.start()
        stack.push_async_callback(front.stop)
        yield front, servers, links


async def ask(port: int, request: bytes = REQUEST) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return (await reader.read(1_000))[-1:]
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def test_requests_go_to_each_in_turn_and_past_one_that_is_away() -> None:
    async with two(0.0) as (front, servers, links):
        for event in servers.go.values():
            event.set()
        assert [await ask(front.port) for _ in range(4)] == [b"a", b"b", b"a", b"b"]
        links[0].cut()
        assert {await ask(front.port) for _ in range(4)} == {b"b"}
        assert front.passed_over > 0
        links[1].cut()
        assert await ask(front.port) == b""
        assert front.batches == [body(1, 4)]


async def test_a_batch_goes_to_both_at_once_and_the_first_answer_counts() -> None:
    async with two(1.0) as (front, servers, links):
        servers.go["b"].set()
        assert await ask(front.port) == b"b"
        async with asyncio.timeout(40):
            while sorted(servers.asked) != ["a", "b"]:
                await asyncio.sleep(0.01)
        assert (front.sent_twice, front.answered_twice) == (1, 0)
        servers.go["a"].set()
        async with asyncio.timeout(40):
            while not front.answered_twice:
                await asyncio.sleep(0.01)
        links[1].cut()
        assert await ask(front.port) == b"a"


async def test_one_gets_the_beginning_and_the_answer_to_the_whole_counts() -> None:
    async with two(1.0, 1.0) as (front, servers, _):
        for event in servers.go.values():
            event.set()
        assert await ask(front.port) in {b"a", b"b"}
        async with asyncio.timeout(40):
            while not front.answered_twice:
                await asyncio.sleep(0.01)
        first, second = sorted((decode_batch(each) for each in servers.bodies), key=lambda one: one.last_seq)
        assert (first.first_seq, first.last_seq, second.first_seq, second.last_seq) == (1, 2, 1, 4)
        assert front.batches == [body(1, 4)]


async def test_what_is_no_batch_goes_to_one() -> None:
    async with two(1.0) as (front, servers, _):
        for event in servers.go.values():
            event.set()
        assert await ask(front.port, REQUEST.replace(b"batches", b"spans")) in {b"a", b"b"}
        assert len(servers.asked) == 1
        assert front.batches == []
