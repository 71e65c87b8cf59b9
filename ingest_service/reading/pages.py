"""A large result page by page, so that it is never in memory as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ingest_service.stores import Position, Raw, SampleStore, Selector, TimeSpan

PAGE_ROWS = 1_000_000


async def pages(
    store: SampleStore,
    selector: Selector,
    span: TimeSpan,
    limit: int | None = None,
    after: Position | None = None,
) -> AsyncIterator[Raw]:
    """Yield the samples of a span in pages, at most ``limit`` samples in all; at least one page, be it empty.

    Raises:
        StoreUnavailable: the store failed, perhaps in the middle.
    """
    left = limit
    while True:
        raw = await store.read(selector, span, PAGE_ROWS if left is None else min(PAGE_ROWS, left), after)
        yield raw
        after = raw.position(after)
        if left is not None:
            left -= len(raw.block)
        if not raw.truncated or left == 0:
            return


__all__ = ["PAGE_ROWS", "pages"]
