"""Samples of one broker on their way into columns: typed arrays that grow, what all values of a message share once."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

import numpy as np

from edge_agent.normalise import normalise
from edge_agent.sources.mqtt.paths import Finder
from edge_agent.sources.mqtt.payload import EXACT_INTEGER, Value
from shopfloor.block import NO_TEXT, SampleBlock
from shopfloor.signal import SeriesKey

_EXACT: Final = frozenset({float})
_NUMBERS: Final = frozenset({float, int})

Scaling = tuple[float, float]
"""Factor and offset."""
NumberReader = Callable[[Any], Iterable[float] | None]


class Rows:
    """The samples of a run of messages, in order."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """What else there is to say of the messages."""
        self._positions: dict[SeriesKey, int] = {}
        self._places: dict[int, tuple[Sequence[SeriesKey], array[int]]] = {}
        # One entry a sample.
        self._index = array("I")
        self._value = array("d")
        self._status: dict[int, int] = {}
        self._text: dict[int, str] = {}
        self._nulls: list[int] = []
        # One entry for all samples that share both times.
        self._length = array("I")
        self._source_time = array("q")
        self._received_time = array("q")

    def __len__(self) -> int:
        return len(self._index)

    def add(self, key: SeriesKey, source_time: int, received_time: int, sample: Value) -> None:
        """Add one value; times are UTC ns, or NO_TIME."""
        row = len(self._index)
        if sample.text is not None:
            self._text[row] = sample.text
        elif sample.is_null or sample.status:
            # Null for a reason of its own, not because the machine computed a NaN.
            self._nulls.append(row)
        if sample.status:
            self._status[row] = sample.status
        if sample.rounded:
            self.counts["integer_rounded"] += 1
        self._index.append(self._positions.setdefault(key, len(self._positions)))
        self._value.append(sample.value)
        self._note_times(1, source_time, received_time)

    def add_numbers(
        self, series: Sequence[SeriesKey], source_time: int, received_time: int, numbers: Iterable[float]
    ) -> None:
        """Add one number for each of ``series``, the same object at every call, in one go."""
        known = self._places.get(id(series))
        if known is None:
            positions = self._positions
            places = array("I", [positions.setdefault(key, len(positions)) for key in series])
            known = self._places[id(series)] = series, places
        self._index.extend(known[1])
        self._value.extend(numbers)
        self._note_times(len(series), source_time, received_time)

    def _note_times(self, length: int, source_time: int, received_time: int) -> None:
        self._length.append(length)
        self._source_time.append(source_time)
        self._received_time.append(received_time)

    def block(self, known_series: tuple[SeriesKey, ...]) -> SampleBlock:
        """Return the samples as a block; what `normalise` found odd is added to `counts`.

        Args:
            known_series: the series of the block before: taken over where they are the same, since caches hang on
                the identity of the tuple.
        """
        n = len(self._index)
        series = tuple(self._positions)
        status = np.zeros(n, dtype=np.uint32)
        if self._status:
            status[list(self._status)] = list(self._status.values())
        null = None
        if self._nulls:
            null = np.zeros(n, dtype=np.bool_)
            null[self._nulls] = True
        length = np.array(self._length, dtype=np.uint32)
        text: Mapping[int, str] = self._text or NO_TEXT
        block, oddities = normalise(
            known_series if series == known_series else series,
            np.array(self._index, dtype=np.uint32),
            np.repeat(np.array(self._source_time, dtype=np.int64), length),
            np.repeat(np.array(self._received_time, dtype=np.int64), length),
            np.array(self._value, dtype=np.float64),
            status,
            text,
            null,
        )
        for what, number in oddities._asdict().items():
            if number:
                self.counts[what] += number
        return block


def number_reader(
    paths: Sequence[str], finders: Sequence[Finder], scalings: Sequence[Scaling]
) -> NumberReader:
    """Return a function that takes all values out of a decoded payload where every one of them is a plain number.

    It returns None for a payload with anything else in it: something missing, text, a boolean, null, an integer
    that a double does not hold. Those are looked at value by value.

    Args:
        paths: where the values lie; keys of the payload's own object are taken without a search.
        finders: finds the value of each path.
        scalings: factor and offset of each value.
    """
    take: Callable[[Any], Sequence[Any]]
    if len(paths) > 1 and all(path.isidentifier() for path in paths):
        take = itemgetter(*paths)
    else:
        take = lambda content: [find(content) for find in finders]  # noqa: E731
    neutral = all(scaling == (1.0, 0.0) for scaling in scalings)
    # Adding a negative zero changes nothing, not even a negative zero.
    steps = [(1.0, -0.0) if scaling == (1.0, 0.0) else scaling for scaling in scalings]

    def read(content: Any) -> Iterable[float] | None:
        try:
            raws = take(content)
        except (LookupError, TypeError):
            return None
        if not _EXACT.issuperset(map(type, raws)) and not (
            _NUMBERS.issuperset(map(type, raws)) and max(map(abs, raws)) <= EXACT_INTEGER
        ):
            return None
        return (
            raws
            if neutral
            else [raw * factor + offset for raw, (factor, offset) in zip(raws, steps, strict=True)]
        )

    return read
