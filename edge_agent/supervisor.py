"""Keeps sources running: the only place that retries them, and the only one that catches everything."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Never, Protocol

from edge_agent.backoff import Backoff
from edge_agent.sources import BlockSink, Source
from edge_agent.trouble import Trouble
from shopfloor.errors import SourceMisconfigured, SourceUnavailable, StoreUnavailable
from shopfloor.messages import SourceState

log = logging.getLogger(__name__)

STABLE_AFTER_S: Final = 10.0
"""A source that has been RUNNING this long begins its backoff anew; the time that a connection took does not count."""
MISCONFIGURED_RETRY_S: Final = 30.0


class SupervisedSink(BlockSink, Protocol):
    """A BlockSink that knows how its source is doing."""

    @property
    def running_since_s(self) -> float | None:
        """Since when the source is RUNNING, on the supervisor's clock; None while it is not."""
        ...


async def supervise(
    source: Source,
    sink: SupervisedSink,
    backoff: Backoff,
    *,
    now_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Never:
    """Run a source until cancelled, starting it again with backoff and jitter after whatever it raises."""
    defects = Trouble(log, f"source {source.name}", {"source": source.name}, now_s)
    while True:
        sink.report(SourceState.CONNECTING)
        extra_s = 0.0
        state, message, event = SourceState.UNAVAILABLE, "it ended without saying why", "internal_error"
        try:
            # In a task of its own: before Python 3.13 a TaskGroup that waits for its tasks leaves its task "cancelling"
            # when one of them fails, and this one would end with its first lost connection.
            await asyncio.create_task(source.run(sink), name=f"source {source.name} running")
        except SourceMisconfigured as error:
            state, message, event = SourceState.MISCONFIGURED, str(error), "misconfigured"
            extra_s = MISCONFIGURED_RETRY_S
        except (SourceUnavailable, StoreUnavailable) as error:
            message, event = str(error), "unavailable"
        except Exception as error:  # noqa: BLE001  a defect in one source must not stop the others
            message = f"internal error: {type(error).__name__}: {error}"
            defects.met(f"failed in a way that it should not: {message}", level=logging.ERROR, cause=error)
        if (task := asyncio.current_task()) is not None and task.cancelling():
            # What it met while it closed its connection must not bring it back to life.
            raise asyncio.CancelledError
        since_s = sink.running_since_s
        if since_s is not None and now_s() - since_s > STABLE_AFTER_S:
            backoff.reset()
            defects.over("ran again")
        sink.report(state, message)
        sink.count(event)
        await sleep(extra_s + backoff.next_s())
