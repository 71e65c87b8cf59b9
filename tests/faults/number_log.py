"""The log of a machine whose values are numbered: what it is about to say stands here before anybody can hear it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

ROW: Final = np.dtype([("series", "<u4"), ("number", "<u4"), ("source_time", "<i8"), ("monotonic", "<i8")])
"""Series within the machine, number from 1 on, UTC ns by the machine's own clock, ns of the computer's monotonic clock,
which nobody can step."""
Rows = npt.NDArray[np.void]
GO: Final = "go"
"""The file in the folder of all machines that lets them speak."""


def read_numbers(path: Path) -> Rows:
    """Return all rows; none where the machine never spoke. A row that a kill has cut off was never said."""
    data = path.read_bytes() if path.exists() else b""
    return np.frombuffer(data[: len(data) // ROW.itemsize * ROW.itemsize], ROW)


class NumberLog:
    """The log of one machine, which goes on counting where its last life ended.

    A SIGKILL loses nothing that was written: it is in the kernel's hands. (A power cut is another test's matter.)
    """

    def __init__(self, path: Path) -> None:
        self.past: Rows = read_numbers(path)
        self._last: dict[int, int] = {}
        for series, number in zip(self.past["series"].tolist(), self.past["number"].tolist(), strict=True):
            self._last[series] = number
        self._times = set(self.past["source_time"].tolist())
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._file, len(self.past) * ROW.itemsize)

    def say(self, series: Sequence[int]) -> Rows:
        """Give each series its next number, all of them at one new time, and log that; then it may be exposed.

        Times are whole microseconds, and none is given twice, whatever becomes of the clock.
        """
        source_time = time.time_ns() // 1000 * 1000
        while source_time in self._times:
            source_time += 1000
        self._times.add(source_time)
        rows = np.zeros(len(series), ROW)
        for row, one in zip(rows, series, strict=True):
            self._last[one] = number = self._last.get(one, 0) + 1
            row["series"], row["number"] = one, number
        rows["source_time"], rows["monotonic"] = source_time, time.monotonic_ns()
        os.write(self._file, rows.tobytes())
        return rows

    def close(self) -> None:
        """Let the file go."""
        os.close(self._file)


class Pace:
    """So many times a second, without catching up on what was missed."""

    def __init__(self, rate_hz: float) -> None:
        self._period_s = 1.0 / rate_hz
        self._next_s = time.monotonic()

    def wait_s(self) -> float:
        """Return how long to wait until the next turn."""
        now_s = time.monotonic()
        self._next_s = max(self._next_s + self._period_s, now_s)
        return self._next_s - now_s


def last_values(past: Rows) -> dict[int, Any]:
    """Return the newest row of each series, as it was said."""
    return {int(row["series"]): row for row in past}
