"""The sources that run: each is started, restarted or stopped by itself when the configuration changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Never

from edge_agent.backoff import Backoff
from edge_agent.buffer import Parcel
from edge_agent.config import Config, SourceConfig
from edge_agent.intake import BufferThread, Intake
from edge_agent.processing.config import RuleConfig
from edge_agent.processing.stage import make_stage, rule_for
from edge_agent.processing.step import NOTHING
from edge_agent.sink import SourceSink
from edge_agent.sources import Source
from edge_agent.supervisor import supervise
from shopfloor.asset import parse_asset
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import SourceState
from shopfloor.signal import SeriesKey

log = logging.getLogger(__name__)

_FLUSH_S: Final = 5.0
_STATE_RETRY_S: Final = 1.0

MakeSource = Callable[[SourceConfig, Config], Source]


def make_source(entry: SourceConfig, config: Config) -> Source:
    """Return the source that an entry describes; nothing is connected yet."""
    # Each protocol's library is large: an agent imports only what its configuration uses.
    if entry.opcua is not None:
        from edge_agent.sources.opcua import OpcUaSource  # noqa: PLC0415

        return OpcUaSource(entry.opcua, agent_id=config.agent.id, pki=config.data / "pki")
    if entry.mqtt is not None:
        from edge_agent.sources.mqtt import MqttSource  # noqa: PLC0415

        return MqttSource(entry.mqtt)
    from edge_agent.sources.sparkplug import SparkplugSource  # noqa: PLC0415

    assert entry.sparkplug is not None
    return SparkplugSource(entry.sparkplug)


class Changes(NamedTuple):
    """What another configuration means for the sources, by their scopes."""

    added: tuple[str, ...]
    restarted: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(slots=True)
class _Place:
    """Where the source of one peer runs; it stays while the source in it is exchanged."""

    entry: SourceConfig | None
    """What it is to be; None while its source is about to go."""
    sink: SourceSink
    tasks: list[asyncio.Task[Never]] = field(default_factory=list)
    change: asyncio.Task[None] | None = None


class RunningSources:
    """All sources of an agent, by scope: a source that is renamed keeps its place, its state and its peer."""

    def __init__(
        self,
        intake: Intake,
        buffer: BufferThread,
        events: Counter[tuple[str, str]],
        *,
        make: MakeSource = make_source,
        stop_within_s: float = 10.0,
    ) -> None:
        """Begin without any; needs a running event loop.

        Args:
            intake: takes what they read.
            buffer: keeps their state.
            events: what they met, by name and kind.
            make: see `make_source`.
            stop_within_s: a source that takes longer to end is reported, and told again.
        """
        self._intake, self._buffer, self._events = intake, buffer, events
        self._make = make
        self._stop_within_s = stop_within_s
        self._places: dict[str, _Place] = {}
        self._order: tuple[str, ...] = ()
        self._rules: tuple[RuleConfig, ...] = ()
        self._failure: asyncio.Future[Never] = asyncio.get_running_loop().create_future()
        self.stubborn: tuple[str, ...] = ()
        """Names of the sources that did not end although they were told to."""

    @property
    def sinks(self) -> tuple[SourceSink, ...]:
        """The sinks of all sources, in the order of the configuration; may be asked from any thread."""
        places = dict(self._places)
        return tuple(places[scope].sink for scope in self._order if scope in places)

    def events_of(self, name: str) -> dict[str, int]:
        """Return what a source met and how often; may be asked from any thread."""
        return {what: number for (source, what), number in list(self._events.items()) if source == name}

    def changes(self, config: Config) -> Changes:
        """Tell what `change_to` would do."""
        wanted = {entry.scope: entry for entry in config.sources}
        return Changes(
            added=tuple(scope for scope in wanted if scope not in self._places),
            restarted=tuple(
                scope
                for scope, place in self._places.items()
                if scope in wanted
                and (place.entry != wanted[scope] or self._touched(place.sink, config.processing))
            ),
            removed=tuple(scope for scope in self._places if scope not in wanted),
        )

    def make(self, config: Config, scopes: Sequence[str]) -> dict[str, Source]:
        """Return new sources for some scopes; raises whatever a source that can't be made raises."""
        return {entry.scope: self._make(entry, config) for entry in config.sources if entry.scope in scopes}

    async def change_to(self, config: Config, changes: Changes, made: Mapping[str, Source]) -> None:
        """Run what a configuration wants; returns once that is so, or goes on behind a source that does not end.

        Args:
            config: the configuration.
            changes: see `changes`.
            made: the new sources of all scopes that are added or restarted. One whose state can't be read begins
                as soon as it can, and says so until then; nothing else waits for it.
        """
        entries = {entry.scope: entry for entry in config.sources}
        self._rules = config.processing
        under_way: list[asyncio.Task[None]] = []
        for scope in (*changes.removed, *changes.restarted):
            place = self._places.get(scope)
            if place is None:
                # One that was about to go is gone by now.
                continue
            if place.change is not None and not place.change.done():
                place.change.cancel()
                await asyncio.wait([place.change])
            place.entry = entries.get(scope)
            work = self._exchange(scope, place, made.get(scope))
            place.change = self._watched(work, f"exchange of {place.sink.source.name}")
            under_way.append(place.change)
        for place in self._places.values():
            if place.change is None or place.change.done():
                self._take_rules(place)
        self._order = tuple(entries)
        for scope in [scope for scope in made if scope not in self._places]:
            sink = SourceSink(made[scope], self._intake, scope, {}, self._events)
            place = self._places[scope] = _Place(entries[scope], sink)
            place.change = self._watched(
                self._exchange(scope, place, made[scope]), f"start of {sink.source.name}"
            )
            under_way.append(place.change)
        if under_way:
            await asyncio.wait(under_way, timeout=self._stop_within_s + _FLUSH_S)

    async def failed(self) -> Never:
        """Wait until a source's task ends by a defect of the agent itself, and raise it."""
        await self._failure
        raise AssertionError("it only ever raises")

    async def stop(self) -> None:
        """End all; what does not end in time is left behind, and named in `stubborn`."""
        tasks: dict[asyncio.Task[Any], str] = {}
        for place in self._places.values():
            for task in (*place.tasks, *([place.change] if place.change else [])):
                task.cancel()
                tasks[task] = place.sink.source.name
        if not self._failure.done():
            self._failure.cancel()
        if not tasks:
            return
        _, left = await asyncio.wait(tasks, timeout=self._stop_within_s)
        self.stubborn = tuple(dict.fromkeys(tasks[task] for task in left))
        for name in self.stubborn:
            log.error("source %s does not end although it was told to", name, extra={"source": name})

    # One place

    async def _exchange(self, scope: str, place: _Place, source: Source | None) -> None:
        """End a source; then its successor begins with all that it had saved, or its place is given up."""
        if place.tasks:
            await self._end(place)
            # What it had handed over is written before its state is read.
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(_FLUSH_S):
                    await self._intake.put(Parcel(NOTHING))
        name = place.sink.source.name
        if source is None:
            del self._places[scope]
        else:
            while True:
                try:
                    place.sink = await self._sink(scope, source)
                    break
                except StoreUnavailable as error:
                    place.sink.report(SourceState.UNAVAILABLE, str(error))
                    await asyncio.sleep(_STATE_RETRY_S)
            self._start(place)
        if name not in {each.sink.source.name for each in self._places.values()}:
            for key in [key for key in self._events if key[0] == name]:
                del self._events[key]

    async def _sink(self, scope: str, source: Source) -> SourceSink:
        saved = await self._buffer.call(lambda buffer: buffer.state(scope))
        stage = make_stage(self._rules, source.name, source.protocol, saved)
        return SourceSink(source, self._intake, scope, saved, self._events, stage)

    def _start(self, place: _Place) -> None:
        sink = place.sink
        place.tasks = [
            self._watched(supervise(sink.source, sink, Backoff(0.5, 30.0)), f"source {sink.source.name}")
        ]
        self._look(place)

    def _look(self, place: _Place) -> None:
        if place.sink.stage is not None:
            place.tasks.append(
                self._watched(place.sink.keep_looking(), f"processing {place.sink.source.name}")
            )

    async def _end(self, place: _Place) -> None:
        """Cancel a source and wait for its end, however long it takes: two must never read one peer."""
        name = place.sink.source.name
        told = False
        while True:
            for task in place.tasks:
                task.cancel()
            _, left = await asyncio.wait(place.tasks, timeout=self._stop_within_s)
            if not left:
                return
            if not told:
                told = True
                log.error("source %s does not end although it was told to", name, extra={"source": name})
                place.sink.count("does_not_end")
            place.sink.report(
                SourceState.UNAVAILABLE,
                "it does not end although it was told to, and its changed configuration waits for that; "
                "start the agent again",
            )

    def _watched(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._note_end)
        return task

    def _note_end(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self._failure.done():
            log.error("%s failed: %s", task.get_name(), error, exc_info=error)
        else:
            self._failure.set_exception(error)

    # Rules

    def _touched(self, sink: SourceSink, rules: Sequence[RuleConfig]) -> bool:
        """Tell whether other rules say something else of any series that the source has, or had."""
        if rules == self._rules:
            return False
        if sink.stage is not None:
            return not sink.stage.agrees(rules)
        keys = (SeriesKey(parse_asset(each.asset), each.signal) for each in sink.source.declarations())
        return any(rule_for(key, rules) is not None for key in keys)

    def _take_rules(self, place: _Place) -> None:
        """Let a source that goes on use the rules of now for series that it has not met yet."""
        sink = place.sink
        if sink.stage is not None:
            sink.stage.take_over(self._rules)
        elif self._rules:
            sink.stage = make_stage(self._rules, sink.source.name, sink.source.protocol, sink.saved)
            self._look(place)


__all__ = ["Changes", "MakeSource", "RunningSources", "make_source"]
