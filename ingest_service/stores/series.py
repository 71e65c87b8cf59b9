"""The numbers of series: from (asset, signal) to a small integer and back, by whole tables at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np

from ingest_service.stores import Selector, SeriesInfo
from shopfloor.block import UInt32
from shopfloor.signal import SeriesKey

_REMEMBERED_TABLES: Final = 4096
_REMEMBERED_SERIES: Final = 2_000_000
_REMEMBERED_SELECTORS: Final = 1000


def _by_key(one: SeriesInfo) -> SeriesKey:
    return one.key


class SeriesIndex:
    """All series, numbered from 1 without holes. One thread adds; any thread reads.

    The numbers of a series tuple are remembered by the tuple's identity: decoding hands out the same object for
    the same table, so that a batch costs one array lookup and not one dictionary lookup a series.
    """

    def __init__(self) -> None:
        self.keys: list[SeriesKey] = []
        """Series ``i + 1`` stands at ``i``."""
        self._ids: dict[SeriesKey, int] = {}
        self._tables: OrderedDict[int, tuple[tuple[SeriesKey, ...], UInt32]] = OrderedDict()
        self._table_series = 0
        self._selecting = threading.Lock()
        self._selected: dict[Selector, tuple[int, list[SeriesInfo]]] = {}
        self._selected_series = 0
        self._ranks: UInt32 = np.zeros(1, np.uint32)

    def __len__(self) -> int:
        return len(self.keys)

    def restore(self, keys: Iterable[SeriesKey]) -> None:
        """Take the series that a store holds already, in the order of their ids."""
        for key in keys:
            self._append(key)

    def get(self, key: SeriesKey) -> int | None:
        """Return a series' id."""
        return self._ids.get(key)

    def unknown(self, series: Sequence[SeriesKey]) -> list[SeriesKey]:
        """Return those that have no number yet."""
        if id(series) in self._tables:
            return []
        return [key for key in series if key not in self._ids]

    def ids(
        self,
        series: tuple[SeriesKey, ...],
        used: UInt32,
        register: Callable[[int, list[SeriesKey]], None],
    ) -> UInt32:
        """Return uint32[len(series)]; ``register(first_id, keys)`` makes new ones durable first.

        Only for the thread that writes. Series that no row uses get no number (0 stands for it): a table may name
        series whose samples were refused, or far more than it has samples for.

        Args:
            series: a block's table.
            used: the ``series_index`` of the rows that are to be stored.
            register: called at most once.
        """
        self.learn(((series, used),), register)
        return self.numbers(series)

    def learn(
        self,
        tables: Iterable[tuple[tuple[SeriesKey, ...], UInt32]],
        register: Callable[[int, list[SeriesKey]], None],
    ) -> None:
        """Number the series of several tables that have no number yet, all at once; see `ids`."""
        new: dict[SeriesKey, None] = {}
        for series, used in tables:
            if id(series) not in self._tables:
                places = np.unique(used).tolist()
                new.update((key, None) for place in places if (key := series[place]) not in self._ids)
        if new:
            register(len(self.keys) + 1, list(new))
            for key in new:
                self._append(key)

    def numbers(self, series: tuple[SeriesKey, ...]) -> UInt32:
        """Return uint32[len(series)], 0 for those that have no number. Only for the thread that writes."""
        remembered = self._tables.get(id(series))
        if remembered is not None:
            return remembered[1]
        numbers = np.array([self._ids.get(key, 0) for key in series], dtype=np.uint32)
        if numbers.all():
            self._remember(series, numbers)
        return numbers

    def ranks(self) -> UInt32:
        """Return uint32[series + 1]: the place of each series id in the order of (asset, signal); ids begin at 1."""
        with self._selecting:
            keys = self.keys[: len(self.keys)]
            if len(self._ranks) != len(keys) + 1:
                order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
                ranks = np.zeros(len(keys) + 1, np.uint32)
                ranks[order + 1] = np.arange(len(keys))
                self._ranks = ranks
            return self._ranks

    def select(self, selector: Selector) -> list[SeriesInfo]:
        """Return the series that a selector means, by (asset, signal); a list of the caller's own.

        Answers are remembered: a page asks the same again and again, and new series are seldom.
        """
        with self._selecting:
            known, found = self._selected.pop(selector, (0, []))
            keys = self.keys[known:]
            matches = selector.matcher()
            new = [SeriesInfo(number, key) for number, key in enumerate(keys, known + 1) if matches(key)]
            if new:
                found = sorted([*found, *new], key=_by_key)
            self._selected[selector] = (known + len(keys), found)
            self._selected_series += len(new)
            while len(self._selected) > 1 and (
                self._selected_series > _REMEMBERED_SERIES or len(self._selected) > _REMEMBERED_SELECTORS
            ):
                _, dropped = self._selected.pop(next(iter(self._selected)))
                self._selected_series -= len(dropped)
            return list(found)

    def _remember(self, series: tuple[SeriesKey, ...], numbers: UInt32) -> None:
        # The tuple is kept alive beside its numbers: an identity must not be used again for another one.
        self._tables[id(series)] = (series, numbers)
        self._table_series += len(series)
        while len(self._tables) > _REMEMBERED_TABLES or (
            self._table_series > _REMEMBERED_SERIES and len(self._tables) > 1
        ):
            _, (dropped, _) = self._tables.popitem(last=False)
            self._table_series -= len(dropped)

    def _append(self, key: SeriesKey) -> None:
        self.keys.append(key)
        self._ids[key] = len(self.keys)
