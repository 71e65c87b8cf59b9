"""A change of the uplink while the agent is told to stop."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from edge_agent.link import Link


async def test_who_waits_for_the_old_tasks_can_still_be_told_to_stop() -> None:
    may_end = asyncio.Event()

    async def reluctant() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3_600)
        await may_end.wait()

    old = asyncio.create_task(reluctant())
    await asyncio.sleep(0)
    link = Link.__new__(Link)
    link._tasks = [old]
    pausing = asyncio.create_task(link._pause())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    pausing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pausing
    may_end.set()
    await old
