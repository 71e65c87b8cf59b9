"""Whether the agent notices that it does not answer itself any more."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from edge_agent import pulse as pulse_module
from edge_agent.intake import BufferThread
from edge_agent.pulse import Pulse


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


async def test_what_does_not_answer_is_named_and_well_again_when_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulse_module, "_INTERVAL_S", 0.001)
    clock, held = Clock(), threading.Event()
    with ThreadPoolExecutor(1) as executor:
        pulse = Pulse(BufferThread(cast("Any", None), executor), now_s=clock)
        clock.now_s += 61
        assert len(pulse.stuck()) == 2, "neither has been felt yet"
        running = asyncio.create_task(pulse.run())
        await until(lambda: pulse.is_well(1.0))
        # A disk that hangs holds up the buffer's thread, not the event loop.
        executor.submit(held.wait, 60)
        asked = executor.submit(lambda: None)
        async with asyncio.timeout(30):
            # What it had been asked before may still come back once.
            while [each.partition(" has")[0] for each in pulse.stuck()] != ["the buffer's thread"]:
                clock.now_s += 61
                await asyncio.sleep(0.02)
        assert not pulse.is_well(60.0)
        assert not asked.done()
        held.set()
        await until(lambda: pulse.is_well(1.0))
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_an_event_loop_that_hangs_is_seen_from_another_thread() -> None:
    clock = Clock()
    pulse = Pulse(BufferThread(cast("Any", None), cast("Any", None)), now_s=clock)
    clock.now_s += 61.4
    assert pulse.stuck() == (
        "the event loop has not answered for 61 s",
        "the buffer's thread has not answered for 61 s",
    )
