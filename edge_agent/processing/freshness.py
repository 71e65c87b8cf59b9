"""How fresh each series with a limit is: a verdict that is a signal of its own, written when it changes.

- ``fresh``: a reading came within the limit.
- ``unchanged``: none did, but the last one was not BAD, came since the source runs, and the source confirmed within
  the limit that it would have reported a change.
- ``stale``: neither a reading nor a confirmation within the limit.
- ``disconnected``: the source does not run.

Ages are measured by a monotonic clock, so that a step of the wall clock changes no verdict. A verdict that goes by age
is given at the next look after the limit (the agent looks every second); its time is when that look was.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import IntEnum
from functools import partial
from typing import Final

import numpy as np

from edge_agent.processing.config import FRESHNESS
from edge_agent.processing.records import Mask
from edge_agent.processing.step import NOTHING, Step
from shopfloor.block import Int64, Quality, SampleBlock, UInt8, make_block
from shopfloor.errors import InvalidName
from shopfloor.signal import SeriesKey, parse_signal

_log = logging.getLogger(__name__)

_NEVER: Final = -(2**62)


class Verdict(IntEnum):
    """What is known of a series; the names in lower case are the texts of its samples."""

    UNKNOWN = 0
    FRESH = 1
    UNCHANGED = 2
    STALE = 3
    DISCONNECTED = 4


class Freshness:
    """The verdicts of all series with a limit."""

    def __init__(self, *, confirms_while_running: bool) -> None:
        """Begin without series.

        Args:
            confirms_while_running: whether the protocol reports by exception and announces every death, so that a
                source that runs confirms all that it said.
        """
        self._always = confirms_while_running
        self._series: list[SeriesKey] = []
        self._verdict_series: tuple[SeriesKey, ...] = ()
        self._limit_ns = np.zeros(0, dtype=np.int64)
        self._read_ns = np.zeros(0, dtype=np.int64)
        self._holds = np.zeros(0, dtype=np.bool_)
        """Whether the last reading says what is confirmed: not BAD, and of this run of the source."""
        self._verdict = np.zeros(0, dtype=np.uint8)
        self._confirmed_ns = _NEVER

    def register(self, limits: Mapping[SeriesKey, float]) -> list[int]:
        """Return the numbers of series that have not been seen before; -1 where a verdict can have no name.

        Args:
            limits: series to limit in seconds.
        """
        numbers: list[int] = []
        for key in limits:
            try:
                parse_signal(f"{key.signal}.{FRESHNESS}")
            except InvalidName as error:
                _log.warning("%s gets no verdict: %s", key, error)
                numbers.append(-1)
                continue
            numbers.append(len(self._series))
            self._series.append(key)
        count = len(self._series) - len(self._limit_ns)
        named = [limit_s for limit_s, number in zip(limits.values(), numbers, strict=True) if number >= 0]
        self._limit_ns = np.append(self._limit_ns, np.round(np.array(named) * 1e9).astype(np.int64))
        self._read_ns = np.append(self._read_ns, np.full(count, _NEVER))
        self._holds = np.append(self._holds, np.zeros(count, dtype=np.bool_))
        self._verdict = np.append(self._verdict, np.full(count, Verdict.UNKNOWN, dtype=np.uint8))
        return numbers

    def read(self, block: SampleBlock, numbers: Int64, wall_ns: int, now_ns: int) -> Step:
        """Take note of readings; ``numbers`` int64[n] is what `register` returned for each row's series, else -1."""
        rows = np.flatnonzero(numbers >= 0)
        if not len(rows):
            return Step(NOTHING)
        mine = numbers[rows]
        before = self._read_ns[mine], self._holds[mine]
        self._read_ns[mine] = now_ns
        self._holds[mine] = block.quality[rows] != Quality.BAD
        changed = np.unique(mine[self._verdict[mine] != Verdict.FRESH])
        step = self._change(changed, np.full(len(changed), Verdict.FRESH, dtype=np.uint8), wall_ns)
        step.back.append(partial(self._go_back, mine, *before))
        return step

    def confirm(self, now_ns: int) -> None:
        """Take note that the source would have reported any change."""
        self._confirmed_ns = now_ns

    def interrupt(self) -> None:
        """Take note that the source stopped: what it said before is confirmed by nothing that it says later."""
        self._holds[:] = False

    def look(self, wall_ns: int, now_ns: int, *, running: bool) -> Step:
        """Give the verdicts of now."""
        if not len(self._series):
            return Step(NOTHING)
        if running and self._always:
            self._confirmed_ns = now_ns
        since = now_ns - self._limit_ns
        verdict = np.where(
            self._read_ns >= since,
            np.uint8(Verdict.FRESH),
            np.where(
                self._holds & (self._confirmed_ns >= since),
                np.uint8(Verdict.UNCHANGED),
                np.uint8(Verdict.STALE),
            ),
        )
        if not running:
            verdict[:] = Verdict.DISCONNECTED
        changed = np.flatnonzero(verdict != self._verdict)
        return self._change(changed, verdict[changed], wall_ns)

    def verdicts(self) -> dict[SeriesKey, Verdict]:
        """Return the last verdict of every series."""
        return dict(zip(self._series, map(Verdict, self._verdict.tolist()), strict=True))

    def _change(self, numbers: Int64, verdict: UInt8, wall_ns: int) -> Step:
        if not len(numbers):
            return Step(NOTHING)
        before = self._verdict[numbers]
        self._verdict[numbers] = verdict
        texts = [Verdict(code).name.lower() for code in verdict.tolist()]
        block = make_block(self._names(), numbers, wall_ns, wall_ns, np.nan, text=dict(enumerate(texts)))
        return Step(block, back=[partial(self._set_verdict, numbers, before)])

    def _names(self) -> tuple[SeriesKey, ...]:
        if len(self._verdict_series) < len(self._series):
            self._verdict_series = tuple(
                SeriesKey(key.asset, f"{key.signal}.{FRESHNESS}") for key in self._series
            )
        return self._verdict_series

    def _set_verdict(self, numbers: Int64, verdict: UInt8) -> None:
        self._verdict[numbers] = verdict

    def _go_back(self, numbers: Int64, read_ns: Int64, holds: Mask) -> None:
        self._read_ns[numbers], self._holds[numbers] = read_ns, holds
