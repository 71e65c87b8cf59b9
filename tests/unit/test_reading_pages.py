"""Pages of a large result: each sample once, and no page with more text than it should hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ingest_service.reading import pages as module
from ingest_service.reading.pages import pages
from ingest_service.stores import Position, Raw, Selector, SeriesInfo, TimeSpan
from shopfloor.asset import parse_asset
from shopfloor.block import make_block
from shopfloor.signal import SeriesKey

KEY = SeriesKey(parse_asset("acme/hk01/m"), "note")


class Texts:
    """A store of ``count`` samples; those from ``long_from`` on have texts of 1,000 characters."""

    def __init__(self, count: int, long_from: int) -> None:
        self._count, self._long_from = count, long_from
        self.asked: list[int] = []

    async def read(
        self, _selector: Selector, _span: TimeSpan, limit: int, after: Position | None = None
    ) -> Raw:
        self.asked.append(limit)
        start = 0 if after is None else after.source_time + 1
        rows = np.arange(start, min(self._count, start + limit))
        text = {row: "x" * 1000 for row, number in enumerate(rows.tolist()) if number >= self._long_from}
        value = np.where(rows >= self._long_from, np.nan, 1.0)
        block = make_block((KEY,), np.zeros(len(rows), np.int64), rows, rows, value, text=text)
        return Raw((SeriesInfo(1, KEY),), block, truncated=start + limit < self._count)


async def read_all(store: Any, limit: int | None = None) -> list[int]:
    found: list[int] = []
    async for raw in pages(store, Selector(), TimeSpan(0, 2**62), limit):
        found += raw.block.source_time.tolist()
    return found


async def test_pages_grow_while_texts_are_short_and_shrink_where_they_are_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_FIRST_ROWS", 10)
    monkeypatch.setattr(module, "_PAGE_TEXT_BYTES", 50_000)
    store = Texts(2_000, long_from=650)
    assert await read_all(store) == list(range(2_000))
    assert store.asked[:3] == [10, 80, 640]
    # The page that met the long texts was asked for before; those behind it hold what they may.
    assert set(store.asked[4:]) <= set(range(40, 641))
    assert store.asked[-1] == 50


@pytest.mark.parametrize("limit", [1, 9, 10, 11, 90, 91, 5_000])
async def test_a_limit_is_kept(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(module, "_FIRST_ROWS", 10)
    assert await read_all(Texts(500, long_from=500), limit) == list(range(min(500, limit)))


async def test_nothing_is_one_empty_page() -> None:
    assert await read_all(Texts(0, long_from=0)) == []
