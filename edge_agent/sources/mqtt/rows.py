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
from shopfloor.block import NO_TEXT, SampleBlock, UInt32
from shopfloor.signal import SeriesKey

_EXACT: Final = frozenset({float})
_NUMBERS: Final = frozenset({float, int})

_FEW: Final = 64
_SPARSE: Final = 4
"""A block names all series if they are few, or at most so many a sample."""
_MAX_SERIES: Final = 100_000

Scaling = tuple[float, float]
"""Factor and offset."""
NumberReader = Callable[[Any], Iterable[float] | None]


class Numbering:
    """The series of one source, numbered as they are met; kept from one run of messages to the next.

    Most runs bring the same series in another order: caches behind us hang on the identity of a block's tuple.
    """

    def __init__(self) -> None:
        self._keys: list[SeriesKey] = []
        self._positions: dict[SeriesKey, int] = {}
        self._places: dict[int, tuple[Sequence[SeriesKey], array[int]]] = {}
        self._placed = 0
        self._all: tuple[SeriesKey, ...] = ()

    def position(self, key: SeriesKey) -> int:
        """Return the number of a series."""
        number = self._positions.get(key)
        if number is None:
            number = self._positions[key] = len(self._keys)
            self._keys.append(key)
        return number

    def places(self, series: Sequence[SeriesKey]) -> array[int]:
        """Return the number of each of ``series``, the same object at every call."""
        known = self._places.get(id(series))
        if known is None:
            known = self._places[id(series)] = series, array("I", map(self.position, series))
            self._placed += len(series)
        return known[1]

    def applied(self, index: UInt32) -> tuple[tuple[SeriesKey, ...], UInt32]:
        """Return a tuple of series and ``index``, uint32[n], as positions in it.

        The tuple is that of all series, unless most of them are not meant: a few samples shall not pay for many names.
        """
        if len(self._keys) > max(_FEW, _SPARSE * len(index)):
            used, compact = np.unique(index, return_inverse=True)
            return tuple([self._keys[number] for number in used.tolist()]), compact.astype(np.uint32)
        if len(self._all) != len(self._keys):
            self._all = tuple(self._keys)
        return self._all, index

    def trim(self) -> None:
        """Begin anew where there are too many; call it between two runs of messages.

        What topics' series are is worked out again where there are many topics: the same series count once each time.
        """
        if len(self._keys) > _MAX_SERIES or self._placed > 2 * _MAX_SERIES:
            self._keys, self._positions, self._places, self._all = [], {}, {}, ()
            self._placed = 0


class Rows:
    """The samples of a run of messages, in order."""

    def __init__(self, numbering: Numbering) -> None:
        self.counts: Counter[str] = Counter()
        """What else there is to say of the messages."""
        self._numbering = numbering
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
        self._index.append(self._numbering.position(key))
        self._value.append(sample.value)
        self._note_times(1, source_time, received_time)

    def add_numbers(
        self, series: Sequence[SeriesKey], source_time: int, received_time: int, numbers: Iterable[float]
    ) -> None:
        """Add one number for each of ``series``, the same object at every call, in one go."""
        self._index.extend(self._numbering.places(series))
        self._value.extend(numbers)
        self._note_times(len(series), source_time, received_time)

    def _note_times(self, length: int, source_time: int, received_time: int) -> None:
        self._length.append(length)
        self._source_time.append(source_time)
        self._received_time.append(received_time)

    def cut_torn(self) -> None:
        """Leave out what was begun and not brought to its end; whole additions stay.

        Call it where an addition raised something.
        """
        whole = len(self._received_time)
        del self._length[whole:], self._source_time[whole:]
        n = sum(self._length)
        del self._index[n:], self._value[n:]
        self._nulls = [row for row in self._nulls if row < n]
        for column in (self._status, self._text):
            for row in [row for row in column if row >= n]:
                del column[row]

    def block(self) -> SampleBlock:
        """Return the samples as a block; what `normalise` found odd is added to `counts`."""
        n = len(self._index)
        series, index = self._numbering.applied(np.array(self._index, dtype=np.uint32))
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
            series,
            index,
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
