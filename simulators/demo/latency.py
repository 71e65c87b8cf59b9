"""How long a value takes from the machine to a page: measured by a subscriber, as a browser would be."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from shopfloor.block import Float64, Int64, SampleBlock
from shopfloor.signal import SeriesKey


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """What a subscriber saw: ``n`` events in order of their arrival."""

    series: tuple[SeriesKey, ...]
    series_index: Int64
    """For each event the position of its series in ``series``."""
    time_ms: Int64
    """The value's time, UTC ms, as the event states it."""
    arrival_ns: Int64
    """When the event came, UTC ns."""


@dataclass(frozen=True, slots=True)
class Latency:
    """The distribution over all live emissions; None where nothing was seen."""

    p50_ms: float | None
    p99_ms: float | None
    seen: int
    unseen: int
    """Emissions that no later event covers: the subscriber never saw the series at that time or after it."""


def measure(emitted: SampleBlock, arrivals: Arrivals, untimed: Collection[SeriesKey] = ()) -> Latency:
    """Return how long after its source time each emission was on a page.

    A page gets the newest value of a series, not all of them: an emission has arrived with the first event of its
    series whose time is not before its own. Series whose messages carry no time (``untimed``) are left out: the time
    of their emissions is not that of their events.
    """
    position = {key: number for number, key in enumerate(arrivals.series)}
    order = np.argsort(arrivals.series_index, kind="stable")
    bounds = np.searchsorted(arrivals.series_index[order], np.arange(len(position) + 1))
    found: list[Float64] = []
    judged = 0
    for index, key in enumerate(emitted.series):
        if key in untimed:
            continue
        times_ns = emitted.source_time[emitted.series_index == index]
        judged += len(times_ns)
        number = position.get(key)
        if number is None:
            continue
        events = order[bounds[number] : bounds[number + 1]]
        newest_ms = np.maximum.accumulate(arrivals.time_ms[events])
        first = np.searchsorted(newest_ms, times_ns // 1_000_000, side="left")
        seen = first < len(events)
        found.append((arrivals.arrival_ns[events[first[seen]]] - times_ns[seen]) / 1e6)
    return _summary(found, judged)


def _summary(found: Sequence[Float64], emitted: int) -> Latency:
    all_ms = np.concatenate(found) if found else np.empty(0)
    if not len(all_ms):
        return Latency(None, None, 0, emitted)
    p50_ms, p99_ms = np.percentile(all_ms, [50, 99]).tolist()
    return Latency(round(p50_ms, 1), round(p99_ms, 1), len(all_ms), emitted - len(all_ms))
