"""Gaps in events are read from a history that is slow, or gives only small answers; what can't be read is given up."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.sources.opcua.coverage import Hole
from edge_agent.sources.opcua.event_history import fill
from edge_agent.sources.opcua.session import ServiceFault
from shopfloor.errors import SourceUnavailable

HOLE = Hole(0, (0,), 1_000, 2_000)


def nothing() -> bytes:
    result = ua.HistoryReadResult(ua.StatusCode(), None, ua.HistoryEvent([]))
    return struct_to_binary(ua.HistoryReadResponse(Results=[result]))


def slow() -> SourceUnavailable:
    error = SourceUnavailable("HistoryRead: no answer within 20 s")
    error.__cause__ = TimeoutError()
    return error


class World:
    """A server that answers as told, and a source with one hole."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.sizes: list[int] = []
        self.counts: Counter[str] = Counter()
        self.given_up: list[str] = []
        self.holes = {0: HOLE}
        self.wanted_event = asyncio.Event()
        self.live: Any = SimpleNamespace(
            config=SimpleNamespace(retry_s=0.0, history=SimpleNamespace(settle_s=0.0)),
            session=SimpleNamespace(server_now=lambda: 10_000, call_history=self.call_history),
            sink=SimpleNamespace(count=self.count),
        )

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number

    async def call_history(self, request: Any) -> bytes:
        self.sizes.append(request.Parameters.HistoryReadDetails.NumValuesPerNode)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def coverage(self) -> World:
        return self

    def wanted(self, _number: int) -> tuple[ua.NodeId, ua.EventFilter]:
        return ua.NodeId(), ua.EventFilter()

    async def put(self, _number: int, _rows: Any, done: Any) -> None:
        done()

    async def give_up(self, _hole: Hole, reason: str) -> None:
        self.given_up.append(reason)
        self.forget(HOLE)

    def forget(self, _hole: Hole) -> dict[str, bytes]:
        self.holes.clear()
        return {}

    async def run(self) -> None:
        """Fill until the hole is gone; raises what ends the filling before."""
        task = asyncio.create_task(fill(self.live, self, self.wanted_event))  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(30):
                while self.holes and not task.done():
                    await asyncio.sleep(0)
            if task.done():
                task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (slow(), 0),
        (ServiceFault("HistoryRead", StatusCodes.BadResponseTooLarge), StatusCodes.BadResponseTooLarge),
    ],
)
async def test_less_is_asked_of_a_history_that_is_slow_or_answers_small(fault: Exception, code: int) -> None:
    world = World(fault, fault, nothing())
    await world.run()
    assert world.sizes == [1_000, 250, 62]
    assert world.given_up == []
    assert world.counts["history_refused"] == (0 if code else 2)


async def test_books_that_are_opened_later_are_read_too() -> None:
    """As those of machines that a profile finds once the session runs."""

    class Later(World):
        books: Any = SimpleNamespace(holes={})

        @property
        def coverage(self) -> Any:
            return self.books

    world = Later(nothing())
    task = asyncio.create_task(fill(world.live, world, world.wanted_event))
    try:
        for _ in range(10):
            await asyncio.sleep(0)
        world.books = world
        world.wanted_event.set()
        async with asyncio.timeout(30):
            while world.holes and not task.done():
                await asyncio.sleep(0)
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert world.sizes == [1_000]
    assert not world.holes


async def test_a_history_that_gives_nothing_however_little_is_asked_is_given_up() -> None:
    fault = ServiceFault("HistoryRead", StatusCodes.BadResponseTooLarge)
    world = World(*[fault] * 5)
    await world.run()
    assert world.sizes == [1_000, 250, 62, 15, 10]
    assert len(world.given_up) == 1


async def test_a_malformed_history_costs_its_hole_and_no_session() -> None:
    world = World(nothing()[:-8])
    await world.run()
    [reason] = world.given_up
    assert "HistoryRead of events" in reason


async def test_a_connection_that_is_gone_is_not_taken_for_a_slow_history() -> None:
    with pytest.raises(SourceUnavailable, match="closed"):
        await World(SourceUnavailable("closed")).run()
