"""Lets ``/metrics`` ask the parts of the service how they are, at the moment when it is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ingest_service.admission import Admission
from ingest_service.agents import AgentBook
from ingest_service.alarm_rules import Kind
from ingest_service.alarms import AlarmBook
from ingest_service.backpressure import Backpressure
from ingest_service.live import LiveHub
from ingest_service.metrics import Metrics
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.opening import ServiceStore


def connect_gauges(
    metrics: Metrics,
    store: ServiceStore,
    admission: Admission,
    backpressure: Backpressure,
    hub: LiveHub,
    alarms: AlarmBook,
    book: AgentBook,
    clock_ns: Callable[[], int],
) -> None:
    """Connect each gauge with what it shows."""
    metrics.waiting_bytes.set_function(lambda: backpressure.waiting_bytes)
    metrics.waiting_batches.set_function(lambda: admission.gate.waiting)
    metrics.viewers.set_function(lambda: len(hub))
    metrics.series.set_function(lambda: len(store.index))
    for kind in Kind:
        metrics.alarms.labels(kind).set_function(partial(alarms.count, kind))
    if isinstance(store, DuckDBStore):
        metrics.hot_rows.set_function(lambda: store.backlog().hot_rows)
        metrics.hot_generations.set_function(lambda: store.backlog().generations)

    def agents(*, contact: bool) -> Callable[[], float]:
        return lambda: sum(book.has_contact(one, clock_ns()) is contact for one in book.ids())

    metrics.agents.labels("yes").set_function(agents(contact=True))
    metrics.agents.labels("no").set_function(agents(contact=False))


__all__ = ["connect_gauges"]
