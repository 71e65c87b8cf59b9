"""Events, alarms and conditions of one source: listened for, made durable, and caught up with after a gap."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Never

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.config import SubscribeGroup
from edge_agent.sources.opcua.coverage import Coverage, Hole, Mark, State
from edge_agent.sources.opcua.decode import MalformedMessage, Notification
from edge_agent.sources.opcua.event_books import EVENTS, EventBooks
from edge_agent.sources.opcua.event_config import AlarmConfig, EventConfig
from edge_agent.sources.opcua.event_history import fill
from edge_agent.sources.opcua.event_intake import Batch, EventIntake
from edge_agent.sources.opcua.event_rows import (
    EventRow,
    read_events,
)
from edge_agent.sources.opcua.kept import Tracked
from edge_agent.sources.opcua.listening import (
    OVERFLOW,
    Listener,
    Types,
    ask_for_conditions,
    monitor,
)
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.nodes import NO_SAMPLES
from edge_agent.sources.opcua.resolve import resolve
from edge_agent.sources.opcua.session import ServiceFault
from edge_agent.sources.opcua.subscription import Subscriptions
from shopfloor.errors import SourceUnavailable
from shopfloor.messages import SeriesDeclaration

log = logging.getLogger(__name__)

_SETTINGS: Final = SubscribeGroup()
_STATE_INTERVAL_NS: Final = 3 * 1_000_000_000
_MAX_RETRY_S: Final = 60.0
_HISTORY_READ: Final = 0x04
"""Bit of EventNotifier (Part 3 §8.59)."""


class Events:
    """All listeners of one source; they outlive its sessions."""

    def __init__(self, source: str, configs: Iterable[EventConfig | AlarmConfig]) -> None:
        self._source = source
        self.listeners: list[Listener] = []
        self.want(configs)
        self._intake = EventIntake()
        self._refresh = asyncio.Event()
        self._attaching = asyncio.Lock()
        self._live: Live
        self._types: Types
        self._books: EventBooks

    def __bool__(self) -> bool:
        return bool(self.listeners)

    def want(self, configs: Iterable[EventConfig | AlarmConfig]) -> None:
        """Listen to more; what is listened to already is left as it is."""
        known = {(str(each.config.asset), each.key) for each in self.listeners}
        for config in configs:
            listener = Listener(config, len(self.listeners))
            if (str(config.asset), listener.key) not in known:
                known.add((str(config.asset), listener.key))
                self.listeners.append(listener)

    @property
    def assets(self) -> tuple[str, ...]:
        """Asset paths that are spoken for."""
        return tuple(dict.fromkeys(str(each.config.asset) for each in self.listeners))

    def declarations(self) -> Iterable[SeriesDeclaration]:
        """Yield what the configuration says of the series that fields become."""
        for listener in self.listeners:
            if isinstance(listener.config, EventConfig):
                for each in listener.config.named.values():
                    yield SeriesDeclaration(
                        str(listener.config.asset), each.signal, each.unit, each.description
                    )

    def open(self, live: Live) -> bool:
        """Begin a session; return whether a subscription of the last one can be gone on with."""
        self._live = live
        self._types = Types(live.session)
        self._books = EventBooks(live, self.listeners)
        return self._books.resume()

    async def attach(self, subscriptions: Subscriptions) -> None:
        """Listen to what is not listened to yet; what does not work is noted and tried again."""
        if not self.listeners:
            return
        async with self._attaching:
            if EVENTS not in subscriptions:
                for listener in self.listeners:
                    listener.node, listener.next_try_s = None, 0.0
                self._books.reopen()
            self._books.fit()
            await subscriptions.create(EVENTS, _SETTINGS, self)
            now_s = asyncio.get_running_loop().time()
            due = [each for each in self.listeners if each.node is None and each.next_try_s <= now_s]
            if due:
                await self._listen(subscriptions, due)
        self._refresh.set()

    async def tend(self, subscriptions: Subscriptions, report: Callable[[], None]) -> Never:
        """Try again what failed, and ask for all conditions whenever it is not known which stand.

        Args:
            subscriptions: of this session.
            report: called when `problems` may have changed.
        """
        loop = asyncio.get_running_loop()
        while True:
            if self._refresh.is_set():
                self._refresh.clear()
                await self._ask_for_conditions(subscriptions)
            next_s = min((each.next_try_s for each in self.listeners if each.node is None), default=None)
            wait_s = None if next_s is None else max(0.05, next_s - loop.time())
            try:
                async with asyncio.timeout(wait_s):
                    await self._refresh.wait()
            except TimeoutError:
                await self._live.session.read_namespaces()
                await self.attach(subscriptions)
                report()

    def problems(self) -> list[str]:
        """Say what can't be listened to, for the source's report."""
        return [f"{each.config.label}: {each.reason}" for each in self.listeners if each.reason]

    async def take(
        self, subscription: Tracked, notification: Notification, received: int, mark: Mark
    ) -> None:
        """See Taker."""
        batch, state = self._intake.batch(), State()
        try:
            for content in notification.events:
                for handle, row in read_events(content):
                    listener = self._listener(handle)
                    if row.kind == OVERFLOW:
                        state |= await self._books.overflowed(listener, mark.server)
                    else:
                        self._intake.take(batch, listener, row, self._live.nodes.expansion.types)
        except MalformedMessage as error:
            raise SourceUnavailable(str(error)) from error
        for listener, book in batch.books.items():
            state[f"{self._source}/alarms/{listener.short_key}"] = book.saved()
        if not notification.more:
            state |= self._books.advance(mark)
            subscription.last_saved_ns = received
        await self._store(batch, received, state)
        for listener, book in batch.books.items():
            listener.book = book
        if batch.refresh_required:
            self._refresh.set()

    async def idle(self, subscription: Tracked, received: int, mark: Mark) -> None:
        """See Taker."""
        if received - subscription.last_saved_ns >= _STATE_INTERVAL_NS:
            subscription.last_saved_ns = received
            await self._live.sink.put(NO_SAMPLES, self._books.advance(mark))

    async def read_history(self) -> None:
        """Close gaps from the server's history of events, for ever."""
        await fill(self._live, self, self._books.history_wanted)

    @property
    def coverage(self) -> Coverage:
        """See Reader."""
        return self._books.coverage

    def wanted(self, number: int) -> tuple[ua.NodeId, ua.EventFilter] | None:
        """See Reader."""
        listener = self.listeners[number]
        return None if listener.node is None or listener.filter is None else (listener.node, listener.filter)

    async def put(self, number: int, rows: Sequence[EventRow], done: Callable[[], State]) -> None:
        """See Reader; raises ServiceFault for events that are not what was selected."""
        batch = self._intake.batch()
        try:
            for row in rows:
                self._intake.take(batch, self.listeners[number], row, self._live.nodes.expansion.types)
        except MalformedMessage as error:
            raise ServiceFault(f"HistoryRead of events: {error}", StatusCodes.BadUnexpectedError) from error
        # What a condition was in the past says nothing of what it is, but the name of its signal is given for good.
        state = done()
        for listener, book in batch.books.items():
            if listener.book is not None and book.signals.keys() - listener.book.signals.keys():
                listener.book.signals |= {**book.signals, **listener.book.signals}
                state[f"{self._source}/alarms/{listener.short_key}"] = listener.book.saved()
        await self._store(batch, self._live.clock(), state)

    async def give_up(self, hole: Hole, reason: str) -> None:
        """See Reader."""
        await self._books.give_up(hole, reason)

    async def _store(self, batch: Batch, received: int, state: State) -> None:
        block, odd = batch.rows.block(received)
        await self._live.sink.put(block, state)
        self._intake.keep(batch)
        batch.counts.update(odd._asdict())
        batch.counts.update(not_convertible=batch.rows.not_convertible, element_left_out=batch.rows.beyond)
        for what, number in batch.counts.items():
            if number:
                self._live.sink.count(what, number)

    def _listener(self, handle: int) -> Listener:
        if handle >= len(self.listeners):
            raise MalformedMessage(f"client handle {handle} was never given out")
        return self.listeners[handle]

    async def _listen(self, subscriptions: Subscriptions, listeners: Sequence[Listener]) -> None:
        """Find notifiers and have the server report them."""
        session = self._live.session
        found = await resolve(session, [each.config.address for each in listeners])
        levels = await session.read_attributes(
            [node for node in found if isinstance(node, ua.NodeId)], AttributeIds.EventNotifier
        )
        rest = iter(levels)
        for listener, node in zip(listeners, found, strict=True):
            if not isinstance(node, ua.NodeId):
                self._fails(listener, node.reason)
                continue
            level = next(rest)
            value = level.Value.Value if level.Value is not None else None
            try:
                reason = await self._types.prepare(listener, self._saved_books())
                if not reason:
                    assert listener.filter is not None
                    reason, listener.filter = await monitor(
                        session,
                        subscriptions.tracked(EVENTS).number,
                        node,
                        listener.filter,
                        handle=listener.number,
                        queue_size=listener.config.queue_size,
                    )
            except ServiceFault as fault:
                reason = str(fault)
            if reason:
                self._fails(listener, reason)
                continue
            with subscriptions.joining():
                listener.node, listener.reason = node, ""
                listener.with_history = isinstance(value, int) and bool(value & _HISTORY_READ)
                await self._books.joined(listener)

    async def _ask_for_conditions(self, subscriptions: Subscriptions) -> None:
        if EVENTS not in subscriptions or not any(each.book and each.node for each in self.listeners):
            return
        refused = await ask_for_conditions(self._live.session, subscriptions.tracked(EVENTS).number)
        if refused:
            self._live.sink.count("condition_refresh_refused")
            log.info("source %s: ConditionRefresh: %s", self._source, refused)

    def _saved_books(self) -> dict[str, bytes]:
        prefix = f"{self._source}/alarms/"
        return {
            key.removeprefix(prefix): raw
            for key, raw in self._live.sink.state().items()
            if key.startswith(prefix)
        }

    def _fails(self, listener: Listener, reason: str) -> None:
        limit_s = max(_MAX_RETRY_S, self._live.config.retry_s)
        listener.delay_s = min(2 * listener.delay_s or self._live.config.retry_s, limit_s)
        listener.next_try_s = asyncio.get_running_loop().time() + listener.delay_s
        self._live.sink.count("event_listener_failed")
        listener.reason = reason
