"""Enumerations as text: the value's name in the place of the number, or beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from shopfloor.block import SampleBlock, concat
from shopfloor.signal import SeriesKey

SUFFIX: Final = "text"
"""Of the signal that holds the names beside the values."""


def word_of(names: Mapping[int, str], value: float) -> str:
    """Return the name of an enumeration's value; a number without one is its own name."""
    return names.get(int(value)) or f"{value:g}"


class Wording:
    """The names of the values of those nodes whose names are wanted."""

    def __init__(self) -> None:
        self._tables: dict[int, Mapping[int, str]] = {}
        self._beside: dict[int, bool] = {}
        self._concerned: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)

    def __len__(self) -> int:
        return len(self._tables)

    def beside(self, node: int) -> bool:
        """Tell whether a node's names stand in a series beside it."""
        return self._beside.get(node, False)

    def names(self, node: int) -> Mapping[int, str] | None:
        """Return the names of a node's values, None where they are not wanted or there are none."""
        return self._tables.get(node)

    def name(self, node: int, table: Mapping[int, str], *, beside: bool) -> None:
        """Give the values of a node names, in their place or in a series beside it."""
        self._tables[node] = table
        self._beside[node] = beside
        if node >= len(self._concerned):
            self._concerned = np.append(self._concerned, np.zeros(node + 1 - len(self._concerned), np.bool_))
        self._concerned[node] = True

    def put(
        self,
        block: SampleBlock,
        series: Callable[[], tuple[SeriesKey, ...]],
        companion: Callable[[int, str], int],
    ) -> SampleBlock:
        """Return samples with names; a number without one is its own name, what is null stays so.

        Args:
            block: samples whose series index is the number of a node, or beyond all of those that are named.
            series: the series that there are now.
            companion: of a node and a suffix, the position of the series beside its own.
        """
        inside = block.series_index < len(self._concerned)
        rows = np.flatnonzero(inside)
        rows = rows[self._concerned[block.series_index[rows]]]
        before = series()
        if block.series is not before and len(rows):
            # It was made before there were more nodes: what stood beside them stands elsewhere now.
            rows = rows[[before[row] == block.series[row] for row in block.series_index[rows].tolist()]]
        if not len(rows):
            return block
        text = dict(block.text)
        instead: list[int] = []
        beside: dict[int, str | None] = {}
        numbers = block.series_index[rows].tolist()
        for row, node, value in zip(rows.tolist(), numbers, block.value[rows].tolist(), strict=True):
            word = None if value != value else word_of(self._tables[node], value)  # noqa: PLR0124 - NaN
            if self._beside[node]:
                beside[row] = word
            elif word is not None:
                text[row] = word
                instead.append(row)
        if instead:
            values = block.value.copy()
            values[instead] = np.nan
            block = replace(block, value=values, text=text)
        if not beside:
            return block
        copies = np.array(list(beside), np.intp)
        positions = [companion(int(node), SUFFIX) for node in block.series_index[copies]]
        more = SampleBlock(
            series(),
            np.array(positions, np.uint32),
            block.source_time[copies],
            block.received_time[copies],
            np.full(len(copies), np.nan),
            block.quality[copies],
            block.status[copies],
            {row: word for row, word in enumerate(beside.values()) if word is not None},
        )
        # Where companions are new, the others are the same series at the head of a longer list.
        return concat([replace(block, series=more.series) if block.series is before else block, more])
