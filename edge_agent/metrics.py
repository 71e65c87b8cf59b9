"""The agent's figures for Prometheus, in its text format and by its naming conventions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from edge_agent.status import Snapshot
from shopfloor.messages import SourceState


class AgentCollector(Collector):
    """Turns snapshots into metrics when Prometheus asks."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of the agent."""
        now = self._snapshot()
        for name, what, total in _counters(now):
            yield CounterMetricFamily(name, what, total)
        for name, what, value in _gauges(now):
            if value is not None:
                yield GaugeMetricFamily(name, what, value)
        yield InfoMetricFamily(
            "shopfloor_agent",
            "What runs here",
            {"agent": now.agent_id, "version": now.version, "config_hash": now.config.hash},
        )
        running = GaugeMetricFamily(
            "shopfloor_source_running", "1 while the source runs", labels=["source", "protocol"]
        )
        events = CounterMetricFamily("shopfloor_source_events", "What sources met", labels=["source", "what"])
        for source in now.sources:
            running.add_metric([source.name, source.protocol], int(source.state is SourceState.RUNNING))
            for what, total in sorted(source.events.items()):
                events.add_metric([source.name, what], total)
        yield running
        yield events


def metrics_text(snapshot: Callable[[], Snapshot]) -> Callable[[], bytes]:
    """Return what renders ``/metrics`` of snapshots."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(AgentCollector(snapshot))
    return lambda: generate_latest(registry)


def _counters(now: Snapshot) -> Iterator[tuple[str, str, int]]:
    buffer, delivery = now.buffer, now.delivery
    yield from (
        ("shopfloor_buffer_appended_samples", "Samples made durable", buffer.appended_samples_total),
        ("shopfloor_buffer_appended_bytes", "Bytes made durable", buffer.appended_bytes_total),
        ("shopfloor_buffer_delivered_samples", "Samples delivered", buffer.delivered_samples_total),
        ("shopfloor_buffer_repeats", "Readings recognised as already taken", buffer.repeats_total),
        ("shopfloor_buffer_moved", "Samples moved by nanoseconds", buffer.moved_total),
        ("shopfloor_buffer_dropped_samples", "Samples dropped", buffer.dropped_samples_total),
        ("shopfloor_buffer_quarantined_samples", "Samples refused", buffer.quarantined_samples_total),
        ("shopfloor_buffer_damaged_rows", "Buffer rows found damaged", buffer.damaged_rows_total),
        ("shopfloor_buffer_commits", "Transactions", now.commits_total),
        ("shopfloor_uplink_batches", "Batches delivered", delivery.batches_total),
        ("shopfloor_uplink_samples", "Samples delivered", delivery.samples_total),
        ("shopfloor_uplink_bytes", "Bytes of delivered batches", now.sent_bytes_total),
        ("shopfloor_uplink_failures", "Attempts that failed", delivery.failures_total),
        ("shopfloor_uplink_too_large_batches", "Batches to be halved (413)", delivery.too_large_total),
        ("shopfloor_uplink_rejected_samples", "Samples quarantined by the service", delivery.rejected_total),
        ("shopfloor_uplink_refused_batches", "Batches refused by the service", delivery.refused_total),
        ("shopfloor_heartbeat_failures", "Heartbeats that failed", delivery.heartbeat_failures_total),
        ("shopfloor_config_reloads", "Changed configurations that were taken over", now.config.reloads_total),
        ("shopfloor_config_refusals", "Changed configurations that were refused", now.config.refusals_total),
    )


def _gauges(now: Snapshot) -> Iterator[tuple[str, str, float | None]]:
    """Yield gauges; None where there is nothing to measure."""
    buffer, delivery = now.buffer, now.delivery
    yield from (
        ("shopfloor_agent_start_time_seconds", "Unix time of the agent's start", now.started_ns / 1e9),
        ("shopfloor_agent_stuck", "Parts of the agent that do not answer", len(now.stuck)),
        (
            "shopfloor_config_valid",
            "1 while the configuration file is the one that runs, 0 while it holds one that was refused",
            int(now.config.valid),
        ),
        (
            "shopfloor_config_loaded_timestamp_seconds",
            "Unix time since which the configuration runs",
            now.config.loaded_ns / 1e9,
        ),
        ("shopfloor_buffer_pending_samples", "Samples waiting", buffer.pending_samples),
        (
            "shopfloor_buffer_oldest_pending_timestamp_seconds",
            "Unix time at which the oldest waiting sample was received",
            None if buffer.oldest_pending_time is None else buffer.oldest_pending_time / 1e9,
        ),
        ("shopfloor_buffer_streams", "Streams with something waiting", buffer.streams),
        ("shopfloor_buffer_used_bytes", "Bytes used", buffer.used_bytes),
        ("shopfloor_buffer_limit_bytes", "Bytes allowed", buffer.limit_bytes),
        (
            "shopfloor_buffer_left_seconds",
            "How long the buffer lasts at the rate at which it fills",
            None if now.hours_left is None else now.hours_left * 3600,
        ),
        ("shopfloor_buffer_commit_seconds", "Duration of the last transaction", now.commit_s),
        (
            "shopfloor_uplink_connected",
            "1 while the service takes what it is sent",
            int(delivery.connected and not delivery.heartbeat_message),
        ),
        (
            "shopfloor_uplink_last_receipt_timestamp_seconds",
            "Unix time of the last receipt",
            None if delivery.last_receipt_ns is None else delivery.last_receipt_ns / 1e9,
        ),
        (
            "shopfloor_uplink_unauthorised",
            "1 while the token is not accepted",
            int(delivery.unauthorised or delivery.heartbeat_unauthorised),
        ),
    )
