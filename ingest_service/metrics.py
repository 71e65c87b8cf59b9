"""What ``/metrics`` shows."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """The service's counters, in a registry of their own so that several services fit into one process."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self.batches = Counter("shopfloor_ingest_batches", "Batches acknowledged", registry=registry)
        self.stored = Counter("shopfloor_ingest_samples_stored", "Samples stored", registry=registry)
        self.repeated = Counter(
            "shopfloor_ingest_samples_repeated",
            "Samples at or under their stream's watermark",
            registry=registry,
        )
        self.rejected = Counter(
            "shopfloor_ingest_samples_rejected", "Samples rejected, by reason", ["reason"], registry=registry
        )
        self.refusals = Counter(
            "shopfloor_ingest_refusals",
            "Requests of agents not taken, by HTTP status or reason",
            ["reason"],
            registry=registry,
        )
        self.reader_refusals = Counter(
            "shopfloor_ingest_reader_refusals",
            "Requests of readers not answered, by HTTP status or reason",
            ["reason"],
            registry=registry,
        )
        self.gaps = Counter(
            "shopfloor_ingest_gaps", "Holes in a stream that no loss record explains", registry=registry
        )
        self.missing = Counter(
            "shopfloor_ingest_samples_missing", "Sequence numbers in those holes", registry=registry
        )
        self.received_bytes = Counter(
            "shopfloor_ingest_received_bytes", "Bytes of batches received", registry=registry
        )
        self.commit_seconds = Histogram(
            "shopfloor_ingest_commit_seconds",
            "Seconds that a commit took",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
            registry=registry,
        )
        self.commit_rows = Counter(
            "shopfloor_ingest_commit_rows", "Rows written by commits", registry=registry
        )
        self.waiting_bytes = Gauge(
            "shopfloor_ingest_waiting_bytes", "Bytes of batches that wait for their commit", registry=registry
        )
        self.viewers = Gauge("shopfloor_ingest_viewers", "Open live pages", registry=registry)
        self.series = Gauge("shopfloor_ingest_series", "Series known", registry=registry)
        self.agents = Gauge(
            "shopfloor_ingest_agents", "Agents, by whether they have contact", ["contact"], registry=registry
        )

        self.alarms = Gauge("shopfloor_ingest_alarms", "Active alarms, by kind", ["kind"], registry=registry)
        self.waiting_batches = Gauge(
            "shopfloor_ingest_waiting_batches",
            "Batches that wait for their turn to be written",
            registry=registry,
        )
        self.hot_rows = Gauge(
            "shopfloor_ingest_store_hot_rows",
            "Samples in the hot file of the embedded store that takes what comes",
            registry=registry,
        )
        self.hot_generations = Gauge(
            "shopfloor_ingest_store_generations",
            "Hot files that wait to be rewritten; growing, they tell of a disk or processor that is too slow",
            registry=registry,
        )

    def observe_commit(self, seconds: float, rows: int) -> None:
        """Take note of a commit; called on the store's thread."""
        self.commit_seconds.observe(seconds)
        self.commit_rows.inc(rows)

    def render(self) -> bytes:
        """Return the text of ``/metrics``."""
        return generate_latest(self.registry)
