"""Rollups are made by whoever leads, and what fails is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ingest_service.rolling import Rolling
from shopfloor.errors import StoreUnavailable


async def run_until(rolling: Rolling, done: Callable[[], bool]) -> None:
    rolling.start()
    while not done():
        await asyncio.sleep(0)
    await rolling.stop()


async def test_whoever_does_not_lead_leaves_it_alone() -> None:
    asked = 0

    def leads() -> bool:
        nonlocal asked
        asked += 1
        return False

    async def step(_now_ns: int) -> bool:
        raise AssertionError

    await run_until(
        Rolling(step, leads=leads, clock_ns=lambda: 7, look_s=0.0),
        lambda: asked > 3,
    )


@pytest.mark.parametrize("error", [StoreUnavailable("the server is gone"), KeyError("odd")])
async def test_a_step_that_fails_is_tried_again_and_said_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    results: list[bool | Exception] = [True, error, error, False, error]
    times = []

    async def step(now_ns: int) -> bool:
        times.append(now_ns)
        result = results[len(times) - 1] if len(times) <= len(results) else False
        if isinstance(result, Exception):
            raise result
        return result

    await run_until(
        Rolling(step, leads=lambda: True, clock_ns=lambda: 7, look_s=0.0),
        lambda: len(times) > len(results),
    )
    assert set(times) == {7}
    assert [record.message.startswith("rollups by hour are not made") for record in caplog.records] == [
        True,
        True,
    ]
