"""How long samples and rollups are kept: the rules, and which series falls under which.

A part holds series of one rule only, so that retention can delete whole files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from ingest_service.stores.selector import Selector
from ingest_service.stores.series import SeriesIndex
from shopfloor.signal import SeriesKey


class Keeping(NamedTuple):
    """Days for which something is kept, counted from the end of the UTC day it belongs to; None is for ever."""

    raw_days: int | None = None
    minute_days: int | None = None
    hour_days: int | None = None

    def __str__(self) -> str:
        return "/".join("-" if days is None else str(days) for days in self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what a text made by ``str`` says."""
        return cls(*(None if days == "-" else int(days) for days in text.split("/")))

    def rolls(self, days: int | None) -> bool:
        """Tell whether something kept for so many days outlives the samples."""
        return self.raw_days is not None and (days is None or days > self.raw_days)


FOR_EVER: Final = Keeping()


class Rule(NamedTuple):
    """Which series are kept how long."""

    selector: Selector
    keeping: Keeping


class Classes:
    """The rule of every series; the first that means it counts, and without any it is kept for ever."""

    def __init__(self, rules: Sequence[Rule], index: SeriesIndex) -> None:
        self._index = index
        self.described = repr(
            [(rule.selector.assets, rule.selector.signals, str(rule.keeping)) for rule in rules]
        )
        """The rules as a text, to tell whether they are still the same."""
        self.names: list[str] = list(dict.fromkeys([*(str(rule.keeping) for rule in rules), str(FOR_EVER)]))
        self._tests = [(rule.selector.matcher(), self.names.index(str(rule.keeping))) for rule in rules]
        self._else = self.names.index(str(FOR_EVER))
        self._of: npt.NDArray[np.uint16] = np.zeros(1, np.uint16)

    def of_series(self) -> npt.NDArray[np.uint16]:
        """Return uint16[series + 1]: positions in ``names`` by series id."""
        known = len(self._index)
        if len(self._of) <= known:
            fresh = [self._number(key) for key in self._index.keys[len(self._of) - 1 : known]]
            self._of = np.concatenate([self._of, np.array(fresh, np.uint16)])
        return self._of

    def _number(self, key: SeriesKey) -> int:
        return next((number for matches, number in self._tests if matches(key)), self._else)
