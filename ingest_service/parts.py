"""Good parts since local midnight, kept up to date from every stored counter sample, late ones included."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from typing import Final, NamedTuple

import numpy as np

from ingest_service.facts.counters import increase, keys_at
from ingest_service.stores import Committed
from ingest_service.stores.series import SeriesIndex
from shopfloor.block import Quality
from shopfloor.signal import GOOD_PARTS_COUNTER, JOB_NAME

WATCHED: Final = frozenset({GOOD_PARTS_COUNTER, JOB_NAME})
_MAX_CHANGES: Final = 100_000
_MAX_WAITING: Final = 10_000


def midnight_ns(now_ns: int, zone: zoneinfo.ZoneInfo) -> int:
    """Return the UTC ns at which the local day of ``now_ns`` began."""
    local = dt.datetime.fromtimestamp(now_ns / 1e9, zone)
    begin = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return round(begin.timestamp()) * 1_000_000_000


class CounterSample(NamedTuple):
    """One sample of a watched series."""

    series_id: int
    source_time: int
    value: float
    text: str | None


class Watch:
    """A commit listener that picks out the samples of watched series; they are rare among all.

    It looks at every sample and not at the newest of each tick: between two ticks a counter may rise and be reset.
    """

    def __init__(self, series: SeriesIndex) -> None:
        self._series = series
        self._watched = np.zeros(1, np.bool_)
        self._found: deque[list[CounterSample]] = deque(maxlen=_MAX_WAITING)

    def __call__(self, rows: Committed) -> None:
        """Take committed rows; runs on the store's thread, which has numbered their series already."""
        known = len(self._series)
        if len(self._watched) <= known:
            fresh = self._series.keys[len(self._watched) - 1 : known]
            more = np.array([key.signal in WATCHED for key in fresh], np.bool_)
            self._watched = np.concatenate([self._watched, more])
        hits = np.flatnonzero(self._watched[rows.series_id] & (rows.quality < Quality.BAD))
        if len(hits):
            columns = zip(
                hits.tolist(),
                rows.series_id[hits].tolist(),
                rows.source_time[hits].tolist(),
                rows.value[hits].tolist(),
                strict=True,
            )
            self._found.append(
                [
                    CounterSample(number, time, value, rows.text.get(row))
                    for row, number, time, value in columns
                ]
            )

    def drain(self) -> list[CounterSample]:
        """Return what was found since the last call."""
        found: list[CounterSample] = []
        while self._found:
            found.extend(self._found.popleft())
        return found


class PartsToday:
    """One machine's counter: its changes since midnight, the last one before it, and the jobs' names."""

    def __init__(self) -> None:
        self._time = array("q")
        self._value = array("d")
        self._job_time = array("q")
        self._job_key = array("q")
        self._names: dict[str, int] = {}
        self._since = -(2**63)
        self._folded_until = -(2**63)
        self._folded = 0.0

    def add(self, time: int, value: float) -> None:
        """Take a counter sample, in any order; nulls are left out."""
        if value != value or time < self._folded_until:  # noqa: PLR0124 - the test for NaN
            return
        times, values = self._time, self._value
        if not times or time > times[-1]:
            if len(values) > 1 and value == values[-1] == values[-2]:
                # Of a run of equal values its ends are enough, also for samples that arrive late between them.
                times[-1] = time
            else:
                times.append(time)
                values.append(value)
        else:
            place = bisect_left(times, time)
            if times[place] == time:
                values[place] = value
            else:
                times.insert(place, time)
                values.insert(place, value)
        if len(times) > _MAX_CHANGES:
            self._fold()

    def add_job(self, time: int, name: str) -> None:
        """Take a job's name, in any order."""
        if len(self._names) > _MAX_CHANGES:
            self._names.clear()
        key = self._names.setdefault(name, len(self._names))
        place = bisect_right(self._job_time, time)
        if place and self._job_key[place - 1] == key:
            return
        self._job_time.insert(place, time)
        self._job_key.insert(place, key)

    def total(self, since: int) -> int:
        """Return the good parts at and after ``since`` (UTC ns), which only ever moves forward."""
        if since != self._since:
            self._forget(since)
        return round(self._folded + self._count(len(self._time)))

    def _count(self, through: int) -> float:
        time = np.array(self._time[:through], dtype=np.int64)
        value = np.array(self._value[:through], dtype=np.float64)
        key = keys_at(time, np.array(self._job_time, np.int64), np.array(self._job_key, np.int64))
        return increase(time, value, since=max(self._since, self._folded_until), key=key).total

    def _forget(self, since: int) -> None:
        """Begin a new day: keep the last sample before it, where counting starts."""
        self._since = since
        self._folded, self._folded_until = 0.0, -(2**63)
        cut = max(0, bisect_left(self._time, since) - 1)
        del self._time[:cut], self._value[:cut]
        cut = max(0, bisect_right(self._job_time, since) - 2)
        del self._job_time[:cut], self._job_key[:cut]

    def _fold(self) -> None:
        """Bound the memory: what the first half adds up to becomes a number, and no late sample changes it."""
        half = len(self._time) // 2
        self._folded += self._count(half)
        self._folded_until = self._time[half]
        del self._time[: half - 1], self._value[: half - 1]
