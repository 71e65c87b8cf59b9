"""Samples on their way into the columns of one block, and what there is to count of them."""

from __future__ import annotations

from collections import Counter

import numpy as np

from edge_agent.normalise import normalise
from edge_agent.sources.mqtt.payload import NULL, Value
from edge_agent.sources.sparkplug.catalogue import Slot
from shopfloor.block import NO_TEXT, SampleBlock
from shopfloor.signal import SeriesKey


class Rows:
    """Columns that grow; `block` empties them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._last_series: tuple[SeriesKey, ...] = ()
        self._begin()

    def __len__(self) -> int:
        return len(self._index)

    def _begin(self) -> None:
        self._positions: dict[Slot, int] = {}
        self._index: list[int] = []
        self._source_time: list[int] = []
        self._received_time: list[int] = []
        self._value: list[float] = []
        self._status: list[int] = []
        self._text: dict[int, str] = {}
        self._nulls: list[int] = []

    def add(self, slot: Slot, source_time: int, received_time: int, value: Value, status: int = 0) -> None:
        """Append a sample; ``status`` counts where the value has none of its own."""
        row = len(self._index)
        if value.text is not None:
            self._text[row] = value.text
        elif value.is_null or value.status:
            self._nulls.append(row)
        if value.rounded:
            self.counts["integer_rounded"] += 1
        self._index.append(self._positions.setdefault(slot, len(self._positions)))
        self._source_time.append(source_time)
        self._received_time.append(received_time)
        self._value.append(value.value)
        self._status.append(value.status or status)

    def add_loss(self, slot: Slot, source_time: int, received_time: int, status: int) -> None:
        """Append the sample that says that there is no value any more, and why."""
        self.add(slot, source_time, received_time, NULL, status)

    def block(self) -> SampleBlock:
        """Return everything added since the last call, in order."""
        series = tuple(slot.key for slot in self._positions)
        if series == self._last_series:
            # Caches hang on the identity of the tuple.
            series = self._last_series
        self._last_series = series
        null = None
        if self._nulls:
            null = np.zeros(len(self._index), dtype=np.bool_)
            null[self._nulls] = True
        block, oddities = normalise(
            series,
            np.array(self._index, dtype=np.uint32),
            np.array(self._source_time, dtype=np.int64),
            np.array(self._received_time, dtype=np.int64),
            np.array(self._value, dtype=np.float64),
            np.array(self._status, dtype=np.uint32),
            self._text or NO_TEXT,
            null,
        )
        for what, number in oddities._asdict().items():
            if number:
                self.counts[what] += number
        self._begin()
        return block

    def take_counts(self) -> Counter[str]:
        """Return what was counted since the last call."""
        counts, self.counts = self.counts, Counter()
        return counts
