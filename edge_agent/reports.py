"""What the agent knows of itself, as heartbeats, declarations and the status page say it."""

from __future__ import annotations

import logging
import time

import msgspec

from edge_agent.buffer import BufferStats
from edge_agent.buffer.filling import FillRate
from edge_agent.config import Config
from edge_agent.delivery import Delivery
from edge_agent.intake import BufferThread, Intake
from edge_agent.pulse import Pulse
from edge_agent.running import RunningSources
from edge_agent.status import ConfigReport, Snapshot
from edge_agent.trouble import Trouble
from edge_agent.uplink import HttpUplink
from edge_agent.version import agent_version
from shopfloor.asset import parse_asset
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import (
    MAX_PENDING_STREAMS,
    MAX_SOURCE_EVENTS,
    BufferReport,
    Heartbeat,
    PendingStream,
    SeriesDeclaration,
    SeriesDeclarations,
    SourceReport,
    SourceState,
)
from shopfloor.systemd import Notifier
from shopfloor.wire import WIRE_VERSION

log = logging.getLogger(__name__)

_MAX_TEXT = 1000


class Reports:
    """Gathers what the parts of one agent have to say."""

    def __init__(
        self,
        config: Config,
        config_report: ConfigReport,
        *,
        buffer: BufferThread,
        intake: Intake,
        sources: RunningSources,
        delivery: Delivery,
        uplink: HttpUplink,
        pulse: Pulse,
        notifier: Notifier,
    ) -> None:
        self.config, self.config_report = config, config_report
        self.stats = BufferStats()
        self._buffer, self._intake, self._sources = buffer, intake, sources
        self._delivery, self._uplink, self._pulse, self._notifier = delivery, uplink, pulse, notifier
        self._fill = FillRate()
        self._started_ns, self._started_s = time.time_ns(), time.monotonic()
        self._unreadable = Trouble(log, "figures of the buffer")

    async def refresh(self) -> None:
        """Take the buffer's figures, and tell what is over; a buffer that can't be read keeps the last ones."""
        try:
            self.stats = await self._buffer.call(lambda buffer: buffer.stats())
        except StoreUnavailable as error:
            self._unreadable.met(str(error))
        else:
            self._unreadable.over("can be read again")
            self._fill.note(self.stats.pending_bytes, self.stats.dropped_samples_total)
        for sink in self._sources.sinks:
            sink.settle()
        self._notifier.status(self._line())

    def heartbeat(self) -> Heartbeat:
        """Return the heartbeat of now."""
        stats, config = self.stats, self.config_report
        return Heartbeat(
            agent_id=self.config.agent.id,
            asset=self.config.agent.asset,
            version=agent_version(),
            wire_version=WIRE_VERSION,
            config_hash=config.hash,
            started=self._started_ns,
            sent=time.time_ns(),
            sources=self._source_reports(),
            buffer=BufferReport(
                streams=stats.streams,
                pending_samples=stats.pending_samples,
                oldest_pending_time=stats.oldest_pending_time,
                used_bytes=stats.used_bytes,
                limit_bytes=stats.limit_bytes,
                hours_left=self._hours_left(),
                dropped_samples=stats.dropped_samples_total,
                quarantined_samples=stats.quarantined_samples_total,
                pending=(
                    tuple(PendingStream(*stream) for stream in stats.pending)
                    if stats.pending is not None and len(stats.pending) <= MAX_PENDING_STREAMS
                    else None
                ),
                waiting_spans=stats.waiting_spans,
            ),
            config_valid=config.valid,
            config_message="; ".join(config.problems)[:_MAX_TEXT],
        )

    def known_series(self) -> list[tuple[SeriesDeclaration, ...]]:
        """Return what the sources themselves know of their series: equal until one of them knows more."""
        return [sink.source.declarations() for sink in self._sources.sinks]

    def declarations(self) -> SeriesDeclarations:
        """Return what there is to say about all series."""
        declared = [declaration for sink in self._sources.sinks for declaration in sink.declarations()]
        return SeriesDeclarations(self.config.agent.id, self.config_report.hash, tuple(declared))

    def snapshot(self) -> Snapshot:
        """Return the agent as it is now; may be called from any thread."""
        return Snapshot(
            agent_id=self.config.agent.id,
            asset=str(self.config.agent.asset),
            version=agent_version(),
            started_ns=self._started_ns,
            taken_ns=time.time_ns(),
            uptime_s=time.monotonic() - self._started_s,
            sources=self._source_reports(),
            config=self.config_report,
            buffer=self.stats,
            hours_left=self._hours_left(),
            uplink_url=self.config.uplink.url,
            delivery=self._delivery.report,
            commits_total=self._intake.commits_total,
            commit_s=self._intake.commit_s,
            sent_bytes_total=self._uplink.sent_bytes_total,
            stuck=self._pulse.stuck(),
        )

    def _source_reports(self) -> tuple[SourceReport, ...]:
        own = parse_asset(self.config.agent.asset)
        return tuple(
            # Assets come to be known as machines speak. A heartbeat that names one outside the token's is refused whole.
            msgspec.structs.replace(
                sink.now_report,
                assets=tuple(str(asset) for asset in sink.source.assets if own.contains(asset)),
                events=dict(sorted(self._sources.events_of(sink.source.name).items())[:MAX_SOURCE_EVENTS]),
            )
            for sink in self._sources.sinks
        )

    def _hours_left(self) -> float | None:
        return self._fill.hours_left(self.stats.left_bytes) if self.stats.pending_samples else None

    def _line(self) -> str:
        """Return one line for ``systemctl status``."""
        sinks = self._sources.sinks
        running = sum(sink.now_report.state is SourceState.RUNNING for sink in sinks)
        uplink = "connected" if self._delivery.report.connected else "not connected"
        refused = "" if self.config_report.valid else "; changed configuration refused"
        waiting = self.stats.pending_samples
        return (
            f"{running} of {len(sinks)} sources running, uplink {uplink}, {waiting} samples waiting{refused}"
        )
