"""What the agent says of itself: ``/health`` for people and probes, ``/metrics`` for Prometheus."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge_agent.buffer import BufferStats
from edge_agent.delivery import DeliveryReport
from shopfloor.messages import SourceReport, SourceState

log = logging.getLogger(__name__)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The agent at one moment, taken on the event loop and read by anybody."""

    agent_id: str
    version: str
    started_ns: int
    sources: tuple[SourceReport, ...]
    source_events: dict[tuple[str, str], int]
    buffer: BufferStats
    hours_left: float | None
    delivery: DeliveryReport
    commits_total: int
    commit_s: float
    sent_bytes_total: int


def problems(snapshot: Snapshot) -> list[str]:
    """Name what a person should look at; empty while all is well."""
    found = [
        f"source {source.name}: {source.state}{': ' if source.message else ''}{source.message}"
        for source in snapshot.sources
        if source.state is not SourceState.RUNNING or source.message
    ]
    delivery = snapshot.delivery
    if not delivery.connected:
        found.append(f"uplink: {delivery.message}")
    if delivery.heartbeat_message and (delivery.connected or delivery.heartbeat_message != delivery.message):
        found.append(f"heartbeats: {delivery.heartbeat_message}")
    if delivery.rejected_total:
        found.append(f"uplink: {delivery.rejected_total} samples rejected by the service since the start")
    if snapshot.buffer.dropped_samples_total:
        found.append(f"buffer: {snapshot.buffer.dropped_samples_total} samples dropped since the start")
    if snapshot.buffer.quarantined_samples_total:
        found.append(
            f"buffer: {snapshot.buffer.quarantined_samples_total} samples quarantined since the start"
        )
    return found


def health(snapshot: Snapshot) -> dict[str, Any]:
    """Return the body of ``/health``."""
    found = problems(snapshot)
    return {
        "status": "degraded" if found else "ok",
        "problems": found,
        "agent": snapshot.agent_id,
        "version": snapshot.version,
        "started_ns": snapshot.started_ns,
        "sources": msgspec.to_builtins(snapshot.sources),
        "buffer": msgspec.to_builtins(snapshot.buffer) | {"hours_left": snapshot.hours_left},
        "uplink": msgspec.to_builtins(snapshot.delivery),
    }


class AgentCollector(Collector):
    """Turns snapshots into metrics when Prometheus asks."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of the agent."""
        now = self._snapshot()
        buffer, delivery = now.buffer, now.delivery
        for name, what, total in (
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
            ("shopfloor_heartbeat_failures", "Heartbeats that failed", delivery.heartbeat_failures_total),
            (
                "shopfloor_uplink_rejected_samples",
                "Samples quarantined by the service",
                delivery.rejected_total,
            ),
            ("shopfloor_uplink_refused_batches", "Batches refused by the service", delivery.refused_total),
        ):
            yield CounterMetricFamily(name, what, total)
        for name, what, value in (
            ("shopfloor_buffer_pending_samples", "Samples waiting", buffer.pending_samples),
            ("shopfloor_buffer_streams", "Streams with something waiting", buffer.streams),
            ("shopfloor_buffer_used_bytes", "Bytes used", buffer.used_bytes),
            ("shopfloor_buffer_limit_bytes", "Bytes allowed", buffer.limit_bytes),
            ("shopfloor_buffer_commit_seconds", "Duration of the last transaction", now.commit_s),
            (
                "shopfloor_uplink_connected",
                "1 while the service takes what it is sent",
                int(delivery.connected and not delivery.heartbeat_message),
            ),
            (
                "shopfloor_uplink_unauthorised",
                "1 while the token is not accepted",
                int(delivery.unauthorised or delivery.heartbeat_unauthorised),
            ),
        ):
            yield GaugeMetricFamily(name, what, value)
        running = GaugeMetricFamily(
            "shopfloor_source_running", "1 while the source runs", labels=["source", "protocol"]
        )
        for source in now.sources:
            running.add_metric([source.name, source.protocol], int(source.state is SourceState.RUNNING))
        yield running
        events = CounterMetricFamily("shopfloor_source_events", "What sources met", labels=["source", "what"])
        for (source_name, what), total in sorted(now.source_events.items()):
            events.add_metric([source_name, what], total)
        yield events


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the standard library's name
        """Write nothing: probes come every few seconds."""


class StatusServer:
    """Serves the page from a thread of its own, so that a busy event loop still answers probes."""

    def __init__(self, host: str, port: int, snapshot: Callable[[], Snapshot]) -> None:
        """Listen; raises OSError where the port is taken."""
        self._snapshot = snapshot
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(AgentCollector(snapshot))
        try:
            self._server = make_server(host, port, self._answer, server_class=_Server, handler_class=_Quiet)
        except OSError as error:
            raise OSError(f"status page at {host}:{port}: {error}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.server_port

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            status, kind, body = HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        elif path in {"/health", "/"}:
            status, kind = HTTPStatus.OK, "application/json"
            body = json.dumps(health(self._snapshot()), indent=1).encode()
        else:
            status, kind, body = HTTPStatus.NOT_FOUND, "text/plain", b"/health or /metrics\n"
        start_response(
            f"{status.value} {status.phrase}", [("content-type", kind), ("content-length", str(len(body)))]
        )
        return [body]
