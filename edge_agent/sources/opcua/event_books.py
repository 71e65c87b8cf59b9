"""What of a server's events is in the buffer already, what its history has still to tell, and what is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from edge_agent.sources.opcua.coverage import Coverage, Hole, Mark, Span, State
from edge_agent.sources.opcua.listening import Listener
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.nodes import NO_SAMPLES

EVENTS: Final = "(events)"
"""Name of the subscription; no group can be called so."""


class EventBooks:
    """The books of one session's listeners.

    Args:
        live: the session.
        listeners: by number; more may be appended, see `fit`.
    """

    def __init__(self, live: Live, listeners: Sequence[Listener]) -> None:
        self._live = live
        self._listeners = listeners
        self.history_wanted = asyncio.Event()
        """Set when there may be a new hole."""
        self.reopen()

    def reopen(self) -> None:
        """Begin with what is saved, as no subscription is gone on with."""
        self.coverage = Coverage(
            f"{self._live.config.name}/events",
            [each.short_key for each in self._listeners],
            self._live.sink.state(),
            overlap_ns=round(self._live.config.history.overlap_s * 1e9),
            batch=1,
        )
        self._known = len(self._listeners)

    def fit(self) -> None:
        """Keep the books of the listeners that have come."""
        self.coverage.add([each.short_key for each in self._listeners[self._known :]])
        self._known = len(self._listeners)

    def resume(self) -> bool:
        """Go on with the last session's subscription; return whether the books are those that it was followed by."""
        heard = [each.number for each in self._listeners if each.node is not None]
        if not heard or any(self.coverage.covered_to(number) is None for number in heard):
            return False
        self.coverage.resume(EVENTS, heard)
        return True

    def advance(self, mark: Mark) -> State:
        """Return what is to be put with everything that happened up to a mark."""
        return self.coverage.advance(EVENTS, mark)

    async def joined(self, listener: Listener) -> None:
        """Open the books of a listener: what happened before is read from history, or lost."""
        change = self.coverage.join(
            EVENTS,
            [listener.number],
            Mark(self._live.session.server_now(), self._live.clock()),
            readable=_readable(listener),
            backfill_ns=round(self._live.config.history.backfill_h * 3_600 * 1e9),
        )
        await self._record_lost(
            change.lost, "events: the connection was interrupted, and the server keeps no history of them"
        )
        await self._live.sink.put(NO_SAMPLES, change.state)
        self.history_wanted.set()

    async def overflowed(self, listener: Listener, until: int) -> State:
        """Note that the server's queue of a notifier overflowed before ``until``; return the state to put."""
        self._live.sink.count("event_queue_overflow")
        change = self.coverage.interrupted(EVENTS, [listener.number], until, readable=_readable(listener))
        self.history_wanted.set()
        await self._record_lost(change.lost, "events: the server's queue overflowed", at_least=1)
        return change.state

    async def give_up(self, hole: Hole, reason: str) -> None:
        """Record a hole that will not be filled."""
        await self._record_lost([Span(hole.nodes, hole.start, hole.end)], reason)
        await self._live.sink.put(NO_SAMPLES, self.coverage.forget(hole))

    async def _record_lost(self, spans: Iterable[Span], reason: str, *, at_least: int = 0) -> None:
        for span in spans:
            for asset in dict.fromkeys(str(self._listeners[number].config.asset) for number in span.nodes):
                await self._live.sink.gap(reason, span.start, span.end, asset=asset, count=at_least)


def _readable(listener: Listener) -> set[int]:
    return {listener.number} if listener.with_history else set()
