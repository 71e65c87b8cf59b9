"""Which hot rows a question is about: by the bounds of a frame, by the series of its rows, by their times."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ingest_service.stores.duckdb_rows import Rows
from ingest_service.stores.shapes import TimeSpan
from shopfloor.block import UInt32

ALWAYS: Final = TimeSpan(-(2**63), 2**63 - 1)
_FEW_SERIES: Final = 4


class Wanted:
    """Rows of some series (None for all) in a span of source time."""

    def __init__(self, ids: UInt32 | None, span: TimeSpan) -> None:
        self._ids = ids
        self._span = span
        self._low = int(ids.min(initial=2**32 - 1)) if ids is not None else 0
        self._high = int(ids.max(initial=0)) if ids is not None else 2**32 - 1
        self._mask: npt.NDArray[np.bool_] | None = None
        if ids is not None and len(ids) > _FEW_SERIES:
            self._mask = np.zeros(self._high + 2, np.bool_)
            self._mask[ids] = True

    def may_be_in(self, first_time: int, last_time: int, lowest_id: int, highest_id: int) -> bool:
        """Tell whether rows with such bounds need to be looked at."""
        span = self._span
        return (
            last_time >= span.from_ns
            and (first_time < span.to_ns or span == ALWAYS)
            and lowest_id <= self._high
            and highest_id >= self._low
        )

    def of_series(self, series_id: UInt32) -> npt.NDArray[np.bool_] | None:
        """Return bool[n]: which rows are of the series asked for; None for all."""
        if self._ids is None:
            return None
        if self._mask is not None:
            found: npt.NDArray[np.bool_] = self._mask[np.minimum(series_id, self._high + 1)]
            return found
        found = np.zeros(len(series_id), np.bool_)
        for number in self._ids.tolist():
            found |= series_id == number
        return found

    def select(self, rows: Rows, found: npt.NDArray[np.bool_] | None) -> Rows:
        """Return those of the span among rows of which ``found`` are of the series asked for."""
        span = self._span
        if span != ALWAYS and rows.n:
            inside = (rows.source_time >= span.from_ns) & (rows.source_time < span.to_ns)
            found = inside if found is None else found & inside
        if found is None:
            return rows
        return rows.take(np.flatnonzero(found))
