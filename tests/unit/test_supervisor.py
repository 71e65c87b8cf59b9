"""How sources are kept running: whatever they raise, at a bounded pace, with few words."""

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Never, cast

import pytest

from edge_agent import sink as sink_module
from edge_agent.backoff import Backoff
from edge_agent.intake import Intake
from edge_agent.sink import SourceSink
from edge_agent.sources import BlockSink
from edge_agent.supervisor import STABLE_AFTER_S, supervise
from shopfloor.errors import SourceMisconfigured, SourceUnavailable, StoreUnavailable
from shopfloor.messages import SeriesDeclaration, SourceState

Step = Callable[["Scripted", BlockSink], None]


class Clock:
    """The time of sink and supervisor, which passes only by sleeping."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


class Scripted:
    """A source whose attempts do what a script says one after the other; then it runs."""

    name, protocol, assets = "imm", "test", ()

    def __init__(self, clock: Clock, script: list[Exception | Step]) -> None:
        self.clock, self.script, self.attempts_s = clock, script, list[float]()
        self.done = asyncio.Event()

    def declarations(self) -> tuple[SeriesDeclaration, ...]:
        return ()

    async def run(self, sink: BlockSink) -> Never:
        self.attempts_s.append(self.clock.now_s)
        if self.script:
            step = self.script.pop(0)
            if isinstance(step, Exception):
                raise step
            step(self, sink)
            raise SourceUnavailable("connection lost")
        sink.report(SourceState.RUNNING)
        self.done.set()
        await asyncio.Event().wait()
        raise AssertionError


def runs_for(seconds: float) -> Step:
    def step(source: Scripted, sink: BlockSink) -> None:
        sink.report(SourceState.RUNNING)
        source.clock.now_s += seconds

    return step


def connects_for(seconds: float) -> Step:
    def step(source: Scripted, _sink: BlockSink) -> None:
        source.clock.now_s += seconds

    return step


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sink_module, "time", FakeTime(clock))
    return clock


class FakeTime:
    def __init__(self, clock: Clock) -> None:
        self.monotonic = clock.monotonic

    def time_ns(self) -> int:
        return 1


def sink_of(source: Any, clock: Clock) -> SourceSink:
    sink = SourceSink(source, cast("Intake", None), "scope", {}, Counter())
    for trouble in (sink._down, sink._partly):
        trouble.now_s = clock.monotonic
    return sink


@contextlib.asynccontextmanager
async def supervised(source: Scripted, clock: Clock, backoff: Backoff) -> AsyncIterator[SourceSink]:
    """Supervise a source until its script is through."""
    sink = sink_of(source, clock)
    task = asyncio.create_task(supervise(source, sink, backoff, now_s=clock.monotonic, sleep=clock.sleep))
    try:
        async with asyncio.timeout(30):
            await source.done.wait()
        yield sink
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_whatever_a_source_raises_it_is_started_again(clock: Clock) -> None:
    source = Scripted(
        clock,
        [SourceUnavailable("gone"), SourceMisconfigured("wrong"), StoreUnavailable("full"), ZeroDivisionError("bug")],
    )  # fmt: skip
    async with supervised(source, clock, Backoff(0.5, 30.0)) as sink:
        assert len(source.attempts_s) == 5
        assert sink.now_report.state is SourceState.RUNNING
        assert sink.events == {
            ("imm", "unavailable"): 2,
            ("imm", "misconfigured"): 1,
            ("imm", "internal_error"): 1,
        }


async def test_a_source_that_just_ends_is_started_again(clock: Clock) -> None:
    class Ending(Scripted):
        async def run(self, sink: BlockSink) -> Never:
            if not self.attempts_s:
                self.attempts_s.append(clock.now_s)
                return  # type: ignore[misc]
            await super().run(sink)

    async with supervised(Ending(clock, []), clock, Backoff(0.5, 30.0)) as sink:
        assert sink.events == {("imm", "internal_error"): 1}


async def test_a_source_whose_tasks_end_one_another_is_started_again(clock: Clock) -> None:
    class Grouped(Scripted):
        async def run(self, sink: BlockSink) -> Never:
            if not self.attempts_s:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._ends_later())
            await super().run(sink)
            raise AssertionError

        async def _ends_later(self) -> None:
            self.attempts_s.append(clock.now_s)
            await asyncio.sleep(0)
            raise ZeroDivisionError

    async with supervised(Grouped(clock, []), clock, Backoff(0.5, 30.0)) as sink:
        assert sink.events == {("imm", "internal_error"): 1}


async def test_no_session_flood_reconnects_are_capped_by_backoff_with_jitter(clock: Clock) -> None:
    refused: list[Exception | Step] = [SourceUnavailable("refused")] * 200
    source = Scripted(clock, refused)
    async with supervised(source, clock, Backoff(0.5, 30.0, random.Random(7))):
        pass
    for number, pause in enumerate(clock.slept):
        step = min(30.0, 0.5 * 2**number)
        assert step / 2 <= pause <= step
    assert len(set(clock.slept[10:])) > 100, "a hundred gateways don't knock at once"


async def test_client_on_a_blackholed_network_keeps_its_backoff_however_long_an_attempt_takes(
    clock: Clock,
) -> None:
    blackholed: list[Exception | Step] = [connects_for(4 * STABLE_AFTER_S)] * 20
    async with supervised(Scripted(clock, blackholed), clock, Backoff(0.5, 30.0)):
        pass
    assert min(clock.slept[7:]) >= 15.0


async def test_a_source_that_ran_for_a_while_is_tried_again_at_once(clock: Clock) -> None:
    script: list[Exception | Step] = [*[SourceUnavailable("refused")] * 10, runs_for(2 * STABLE_AFTER_S)]
    async with supervised(Scripted(clock, script), clock, Backoff(0.5, 30.0)):
        pass
    assert clock.slept[-1] <= 0.5


async def test_a_misconfigured_source_is_tried_slowly_and_not_in_step_with_others(clock: Clock) -> None:
    wrong: list[Exception | Step] = [SourceMisconfigured("password")] * 50
    async with supervised(Scripted(clock, wrong), clock, Backoff(0.5, 30.0)):
        pass
    assert all(30.0 < pause <= 60.0 for pause in clock.slept)
    assert len(set(clock.slept)) > 40


async def test_a_failure_is_logged_once_and_its_end_once(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    flapping: list[Exception | Step] = [SourceUnavailable("no answer from 192.0.2.10"), runs_for(1.0)]
    with caplog.at_level(logging.INFO):
        async with supervised(Scripted(clock, flapping * 50), clock, Backoff(0.5, 30.0)) as sink:
            sink.settle()
            clock.now_s += 20.0
            for _ in range(3):
                sink.settle()
    first, second, last = [record.getMessage() for record in caplog.records]
    assert first == "source imm: unavailable: no answer from 192.0.2.10"
    assert second == "source imm: unavailable: connection lost"
    assert last.startswith("source imm: running again, after ")
    assert last.endswith(" and 100 failures")


async def test_a_defect_is_logged_once_with_its_trace(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    defects: list[Exception | Step] = [ZeroDivisionError("bug")] * 100
    async with supervised(Scripted(clock, defects), clock, Backoff(0.5, 30.0)):
        pass
    assert len([record for record in caplog.records if record.exc_info]) == 1


async def test_what_a_source_meets_while_it_closes_does_not_bring_it_back(clock: Clock) -> None:
    class Closing(Scripted):
        async def run(self, sink: BlockSink) -> Never:
            try:
                await super().run(sink)
            except asyncio.CancelledError as error:
                raise SourceUnavailable("the server is gone already") from error

    source = Closing(clock, [])
    sink = sink_of(source, clock)
    task = asyncio.create_task(
        supervise(source, sink, Backoff(0.5, 30.0), now_s=clock.monotonic, sleep=clock.sleep)
    )
    await source.done.wait()
    task.cancel()
    await asyncio.wait([task], timeout=30)
    assert task.cancelled()
    assert len(source.attempts_s) == 1


def test_delays_double_to_a_limit_and_never_vanish() -> None:
    backoff = Backoff(1.0, 8.0)
    delays = [backoff.next_s() for _ in range(200)]
    for delay, step in zip(delays, [1.0, 2.0, 4.0, 8.0] + [8.0] * 196, strict=True):
        assert step / 2 <= delay <= step
    backoff.reset()
    assert backoff.next_s() <= 1.0
