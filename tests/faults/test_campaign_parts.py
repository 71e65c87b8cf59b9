"""What the campaign stands on: its schedule, the machines' logs, damage that damages, links that fail as they are told."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from edge_agent.buffer import Parcel
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from shopfloor.messages import Lane, SpanKind
from tests.contract.buffer_contract import samples
from tests.faults.buffer_damage import damage
from tests.faults.number_log import ROW, NumberLog, read_numbers
from tests.faults.schedule import SEVERAL, SEVERAL_SERVED, TARGETS, Kind, plan_faults
from tests.links import HttpLink, Link

# Schedule


def test_a_seed_gives_the_same_faults_again_and_another_one_others() -> None:
    assert plan_faults(200, 7, 1000.0) == plan_faults(200, 7, 1000.0)
    assert plan_faults(200, 7, 1000.0) != plan_faults(200, 8, 1000.0)


@pytest.mark.parametrize("seed", range(5))
def test_from_twelve_on_every_kind_occurs_and_in_the_long_run_every_target(seed: int) -> None:
    assert {fault.kind for fault in plan_faults(12, seed, 60.0)} == set(Kind)
    faults = plan_faults(200, seed, 1000.0)
    assert len(faults) == 200
    hit = {(fault.kind, fault.target) for fault in faults}
    assert hit == {(kind, target) for kind, targets in TARGETS.items() for target in targets}
    assert all(one.at_s <= other.at_s for one, other in pairwise(faults))
    assert faults[-1].at_s <= 1000.0


@pytest.mark.parametrize("targets", [SEVERAL, SEVERAL_SERVED])
def test_two_processes_and_their_databases_are_hit_in_every_way(
    targets: Mapping[Kind, Sequence[str]],
) -> None:
    hit = {(fault.kind, fault.target) for fault in plan_faults(300, 1, 1000.0, targets)}
    assert hit == {(kind, target) for kind, each in targets.items() for target in each}
    assert {(Kind.KILL, "ingest-1"), (Kind.KILL, "postgresql"), (Kind.SWALLOW, "influxdb")} <= hit
    assert not any(target == "ingest" for _, target in hit)


def test_clocks_are_stepped_both_ways_by_seconds() -> None:
    offsets = [fault.clock_offset_s for fault in plan_faults(500, 1, 1000.0)]
    assert min(offsets) < -5
    assert max(offsets) > 5
    assert min(map(abs, offsets)) >= 2


# Logs of numbers


def test_a_log_goes_on_counting_behind_a_row_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "machine.numbers"
    log = NumberLog(path)
    for _ in range(3):
        log.say([0, 1])
    log.close()
    path.write_bytes(path.read_bytes()[:-1])
    log = NumberLog(path)
    log.say([0, 1])
    log.close()
    rows = read_numbers(path)
    assert rows["number"].tolist() == [1, 1, 2, 2, 3, 4, 3]
    assert rows["series"].tolist() == [0, 1, 0, 1, 0, 0, 1]
    assert path.stat().st_size == 7 * ROW.itemsize
    assert max(Counter(rows["source_time"].tolist()).values()) <= 2


# Damage


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_damage_costs_something_that_waits_unless_there_is_a_copy_and_the_buffer_says_so(
    tmp_path: Path, seed: int, mirrored: bool
) -> None:
    buffer = SqliteBuffer(tmp_path, BufferLimits(disk_reserve_bytes=0), "agent")
    for first in range(1, 601, 5):
        buffer.append([Parcel(samples(list(range(first, first + 5))), "scope", {})])
    half = buffer.peek(300)
    assert half is not None
    buffer.commit(half.stream_id, half.last_seq)
    buffer.close()

    before, note = damage(tmp_path, random.Random(seed), lambda _key: 0)
    assert "nothing" not in note
    assert before.seq.tolist() == list(range(301, 601))
    if not mirrored:
        for file in tmp_path.glob("*.recent*"):
            file.unlink()

    buffer = SqliteBuffer(tmp_path, BufferLimits(disk_reserve_bytes=0), "agent")
    left: set[int] = set()
    for lane in Lane:
        while (batch := buffer.peek(10_000, lane)) is not None:
            if batch.stream_id == half.stream_id:
                left |= set(range(batch.first_seq, batch.last_seq + 1))
            buffer.commit(batch.stream_id, batch.last_seq)
    spans = buffer.spans(100)
    buffer.close()
    lost = set(before.seq.tolist()) - left
    assert bool(lost) is not mirrored, "a page was overwritten"
    assert all(span.kind is SpanKind.DROPPED for span in spans)
    named = {seq for span in spans if span.stream_id for seq in range(span.first_seq, span.last_seq + 1)}
    assert lost <= named or any(span.at_least for span in spans)


def test_nothing_is_damaged_where_nothing_waits(tmp_path: Path) -> None:
    SqliteBuffer(tmp_path, BufferLimits(disk_reserve_bytes=0), "agent").close()
    before, note = damage(tmp_path, random.Random(1), lambda _key: 0)
    assert len(before.seq) == 0
    assert note == "nothing undelivered to damage"


# Links


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        while data := await reader.read(1_000):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


async def _serve_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body[::-1]))
        await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def linked(link: Link, target: asyncio.Server) -> AsyncIterator[None]:
    await link.start()
    try:
        yield
    finally:
        await link.stop()
        target.close()
        await target.wait_closed()


async def _exchange(port: int, sent: bytes, size: int = 1_000) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        return await reader.read(size)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def test_a_link_that_is_cut_resets_and_one_that_swallows_says_nothing() -> None:
    target = await asyncio.start_server(_echo, "127.0.0.1", 0)
    link = Link(target.sockets[0].getsockname()[1])
    async with linked(link, target):
        assert await _exchange(link.port, b"hello") == b"hello"
        link.cut()
        assert await _exchange(link.port, b"hello") == b""
        link.heal()
        link.reset()
        assert await _exchange(link.port, b"hello") == b"hello"
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        link.swallow()
        writer.write(b"later")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(5)
        link.heal()
        assert await reader.readexactly(5) == b"later"
        link.cut()
        with suppress(ConnectionError):
            assert await reader.read(1) == b""
        writer.transport.abort()


async def test_a_link_answers_503_or_keeps_the_answer_to_itself() -> None:
    target = await asyncio.start_server(_serve_http, "127.0.0.1", 0)
    link = HttpLink(target.sockets[0].getsockname()[1])
    request = b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc"
    async with linked(link, target):
        assert (await _exchange(link.port, request)).endswith(b"\r\n\r\ncba")
        link.unavailable = True
        assert (await _exchange(link.port, request)).startswith(b"HTTP/1.1 503 ")
        link.heal()
        link.loses_answers = True
        assert await _exchange(link.port, request) == b""
        link.heal()
        assert (await _exchange(link.port, request)).endswith(b"\r\n\r\ncba")
        assert (link.refused, link.lost_answers) == (1, 1)
