"""One edge agent: its sources, its buffer, its way up, and what it says of itself."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Never

import msgspec

from edge_agent.backoff import Backoff
from edge_agent.buffer import BufferStats
from edge_agent.buffer.filling import FillRate
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from edge_agent.config import Config
from edge_agent.delivery import Delivery, DeliveryLimits
from edge_agent.intake import BufferThread, Intake
from edge_agent.processing.stage import make_stage
from edge_agent.sink import SourceSink
from edge_agent.sources import Source
from edge_agent.status import Snapshot, StatusServer
from edge_agent.supervisor import supervise
from edge_agent.uplink import AiohttpExchange, HttpUplink
from shopfloor.asset import parse_asset
from shopfloor.errors import UplinkUnavailable
from shopfloor.messages import BufferReport, Heartbeat, SeriesDeclarations, SourceReport
from shopfloor.wire import WIRE_VERSION

log = logging.getLogger(__name__)


def agent_version() -> str:
    """Return the installed version."""
    try:
        return version("shopfloor")
    except PackageNotFoundError:
        return "unknown"


def connect_uplink(config: Config) -> AiohttpExchange:
    """Return the way to the configured service; nothing is sent yet."""
    uplink = config.uplink
    return AiohttpExchange(
        uplink.url,
        uplink.token.get_secret_value(),
        timeout_s=uplink.timeout_s,
        ca_file=str(uplink.ca_file) if uplink.ca_file else None,
    )


def make_sources(config: Config) -> list[tuple[Source, str]]:
    """Return the configured sources, each with the scope of its state: its protocol and its peer."""
    # Each protocol's library is large: an agent imports only what its configuration uses.
    made: list[tuple[Source, str]] = []
    for entry in config.sources:
        if entry.opcua is not None:
            from edge_agent.sources.opcua import OpcUaSource  # noqa: PLC0415

            source = OpcUaSource(entry.opcua, agent_id=config.agent.id, pki=config.data / "pki")
            made.append((source, entry.scope))
        if entry.mqtt is not None:
            from edge_agent.sources.mqtt import MqttSource  # noqa: PLC0415

            made.append((MqttSource(entry.mqtt), entry.scope))
        if entry.sparkplug is not None:
            from edge_agent.sources.sparkplug import SparkplugSource  # noqa: PLC0415

            made.append((SparkplugSource(entry.sparkplug), entry.scope))
    return made


class Agent:
    """Everything that one configuration starts."""

    def __init__(self, config: Config, config_text: bytes) -> None:
        self._config = config
        self._config_hash = hashlib.sha256(config_text).hexdigest()[:16]
        self._started_ns = time.time_ns()
        self._events: Counter[tuple[str, str]] = Counter()
        self._sinks: list[SourceSink] = []
        self._stats = BufferStats()
        self._fill = FillRate()

    async def run(self, ready: asyncio.Event | None = None) -> Never:
        """Run until cancelled; then everything is closed, and what is not delivered waits on disk.

        Raises:
            StoreUnavailable: the data folder can't be used.
            OSError: the status page's port is taken.
        """
        config = self._config
        buffer_config = config.buffer
        limits = BufferLimits(
            max_bytes=buffer_config.max_bytes,
            disk_reserve_bytes=buffer_config.disk_reserve,
            when_full=buffer_config.when_full,
            repeat_window_samples=buffer_config.repeat_window_samples,
        )
        with ThreadPoolExecutor(1, thread_name_prefix="buffer") as executor:
            loop = asyncio.get_running_loop()
            buffer = await loop.run_in_executor(executor, SqliteBuffer, config.data, limits, config.agent.id)
            thread = BufferThread(buffer, executor)
            intake = Intake(thread, min_commit_interval_s=buffer_config.min_commit_interval_ms / 1000)
            exchange = connect_uplink(config)
            uplink = HttpUplink(exchange)
            delivery = Delivery(
                thread,
                intake,
                uplink,
                DeliveryLimits(
                    batch_samples=config.uplink.batch_samples,
                    linger_s=config.uplink.linger_ms / 1000,
                    backlog_share=config.uplink.backlog_share,
                ),
            )
            status: StatusServer | None = None
            try:
                await self._refresh(thread)
                if config.status is not None:
                    status = StatusServer(
                        *config.status.address, lambda: self._snapshot(intake, delivery, uplink)
                    )
                for source, scope in make_sources(config):
                    saved = await thread.call(lambda buffer, scope=scope: buffer.state(scope))  # type: ignore[misc]
                    stage = make_stage(config.processing, source.name, source.protocol, saved)
                    self._sinks.append(SourceSink(source, intake, scope, saved, self._events, stage))
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(intake.run(), name="intake")
                    tasks.create_task(delivery.run_live(), name="live")
                    tasks.create_task(delivery.run_backlog(), name="backlog")
                    tasks.create_task(self._heartbeats(thread, delivery, uplink), name="heartbeats")
                    for sink in self._sinks:
                        if sink.stage is not None:
                            tasks.create_task(sink.keep_looking(), name=f"processing {sink.source.name}")
                        tasks.create_task(
                            supervise(sink.source, sink, Backoff(0.5, 30.0)),
                            name=f"source {sink.source.name}",
                        )
                    if ready is not None:
                        ready.set()
                raise AssertionError("the agent's tasks run for ever")
            finally:
                if status is not None:
                    status.close()
                await exchange.close()
                await loop.run_in_executor(executor, buffer.close)

    async def _refresh(self, thread: BufferThread) -> None:
        self._stats = await thread.call(lambda buffer: buffer.stats())
        self._fill.note(self._stats.pending_bytes, self._stats.dropped_samples_total)

    def _hours_left(self) -> float | None:
        return self._fill.hours_left(self._stats.left_bytes) if self._stats.pending_samples else None

    async def _heartbeats(self, thread: BufferThread, delivery: Delivery, uplink: HttpUplink) -> Never:
        interval_s = self._config.uplink.heartbeat_s
        declared = 0
        while True:
            started = time.monotonic()
            await self._refresh(thread)
            try:
                reply = await uplink.send_heartbeat(self._heartbeat())
                known = sum(len(sink.source.declarations()) for sink in self._sinks)
                # A source that learns its series from what it hears (MQTT) has more to say as time goes by.
                if reply.declarations_wanted or known > declared:
                    await uplink.declare(self._declarations())
                    declared = known
                if not self._stats.pending_samples:
                    # With something pending, only a receipt for it shows that all is well.
                    delivery.connected()
                delivery.heartbeat_sent()
            except UplinkUnavailable as error:
                delivery.heartbeat_failed(error)
            await asyncio.sleep(max(0.1, interval_s - (time.monotonic() - started)))

    def _heartbeat(self) -> Heartbeat:
        stats = self._stats
        return Heartbeat(
            agent_id=self._config.agent.id,
            asset=self._config.agent.asset,
            version=agent_version(),
            wire_version=WIRE_VERSION,
            config_hash=self._config_hash,
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
            ),
        )

    def _declarations(self) -> SeriesDeclarations:
        declared = [declaration for sink in self._sinks for declaration in sink.declarations()]
        return SeriesDeclarations(self._config.agent.id, self._config_hash, tuple(declared))

    def _source_reports(self) -> tuple[SourceReport, ...]:
        own = parse_asset(self._config.agent.asset)
        return tuple(
            # Assets come to be known as machines speak. A heartbeat that names one outside the token's is refused whole.
            msgspec.structs.replace(
                sink.now_report,
                assets=tuple(str(asset) for asset in sink.source.assets if own.contains(asset)),
            )
            for sink in self._sinks
        )

    def _snapshot(self, intake: Intake, delivery: Delivery, uplink: HttpUplink) -> Snapshot:
        return Snapshot(
            agent_id=self._config.agent.id,
            version=agent_version(),
            started_ns=self._started_ns,
            sources=self._source_reports(),
            source_events=dict(self._events),
            buffer=self._stats,
            hours_left=self._hours_left(),
            delivery=delivery.report,
            commits_total=intake.commits_total,
            commit_s=intake.commit_s,
            sent_bytes_total=uplink.sent_bytes_total,
        )


__all__: Sequence[str] = ["Agent", "SourceSink", "agent_version", "connect_uplink", "make_sources"]
