"""The queues of one subscription's monitored items (Part 4 §5.12.1), kept for thousands of items at a time.

All signals change at the same ticks, so items that were asked for alike have the same ticks in their queues. Such
items form a cohort with one queue; their values are made when they are sent.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from simulators.load.opcua_records import ValueRecords, data_change_body
from simulators.load.plan import TICK_CYCLE, LoadPlan

NEVER: Final = 0
"""The step of items that hear of nothing but the first value."""


class Terms(NamedTuple):
    """What a client asked for; items with the same terms share their queue."""

    queue_size: int
    discard_oldest: bool
    step: int
    """Every so many ticks there is a value to report; `NEVER` after the first."""
    timestamps: int
    enabled: bool
    reporting: bool


class Entry(NamedTuple):
    """One tick in a queue."""

    tick: int
    server_ms: int
    overflow: bool = False


class Item(NamedTuple):
    """One monitored item."""

    item_id: int
    handle: int
    number: int
    """`LoadPlan.number` of its signal."""


class _Cohort:
    """Items with the same terms and the same ticks in their queues."""

    def __init__(self, terms: Terms, last_tick: int, queue: Iterable[Entry]) -> None:
        self.terms = terms
        self.last_tick = last_tick
        self.queue = deque(queue)
        self.items: dict[int, Item] = {}
        self._records: ValueRecords | None = None

    def put(self, item: Item) -> None:
        self.items[item.item_id] = item
        self._records = None

    def take(self, item_id: int) -> Item:
        self._records = None
        return self.items.pop(item_id)

    def sample(self, entry: Entry) -> int:
        """Queue a tick; returns how many values got lost for it."""
        terms = self.terms
        if not terms.enabled or terms.step == NEVER or not self._due(entry.tick):
            return 0
        self.last_tick = entry.tick
        if len(self.queue) < terms.queue_size:
            self.queue.append(entry)
            return 0
        # The bit tells of a gap beside the value that has it; with one place there is nothing it could tell.
        marked = terms.queue_size > 1
        if terms.discard_oldest:
            self.queue.popleft()
            self.queue.append(entry)
            self.queue[0] = self.queue[0]._replace(overflow=marked)
        else:
            self.queue[-1] = entry._replace(overflow=marked)
        return len(self.items)

    def _due(self, tick: int) -> bool:
        wrapped = tick // TICK_CYCLE != self.last_tick // TICK_CYCLE
        return tick - self.last_tick >= self.terms.step or wrapped

    def records(self) -> ValueRecords:
        if self._records is None:
            items = self.items.values()
            self._records = ValueRecords(
                np.fromiter((item.number for item in items), np.int64, len(items)),
                self.terms.timestamps,
                np.fromiter((item.handle for item in items), np.uint32, len(items)),
            )
        return self._records


class ItemQueues:
    """All queues of one subscription."""

    def __init__(self, plan: LoadPlan, tick: int, server_ms: int) -> None:
        self._plan = plan
        self._now = Entry(tick, server_ms)
        self._cohorts: list[_Cohort] = []
        self._newest: dict[Terms, _Cohort] = {}
        self._cohort_of: dict[int, _Cohort] = {}
        self._rest: list[tuple[bytes, int]] = []
        """What one message had no room for: records and how many bytes each takes."""
        self.discarded_total = 0
        """Values lost because their queue was full."""

    def __len__(self) -> int:
        return len(self._cohort_of)

    def __contains__(self, item_id: int) -> bool:
        return item_id in self._cohort_of

    def __iter__(self) -> Iterator[int]:
        return iter(self._cohort_of)

    @property
    def pending(self) -> bool:
        """Whether there is something to report."""
        return bool(self._rest) or any(
            cohort.queue and cohort.terms.reporting and cohort.items for cohort in self._cohorts
        )

    def item(self, item_id: int) -> tuple[Item, Terms]:
        """Return an item and its terms; raises KeyError."""
        cohort = self._cohort_of[item_id]
        return cohort.items[item_id], cohort.terms

    def add(self, item: Item, terms: Terms) -> None:
        """Add an item; its first value, of the newest tick, is queued at once (Part 4 §5.12.1.2)."""
        queue = [self._now] if terms.enabled else []
        self._place(item, terms, self._now.tick, queue)

    def remove(self, item_id: int) -> Item:
        """Forget an item and what is in its queue; raises KeyError."""
        return self._cohort_of.pop(item_id).take(item_id)

    def change(self, item: Item, terms: Terms) -> None:
        """Give an item of the same id other terms or another handle; what is queued stays, as far as it has room.

        Disabling empties the queue, enabling begins with the newest value (Part 4 §5.12.1.3). Raises KeyError.
        """
        old = self._cohort_of[item.item_id]
        if old.terms == terms and old.items[item.item_id] == item:
            return
        self.remove(item.item_id)
        if terms.enabled and not old.terms.enabled:
            self.add(item, terms)
            return
        queue = list(old.queue) if terms.enabled else []
        if len(queue) > terms.queue_size:
            excess = len(queue) - terms.queue_size
            self.discarded_total += excess
            marked = terms.queue_size > 1
            if terms.discard_oldest:
                queue = queue[excess:]
                queue[0] = queue[0]._replace(overflow=marked)
            else:
                queue = [*queue[: terms.queue_size - 1], queue[-1]._replace(overflow=marked)]
        self._place(item, terms, old.last_tick, queue)

    def sample(self, tick: int, server_ms: int) -> None:
        """Let every signal have its next value."""
        self._now = Entry(tick, server_ms)
        for cohort in self._cohorts:
            self.discarded_total += cohort.sample(self._now)

    def pop(self, limit: int) -> tuple[int, bytes]:
        """Take up to ``limit`` values out of the queues, oldest first.

        Returns:
            How many they are, and a DataChangeNotification's body.
        """
        count, parts = 0, []
        waiting = [
            (cohort.queue[0].tick, number, cohort)
            for number, cohort in enumerate(self._cohorts)
            if cohort.queue and cohort.terms.reporting and cohort.items
        ]
        heapq.heapify(waiting)
        while count < limit and (self._rest or waiting):
            records, size = self._rest.pop() if self._rest else self._oldest(waiting)
            room = (limit - count) * size
            if len(records) > room:
                self._rest.append((records[room:], size))
                records = records[:room]
            parts.append(records)
            count += len(records) // size
        if len(self._cohorts) > 1:
            self._merge()
        return count, data_change_body(count, parts)

    def _oldest(self, waiting: list[tuple[int, int, _Cohort]]) -> tuple[bytes, int]:
        _, number, cohort = waiting[0]
        entry = cohort.queue.popleft()
        if cohort.queue:
            heapq.heapreplace(waiting, (cohort.queue[0].tick, number, cohort))
        else:
            heapq.heappop(waiting)
        records = cohort.records().at(
            entry.tick, self._plan.tick_ms(entry.tick), entry.server_ms, overflow=entry.overflow
        )
        return records.tobytes(), records.itemsize

    def _place(self, item: Item, terms: Terms, last_tick: int, queue: list[Entry]) -> None:
        cohort = self._newest.get(terms)
        if cohort is None or cohort.last_tick != last_tick or list(cohort.queue) != queue:
            cohort = self._newest[terms] = _Cohort(terms, last_tick, queue)
            self._cohorts.append(cohort)
        cohort.put(item)
        self._cohort_of[item.item_id] = cohort

    def _merge(self) -> None:
        """Join cohorts that have become alike, and forget empty ones."""
        alike: dict[tuple[Terms, int, tuple[Entry, ...]], _Cohort] = {}
        for cohort in self._cohorts:
            if not cohort.items:
                continue
            first = alike.setdefault((cohort.terms, cohort.last_tick, tuple(cohort.queue)), cohort)
            if first is not cohort:
                for item in cohort.items.values():
                    first.put(item)
                    self._cohort_of[item.item_id] = first
        self._cohorts = list(alike.values())
        self._newest = {cohort.terms: cohort for cohort in self._cohorts}
