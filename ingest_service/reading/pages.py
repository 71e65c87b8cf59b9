"""A large result page by page, so that it is never in memory as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ingest_service.stores import Position, Raw, SampleStore, Selector, TimeSpan

PAGE_ROWS = 1_000_000
_FIRST_ROWS = 50_000
_PAGE_TEXT_BYTES = 64 * 2**20
"""Texts may be long: a page has only as many rows as, by those of the page before, should hold about so much."""


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
    rows = min(_FIRST_ROWS, PAGE_ROWS)
    while True:
        raw = await store.read(selector, span, rows if left is None else min(rows, left), after)
        yield raw
        texts = sum(map(len, raw.block.text.values()))
        rows = max(1, min(PAGE_ROWS, 8 * rows, _PAGE_TEXT_BYTES * max(1, len(raw.block)) // max(1, texts)))
        after = raw.position(after)
        if left is not None:
            left -= len(raw.block)
        if not raw.truncated or left == 0:
            return


__all__ = ["PAGE_ROWS", "pages"]
