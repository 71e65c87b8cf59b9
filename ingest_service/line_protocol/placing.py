"""Where the lines of one token belong: keys and fields looked up once, then by number."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

import numpy as np

from ingest_service.line_protocol.layout import Layouts, Meaning
from ingest_service.line_protocol.lines import LineFault, read_key
from ingest_service.line_protocol.mapping import LineMapping, Rule, Unplaceable
from ingest_service.line_protocol.points import Points
from ingest_service.stores import below
from shopfloor.asset import AssetPath, parse_asset
from shopfloor.block import Int64, UInt64
from shopfloor.signal import SeriesKey

PLACED, UNMAPPED, UNPLACEABLE, DISCARDED, UNREADABLE = range(5)
"""What may be said of a key."""
LEFT_OUT: Final = -1
QUALITY: Final = -2
STATUS: Final = -3
NO_NAME: Final = -4
"""What a field may be, where it is no series."""
FOREIGN: Final = 2**40
"""Numbers of series from here on are of series outside of the token's asset path."""
_REMEMBERED_KEYS: Final = 200_000
_REMEMBERED_SERIES: Final = 100_000
_REMEMBERED_NAMES: Final = 500_000
_REMEMBERED_BYTES: Final = 64 * 2**20
"""Of keys and of fields' names: a key may have 64 KiB, a name as much as a body."""
_DENSE_PAIRS: Final = 1_000_000


_key: Final = lru_cache(maxsize=128)(read_key)
"""The fields of a line are mostly met one after the other."""


class _Place:
    """What a key means; by far most keys have few fields."""

    __slots__ = ("asset", "rule", "series", "state")

    def __init__(self, state: int, rule: Rule | None = None, asset: AssetPath | None = None) -> None:
        self.state = state
        self.rule = rule
        self.asset = asset
        self.series: dict[str, int] = {}


_UNREADABLE: Final = _Place(UNREADABLE)
_UNMAPPED: Final = _Place(UNMAPPED)
_UNPLACEABLE: Final = _Place(UNPLACEABLE)
_DISCARDED: Final = _Place(DISCARDED)


class Places:
    """What the keys and fields of one token mean. One thread at a time may use it.

    Its series have numbers of their own, so that all bodies of a token share one table: whatever is remembered by the
    identity of a table of series (scopes, the store's numbers) is then found again with every body.
    """

    def __init__(self, mapping: LineMapping, asset: str) -> None:
        self.asset = asset
        """The token's asset path."""
        self.undeclared: dict[SeriesKey, str] = {}
        """Units of series that were met for the first time; whoever uses this takes them."""
        self.layouts = Layouts()
        """Of bodies of this token; what is remembered in them are numbers from here."""
        self._mapping = mapping
        self._keys: dict[bytes, _Place] = {}
        self._numbers: dict[SeriesKey, int] = {}
        self._series: list[SeriesKey] = []
        self._foreign: list[SeriesKey] = []
        self._table: tuple[SeriesKey, ...] = ()
        self._marks = np.empty(0, np.uint64)
        self._names = 0
        self._bytes = 0

    def __len__(self) -> int:
        """Return how many keys are known."""
        return len(self._keys)

    @property
    def table(self) -> tuple[SeriesKey, ...]:
        """All series so far; the same object as long as there is no new one."""
        if len(self._table) != len(self._series):
            self._table = tuple(self._series)
        return self._table

    def trim(self) -> None:
        """Forget everything where it has become too much; only between two bodies."""
        if (
            len(self._keys) > _REMEMBERED_KEYS
            or len(self._numbers) > _REMEMBERED_SERIES
            or self._names > _REMEMBERED_NAMES
            or self._bytes > _REMEMBERED_BYTES
        ):
            self._keys, self._numbers, self._series, self._foreign, self._table = {}, {}, [], [], ()
            self._marks = self._marks[:0]
            self._names = self._bytes = 0
            self.layouts.clear()

    def own_table(self, numbers: Int64) -> tuple[tuple[SeriesKey, ...], Int64]:
        """Return a table of just some series, and the positions in it.

        Series whose samples are refused never get a number in the store. In the table that all bodies share they would
        keep the store from remembering it.
        """
        used, index = np.unique(numbers, return_inverse=True)
        series, foreign = self._series, self._foreign
        table = tuple(
            foreign[number - FOREIGN] if number >= FOREIGN else series[number] for number in used.tolist()
        )
        return table, index

    def readable(self, key: bytes) -> bool:
        """Tell whether a key can be read at all."""
        place = self._keys.get(key)
        return (place if place is not None else self._learn(key)).state != UNREADABLE

    def meaning(self, points: Points) -> Meaning:
        """Return what lines and fields mean; for a body with a known layout it is known, too."""
        layout = points.layout
        if layout is not None and layout.meaning is not None:
            return layout.meaning
        states = np.array([self._place(key).state for key in points.keys], np.uint8)
        field = self._fields(points)
        ours = (states == PLACED).all() and len(field) and field.min() >= 0 and field.max() < FOREIGN
        found = Meaning(
            states[points.key_index],
            field,
            field.astype(np.uint32) if ours else None,
            hashlib.sha256(self._marks_by_number()[field].data).digest() if ours else b"",
        )
        if layout is not None:
            layout.meaning = found
        return found

    def null_series(self, key: bytes) -> int:
        """Return the series of a line without a value, if its rule makes one sample of a line; else LEFT_OUT."""
        place = self._place(key)
        if place.rule is None or not place.rule.single:
            return LEFT_OUT
        return self._field(place, key, place.rule.config.value)

    def _fields(self, points: Points) -> Int64:
        """Return int64[m]: for each field the number of its series, or what else it is."""
        names, keys = points.names, points.keys
        if len(names) == 1:
            alike = np.array([self._field(self._place(key), key, names[0]) for key in keys], np.int64)
            return alike[points.key_index[points.field_line]]
        pair: Int64 = points.key_index[points.field_line] * len(names) + points.name_index
        if len(keys) * len(names) <= _DENSE_PAIRS:
            used = np.zeros(len(keys) * len(names), np.bool_)
            used[pair] = True
            pairs = np.flatnonzero(used)
            table = np.empty(len(used), np.int64)
            table[pairs] = self._pairs(pairs, keys, names)
            return table[pair]
        pairs, inverse = np.unique(pair, return_inverse=True)
        return self._pairs(pairs, keys, names)[inverse]

    def _marks_by_number(self) -> UInt64:
        """Return uint64[series]: by these a series is known again whatever number it has then."""
        new = self._series[len(self._marks) :]
        if new:
            made = [hashlib.sha256(f"{key.asset}:{key.signal}".encode()).digest()[:8] for key in new]
            self._marks = np.concatenate([self._marks, np.frombuffer(b"".join(made), np.uint64)])
        return self._marks

    def _pairs(self, pairs: Int64, keys: list[bytes], names: list[str]) -> Int64:
        places = [self._place(key) for key in keys]
        series = [place.series for place in places]
        key_of, name_of = np.divmod(pairs, len(names))
        both = list(zip(key_of.tolist(), name_of.tolist(), strict=True))
        numbers = [series[key].get(names[name]) for key, name in both]
        if None in numbers:
            numbers = [self._field(places[key], keys[key], names[name]) for key, name in both]
        return np.array(numbers, np.int64)

    def _place(self, key: bytes) -> _Place:
        place = self._keys.get(key)
        return place if place is not None else self._learn(key)

    def _learn(self, key: bytes) -> _Place:
        place = self._keys[key] = self._look_up(key)
        self._bytes += len(key)
        return place

    def _look_up(self, raw: bytes) -> _Place:
        try:
            key = _key(raw)
        except LineFault:
            return _UNREADABLE
        rule = self._mapping.rule(key)
        if rule is None:
            return _UNMAPPED
        if rule.config.discard:
            return _DISCARDED
        try:
            return _Place(PLACED, rule, rule.asset(key))
        except Unplaceable:
            return _UNPLACEABLE

    def _field(self, place: _Place, key: bytes, name: str) -> int:
        number = place.series.get(name)
        if number is None:
            if place.rule is None:
                return LEFT_OUT
            number = place.series[name] = self._series_of(place, place.rule, key, name)
            self._names += 1
            self._bytes += len(name)
        return number

    def _series_of(self, place: _Place, rule: Rule, key: bytes, name: str) -> int:
        if name == rule.config.quality:
            return QUALITY
        if name == rule.config.status:
            return STATUS
        if not rule.wants(name):
            return LEFT_OUT
        try:
            signal = rule.signal(_key(key), name)
        except Unplaceable:
            return NO_NAME
        assert place.asset is not None
        series = SeriesKey(place.asset, signal)
        number = self._numbers.get(series)
        if number is None:
            inside = below(series.asset, self.asset)
            among = self._series if inside else self._foreign
            number = self._numbers[series] = len(among) + (0 if inside else FOREIGN)
            among.append(series)
            unit = rule.unit(name)
            if unit and inside:
                self.undeclared[series] = unit
        return number


def line_series(asset: str) -> SeriesKey:
    """Return the series under which lines lie in quarantine that belong to no other."""
    return SeriesKey(parse_asset(asset or "unplaced"), "line_protocol")
