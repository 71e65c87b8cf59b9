"""Keeps sources running: the only place that retries them, and the only one that catches everything."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, Never

from edge_agent.backoff import Backoff
from edge_agent.sources import BlockSink, Source
from shopfloor.errors import SourceMisconfigured, SourceUnavailable, StoreUnavailable
from shopfloor.messages import SourceState

log = logging.getLogger(__name__)

STABLE_AFTER_S: Final = 10.0
"""A source that ran this long begins its backoff anew."""
MISCONFIGURED_RETRY_S: Final = 30.0


async def supervise(source: Source, sink: BlockSink, backoff: Backoff) -> Never:
    """Run a source for ever, starting it again with backoff and jitter after whatever it raises."""
    while True:
        sink.report(SourceState.CONNECTING)
        started = time.monotonic()
        try:
            await source.run(sink)
        except SourceMisconfigured as error:
            sink.report(SourceState.MISCONFIGURED, str(error))
            sink.count("misconfigured")
            await asyncio.sleep(max(MISCONFIGURED_RETRY_S, backoff.next_s()))
            continue
        except (SourceUnavailable, StoreUnavailable) as error:
            sink.report(SourceState.UNAVAILABLE, str(error))
            sink.count("unavailable")
        except Exception as error:
            # A defect in one source must not stop the others.
            log.exception("source %s failed in a way that it should not", source.name)
            sink.report(SourceState.UNAVAILABLE, f"internal error: {type(error).__name__}: {error}")
            sink.count("internal_error")
        if time.monotonic() - started > STABLE_AFTER_S:
            backoff.reset()
        await asyncio.sleep(backoff.next_s())
