"""From events to samples: which are new, at what time, and what each field or condition becomes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from edge_agent.sources.opcua.alarms import FIELDS, Book, read_condition
from edge_agent.sources.opcua.decode import MalformedMessage
from edge_agent.sources.opcua.event_rows import EventRow, News, Recent, Rows, Series, node_text, split
from edge_agent.sources.opcua.listening import REFRESH_END, REFRESH_REQUIRED, REFRESH_START, Listener
from edge_agent.sources.opcua.structures import Types
from shopfloor.asset import parse_asset
from shopfloor.signal import SeriesKey

_ABOUT_REFRESHES: Final = frozenset({REFRESH_START, REFRESH_END, REFRESH_REQUIRED})


@dataclass(slots=True)
class Batch:
    """What one message brings; nothing of it counts until it is durable and `EventIntake.keep` was called."""

    rows: Rows
    news: News = field(default_factory=News)
    books: dict[Listener, Book] = field(default_factory=dict)
    """The books of alarms that it changes, as they will be."""
    counts: Counter[str] = field(default_factory=Counter)
    refresh_required: bool = False
    """Whether the server wants to be asked for all conditions again."""


class EventIntake:
    """What a source knows of events that came; it outlives sessions."""

    def __init__(self) -> None:
        self._series = Series()
        self._recent = Recent()

    def batch(self) -> Batch:
        """Begin to take a message."""
        return Batch(Rows(self._series))

    def take(self, batch: Batch, listener: Listener, row: EventRow, types: Types) -> None:
        """Append the samples of one event.

        Args:
            batch: of the message that it came in.
            listener: who heard it.
            row: the event.
            types: the structures that are known.

        Raises:
            MalformedMessage: it is not what was selected.
        """
        if row.kind in _ABOUT_REFRESHES:
            self._take_refresh(batch, listener, row)
            return
        if listener.book is not None:
            self._take_condition(batch, listener, listener.book, row)
            return
        time = self._recent.place(listener.number, row, batch.news)
        if time is None:
            batch.counts["event_repeated"] += 1
            return
        batch.counts["event"] += 1
        asset = parse_asset(str(listener.config.asset))
        for target, variant in split(row.fields, listener.targets):
            batch.rows.add_field(SeriesKey(asset, target.signal), target, time, variant, types)

    def keep(self, batch: Batch) -> None:
        """Remember what is durable now."""
        self._recent.keep(batch.news)

    @staticmethod
    def _take_refresh(batch: Batch, listener: Listener, row: EventRow) -> None:
        batch.refresh_required |= row.kind == REFRESH_REQUIRED
        if listener.book is None or row.kind == REFRESH_REQUIRED:
            return
        book = batch.books.setdefault(listener, listener.book.copy())
        if row.kind == REFRESH_START:
            book.begin_refresh()
            return
        asset = parse_asset(str(listener.config.asset))
        for change in book.end_refresh():
            batch.rows.add(SeriesKey(asset, change.signal), row.time, change.value, change.text)

    def _take_condition(self, batch: Batch, listener: Listener, known: Book, row: EventRow) -> None:
        if len(row.fields) != len(FIELDS) + 1:
            raise MalformedMessage(f"a condition with {len(row.fields)} fields")
        condition = read_condition(row.fields, node_text(row.fields[5]), node_text(row.fields[-1]))
        if condition.is_branch:
            batch.counts["alarm_not_taken"] += 1
            return
        changes = batch.books.setdefault(listener, known.copy()).take(condition)
        if changes is None:
            batch.counts["alarm_not_taken"] += 1
            return
        time = self._recent.place(listener.number, row, batch.news, spread=False)
        if time is None:
            batch.counts["event_repeated"] += 1
            return
        batch.counts["event"] += 1
        asset = parse_asset(str(listener.config.asset))
        for change in changes:
            batch.rows.add(SeriesKey(asset, change.signal), time, change.value, change.text)
