"""Which samples of a batch must not be stored, and why: pure functions of columns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from ingest_service.stores import NOTHING_REFUSED, Refused
from shopfloor.block import Int64, SampleBlock
from shopfloor.signal import SeriesKey

EARLIEST_NS: Final = 631_152_000_000_000_000
"""1990-01-01: no machine that we read has measured before."""
LATEST_AHEAD_NS: Final = 10 * 366 * 86_400 * 1_000_000_000
"""Further ahead is a broken clock beyond use; less is kept, and the edge marked it UNCERTAIN."""
_REMEMBERED_VERDICTS: Final = 4096

# In the order of precedence: a row has one reason.
OUTSIDE_SCOPE: Final = "outside_scope"
TOO_MANY_SERIES: Final = "too_many_series"
IMPLAUSIBLE_TIME: Final = "implausible_time"
INFINITE: Final = "infinite"
REFUSED_BEFORE: Final = "refused_before"
"""It lies in quarantine since an attempt that failed behind it; the row there has the reason."""
REASONS: Final = (OUTSIDE_SCOPE, TOO_MANY_SERIES, IMPLAUSIBLE_TIME, INFINITE)


class Verdicts:
    """Which series of a table a token may write, remembered by the table's identity."""

    def __init__(self) -> None:
        self._known: OrderedDict[
            tuple[str, int], tuple[tuple[SeriesKey, ...], npt.NDArray[np.bool_] | None]
        ] = OrderedDict()

    def outside(self, asset: str, series: tuple[SeriesKey, ...]) -> npt.NDArray[np.bool_] | None:
        """Return bool[len(series)], True for a series outside of ``asset``; None where all are inside."""
        place = (asset, id(series))
        known = self._known.get(place)
        if known is not None:
            return known[1]
        inside = asset + "/"
        mask = np.array([key.asset != asset and not key.asset.startswith(inside) for key in series], np.bool_)
        verdict = mask if mask.any() and asset else None
        # The tuple is kept beside the verdict: its identity must not be used again for another one.
        self._known[place] = (series, verdict)
        while len(self._known) > _REMEMBERED_VERDICTS:
            self._known.popitem(last=False)
        return verdict


def examine(
    block: SampleBlock,
    now_ns: int,
    outside: npt.NDArray[np.bool_] | None = None,
    too_many: npt.NDArray[np.bool_] | None = None,
) -> Refused:
    """Return the rows that must not be stored, each with the first reason that applies.

    Args:
        block: what an agent sent.
        now_ns: UTC ns.
        outside: bool[series], True where the token may not write.
        too_many: bool[series], True where the store takes no further series.
    """
    source = block.source_time
    n = len(source)
    if n == 0:
        return NOTHING_REFUSED
    verdict = np.full(n, len(REASONS), np.uint8)
    # Least important first: what comes later overwrites.
    masks = (
        None if not np.isinf(block.value).any() else np.isinf(block.value),
        _implausible(source, now_ns),
        None if too_many is None else too_many[block.series_index],
        None if outside is None else outside[block.series_index],
    )
    found = False
    for number, mask in zip(reversed(range(len(REASONS))), masks, strict=True):
        if mask is not None:
            verdict[mask] = number
            found = True
    if not found:
        return NOTHING_REFUSED
    rows = np.flatnonzero(verdict < len(REASONS))
    return Refused(rows, verdict[rows], REASONS) if len(rows) else NOTHING_REFUSED


def also_refused(refused: Refused, rows: Int64, reason: str) -> Refused:
    """Return what is refused with further ``rows`` (int64[k], ascending), which keep an earlier reason if they have one."""
    more = np.setdiff1d(rows, refused.rows, assume_unique=True)
    if not len(more):
        return refused
    every = np.concatenate([refused.rows, more])
    index = np.concatenate([refused.reason_index, np.full(len(more), len(refused.reasons), np.uint8)])
    order = np.argsort(every)
    return Refused(every[order], index[order], (*refused.reasons, reason))


def _implausible(source: npt.NDArray[np.int64], now_ns: int) -> npt.NDArray[np.bool_] | None:
    latest = now_ns + LATEST_AHEAD_NS
    if source.min() >= EARLIEST_NS and source.max() <= latest:
        return None
    return (source < EARLIEST_NS) | (source > latest)


def uncovered(missing: tuple[int, int], spans: Iterable[tuple[int, int]]) -> int:
    """Return how many of the numbers from ``missing[0]`` to ``missing[1]`` no span (first, last) covers.

    ``spans`` ascend by their first number; they may overlap.
    """
    at, last = missing
    left = 0
    for first, through in spans:
        if through < at:
            continue
        if first > last:
            break
        left += max(0, first - at)
        at = max(at, through + 1)
    return left + max(0, last - at + 1)
