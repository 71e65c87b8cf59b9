"""From the partial aggregates of a store to what readers ask for.

BAD samples, nulls and texts take part in no aggregate; BAD ones are counted in ``bad``. UNCERTAIN ones take part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ingest_service.reading.question import Unanswerable
from ingest_service.stores import Buckets, Raw
from ingest_service.stores.buckets import rises, seconds_between
from shopfloor.block import Float64, Int64

AGGREGATES: Final = (
    "count",
    "bad",
    "min",
    "max",
    "mean",
    "first",
    "last",
    "sum",
    "time_weighted_mean",
    "increase",
)
USUAL: Final = ("count", "min", "max", "mean", "first", "last")
"""What is given where nothing is asked for."""
_NEED_BEFORE: Final = frozenset({"time_weighted_mean", "increase"})
BEFORE_NS: Final = 86_400 * 1_000_000_000
"""How far back the value that holds at the begin of a span is looked for."""
HOLD_NS: Final = 3_600 * 1_000_000_000
"""How long a value is taken to hold where nothing newer came: silence is not a measurement."""


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """Check names of aggregates, given one by one or joined by commas.

    Raises:
        Unanswerable: one is unknown.
    """
    wanted = tuple(dict.fromkeys(name.strip() for text in names for name in text.split(",") if name.strip()))
    for name in wanted:
        if name not in AGGREGATES:
            raise Unanswerable(f"aggregate: {name[:40]!r} is none of {', '.join(AGGREGATES)}")
    return wanted or USUAL


def needs_before(names: Sequence[str]) -> bool:
    """Tell whether what came before the first bucket matters."""
    return not _NEED_BEFORE.isdisjoint(names)


def columns_of(
    buckets: Buckets,
    names: Sequence[str],
    before: Raw | None = None,
    *,
    now_ns: int = 2**63 - 1,
    hold_ns: int = HOLD_NS,
) -> dict[str, npt.NDArray[np.int64] | Float64]:
    """Return a column of ``n`` values for each name, NaN where a bucket has no usable sample.

    Args:
        buckets: n partials, sorted by series and time.
        names: of AGGREGATES.
        before: the newest usable sample of each series before the grid; None where there is none, or it does not matter.
        now_ns: no value is taken to hold beyond it, UTC ns.
        hold_ns: how long a value holds at most where nothing newer came, for ``time_weighted_mean``.
    """
    partials = buckets.partials
    simple: dict[str, npt.NDArray[np.int64] | Float64] = {
        "count": partials.count,
        "bad": partials.bad,
        "min": partials.minimum,
        "max": partials.maximum,
        "mean": partials.mean,
        "first": partials.first,
        "last": partials.last,
        "sum": partials.sum,
    }
    found: dict[str, npt.NDArray[np.int64] | Float64] = {}
    carried = _carried(buckets, before) if needs_before(names) else None
    for name in names:
        if name == "time_weighted_mean":
            assert carried is not None
            found[name] = _time_weighted(buckets, *carried, now_ns, hold_ns)
        elif name == "increase":
            assert carried is not None
            found[name] = _increase(buckets, *carried)
        else:
            found[name] = simple[name]
    return found


def _carried(buckets: Buckets, before: Raw | None) -> tuple[Float64, Int64]:
    """Return the value that each bucket begins with, NaN where none is known, and since when it holds."""
    partials, index = buckets.partials, buckets.series_index
    known, known_time = np.full(len(buckets.series), np.nan), np.zeros(len(buckets.series), np.int64)
    if before is not None:
        place = {one.key: number for number, one in enumerate(buckets.series)}
        for row, of_series in enumerate(before.block.series_index.tolist()):
            number = place.get(before.series[of_series].key)
            if number is not None:
                known[number] = before.block.value[row]
                known_time[number] = before.block.source_time[row]
    value, time = known[index], known_time[index]
    usable = np.flatnonzero(partials.count)
    if len(usable):
        # The nearest bucket with a usable sample before each one; it counts where it is of the same series.
        at = np.searchsorted(usable, np.arange(len(partials)), side="left") - 1
        previous = usable[np.maximum(at, 0)]
        follows = (at >= 0) & (index[previous] == index)
        value[follows], time[follows] = (
            partials.last[previous[follows]],
            partials.last_time[previous[follows]],
        )
    return value, time


def _time_weighted(buckets: Buckets, value: Float64, since: Int64, now_ns: int, hold_ns: int) -> Float64:
    partials = buckets.partials
    start, end = buckets.start, buckets.grid.edges[buckets.bucket + 1]
    usable = partials.count > 0
    first, last = partials.first_time, partials.last_time
    # From the begin of the bucket, as far as the value before it holds, until the first sample.
    lead_from = np.maximum(start, since)
    lead_to = np.minimum(first, _later(since, hold_ns))
    lead = np.where(
        np.isnan(value) | (lead_to <= lead_from),
        0.0,
        seconds_between(lead_from, np.maximum(lead_from, lead_to)),
    )
    tail_to = np.minimum(np.minimum(end, now_ns), _later(last, hold_ns))
    tail = np.where(tail_to <= last, 0.0, seconds_between(last, np.maximum(last, tail_to)))
    weight = lead + seconds_between(first, last) + tail
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        area = np.where(lead > 0, value * lead, 0.0) + partials.area + partials.last * tail
        # A sample at the very end of what is known has no time to weigh.
        mean = np.where(weight > 0, area / weight, partials.last)
    found: Float64 = np.where(usable, mean, np.nan)
    return found


def _increase(buckets: Buckets, value: Float64, _since: Int64) -> Float64:
    partials = buckets.partials
    with np.errstate(invalid="ignore", over="ignore"):
        seam = np.where(np.isnan(value), 0.0, rises(value, partials.first))
        increase: Float64 = partials.increase + seam
    return increase


def _later(times: Int64, by_ns: int) -> Int64:
    """Add without running over the end of int64."""
    later: Int64 = np.where(times > 2**63 - 1 - by_ns, 2**63 - 1, times + by_ns)
    return later


__all__ = ["AGGREGATES", "BEFORE_NS", "HOLD_NS", "USUAL", "chosen", "columns_of", "needs_before"]
