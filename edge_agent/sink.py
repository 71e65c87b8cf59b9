"""What a source is given: the way through its rules to the buffer, and the agent's ears for what it has to say."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Never

import msgspec

from edge_agent.buffer import Parcel
from edge_agent.intake import Intake
from edge_agent.processing.held import PREFIX
from edge_agent.processing.stage import Moment, Stage
from edge_agent.processing.step import NOTHING, Step
from edge_agent.sources import Source
from edge_agent.trouble import Trouble
from shopfloor.block import SampleBlock
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import SeriesDeclaration, SourceReport, SourceState, SpanKind, SpanRecord, new_id

log = logging.getLogger(__name__)

_MAX_MESSAGE: Final = 900
LOOK_EVERY_S: Final = 1.0
"""How often held readings and verdicts are looked at."""
_OVER_AFTER_S: Final = 10.0
"""A source that fails again within this time has not been well in between."""
_CONFIRM_BY_PUTS: Final = frozenset({"opcua"})
"""Protocols of which every put confirms what was said before: an OPC UA notification, with data or as a keep-alive, says
that nothing else has changed (OPC 10000-4 §5.14.1.1), and a subscription that falls silent ends the source. An MQTT
broker's message says nothing of other machines."""


def _moment() -> Moment:
    return Moment(time.time_ns(), time.monotonic_ns())


@dataclass(slots=True)
class SourceSink:
    """The BlockSink of one source."""

    source: Source
    intake: Intake
    scope: str
    saved: dict[str, bytes]
    """What this scope last saved durably."""
    events: Counter[tuple[str, str]]
    stage: Stage | None = None
    """The rules for its readings, None without any."""
    moment: Callable[[], Moment] = _moment
    now_report: SourceReport = field(init=False)
    running_since_s: float | None = field(default=None, init=False)
    """Since when the source is RUNNING, monotonic; None while it is not."""
    _down: Trouble = field(init=False)
    _partly: Trouble = field(init=False)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def __post_init__(self) -> None:
        name = self.source.name
        self._down, self._partly = (Trouble(log, f"source {name}", {"source": name}) for _ in range(2))
        self.now_report = SourceReport(
            name=self.source.name,
            protocol=self.source.protocol,
            state=SourceState.CONNECTING,
            since=time.time_ns(),
            assets=self.source.assets,
        )
        if self.stage is not None:
            self.stage.declare(self.source.declarations())

    async def put(self, block: SampleBlock, state: Mapping[str, bytes] | None = None) -> None:
        """See BlockSink.put."""
        stage = self.stage
        if stage is not None and self.source.protocol in _CONFIRM_BY_PUTS:
            stage.confirm(self.moment().now_ns)
        if stage is None or stage.passes(block):
            await self._store(block, state or {})
            return
        async with self._one_at_a_time:
            await self._finish(stage, stage.take(block, self.moment()), state or {})

    async def look(self) -> None:
        """Write what is due without any new reading; see `Stage.look`.

        Raises:
            StoreUnavailable: the disk does not take it; it is due again at the next look.
        """
        stage = self.stage
        if stage is None:
            return
        async with self._one_at_a_time:
            running = self.now_report.state is SourceState.RUNNING
            await self._finish(stage, stage.look(self.moment(), running=running), {})

    async def keep_looking(self) -> Never:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except StoreUnavailable as error:
                # The source meets the same at its next put, and reports it.
                log.debug("source %s: %s", self.source.name, error)

    def declarations(self) -> tuple[SeriesDeclaration, ...]:
        """Return what the source says of its series, under the names and units that its rules give them."""
        declared = self.source.declarations()
        return declared if self.stage is None else self.stage.declare(declared)

    async def _finish(self, stage: Stage, step: Step, state: Mapping[str, bytes]) -> None:
        """Make a step durable, or undo it: what is not durable comes again, and is decided again."""
        state = {**state, **step.state}
        try:
            if len(step.block) or state:
                await self._store(step.block, state)
        except BaseException:
            # A cancelled put may become durable all the same; what it stored is then recognised as repeated.
            step.undo()
            raise
        if step.thinned:
            self.count("thinned", step.thinned)
        for what, number in stage.counts.items():
            self.count(what, number)
        stage.counts.clear()

    async def _store(self, block: SampleBlock, state: Mapping[str, bytes]) -> None:
        await self.intake.put(Parcel(block, self.scope, state))
        for key, value in state.items():
            if value:
                self.saved[key] = value
            else:
                self.saved.pop(key, None)

    def state(self) -> Mapping[str, bytes]:
        """See BlockSink.state."""
        return {key: value for key, value in self.saved.items() if not key.startswith(PREFIX)}

    async def gap(
        self, reason: str, from_time: int, to_time: int, *, asset: str = "", count: int = 0
    ) -> None:
        """See BlockSink.gap."""
        log.warning("source %s: gap: %s", self.source.name, reason, extra={"source": self.source.name})
        self.count("gap")
        record = SpanRecord(
            record_id=new_id(),
            stream_id="",
            kind=SpanKind.SOURCE_GAP,
            reason=reason[:_MAX_MESSAGE],
            source=self.source.name,
            asset=asset,
            from_time=from_time,
            to_time=to_time,
            count=count,
            at_least=True,
        )
        await self.intake.put(Parcel(NOTHING, spans=(record,)))

    def report(self, state: SourceState, message: str = "") -> None:
        """See BlockSink.report."""
        before = self.now_report
        if state is SourceState.CONNECTING and before.state is not SourceState.RUNNING:
            # Another attempt is no news; the reason of the last failure stays until one succeeds.
            return
        self._tell(before, state, message)
        if before.state is state and before.message == message[:_MAX_MESSAGE]:
            return
        if state is not before.state:
            self.running_since_s = time.monotonic() if state is SourceState.RUNNING else None
        if self.stage is not None and before.state is SourceState.RUNNING and state is not before.state:
            self.stage.interrupt()
        self.now_report = msgspec.structs.replace(
            before,
            state=state,
            message=message[:_MAX_MESSAGE],
            since=before.since if before.state is state else time.time_ns(),
        )

    def _tell(self, before: SourceReport, state: SourceState, message: str) -> None:
        """Log what is new: a failure once, its end once."""
        if state in {SourceState.UNAVAILABLE, SourceState.MISCONFIGURED}:
            self._down.met(f"{state}: {message}")
            return
        if state is not before.state and not self._down.times:
            log.info("source %s: %s", self.source.name, state, extra={"source": self.source.name})
        if state is SourceState.RUNNING and message:
            self._partly.met(message)
        self._settle(state, message)

    def settle(self) -> None:
        """Log what is over: to be called every few seconds."""
        self._settle(self.now_report.state, self.now_report.message)

    def _settle(self, state: SourceState, message: str) -> None:
        if state is SourceState.RUNNING:
            self._down.over("running again", well_s=_OVER_AFTER_S)
            if not message:
                self._partly.over("nothing is missing any more", well_s=_OVER_AFTER_S)

    def clock_offset(self, offset_ns: int) -> None:
        """See BlockSink.clock_offset."""
        self.now_report = msgspec.structs.replace(self.now_report, clock_offset_ns=offset_ns)

    def count(self, what: str, number: int = 1) -> None:
        """See BlockSink.count."""
        self.events[self.source.name, what] += number
