"""The store that the configuration names, opened."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ingest_service.config import IngestConfig, StoreConfig
from ingest_service.plant.store import PlantStore
from ingest_service.store_config import InfluxDBStoreConfig, VictoriaMetricsStoreConfig
from ingest_service.stores import CommitListener, SampleStore
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_schema import Tuning
from ingest_service.stores.latest import LatestTable
from ingest_service.stores.own_points import Point
from ingest_service.stores.series import SeriesIndex
from ingest_service.stores.server_points import PointStore
from ingest_service.stores.server_store import ServerStore
from shopfloor.reports import REPORT_EVERY_S


class ServiceStore(SampleStore, Protocol):
    """What the service asks of its store beside samples."""

    index: SeriesIndex
    newest: LatestTable
    listeners: list[CommitListener]

    def stream_agent(self, stream_id: str) -> str | None:
        """Return the agent that first wrote a stream, where that is known without asking a database."""
        ...

    async def check(self) -> None:
        """Raise StoreUnavailable where the store does not answer."""
        ...


def open_store(
    config: IngestConfig,
    plant: PlantStore,
    watched: frozenset[str],
    observe_commit: Callable[[float, int], None],
) -> ServiceStore:
    """Open the store.

    Args:
        config: the service's.
        plant: where what a store can't hold goes.
        watched: signals of which every sample matters, also one that another process stored.
        observe_commit: told the seconds and rows of each commit.

    Raises:
        StoreUnavailable: it can't be opened.
    """
    store = config.store
    if isinstance(store, StoreConfig):
        return DuckDBStore(
            config.data / "samples.duckdb",
            Tuning(
                store.memory_bytes,
                store.threads,
                store.checkpoint_bytes,
                reserve_bytes=store.reserve_bytes,
                compaction_share=store.compaction_share,
            ),
            quarantine=plant.put_quarantine,
            observe_commit=observe_commit,
            rules=[one.rule for one in store.retention],
        )
    return ServerStore(
        open_points(store),
        plant.engine,
        patience_s=2 * store.timeout_s,
        watched=watched,
        quarantine=plant.put_quarantine,
        observe_commit=observe_commit,
    )


def heard_of(store: ServiceStore) -> deque[tuple[str, list[str]]]:
    """Return where a store puts what other processes say of agents and the assets that they write."""
    return store.heard if isinstance(store, ServerStore) else deque()


def report_to(store: ServiceStore) -> Callable[[Sequence[Point]], Awaitable[None]] | None:
    """Return what takes the service's own points; None for the embedded store, whose readers ask the service itself."""
    return store.report if isinstance(store, ServerStore) else None


def roll_up_of(store: ServiceStore) -> Callable[[int], Awaitable[bool]] | None:
    """Return what makes rollups, a step at a time; None for stores that make theirs themselves or have none."""
    return store.roll_up if isinstance(store, ServerStore) and store.has_rollups else None


def report_every_s(config: StoreConfig | InfluxDBStoreConfig | VictoriaMetricsStoreConfig) -> float:
    """Return the seconds between two reports."""
    return REPORT_EVERY_S if isinstance(config, StoreConfig) else config.report_every_s


def open_points(config: InfluxDBStoreConfig | VictoriaMetricsStoreConfig) -> PointStore:
    """Return the client of a server; it has not asked it anything yet."""
    # Their clients cost whoever has neither half a second at each start.
    if isinstance(config, InfluxDBStoreConfig):
        from ingest_service.stores.influxdb import InfluxDB  # noqa: PLC0415

        return InfluxDB(config)
    from ingest_service.stores.victoriametrics import VictoriaMetrics  # noqa: PLC0415

    return VictoriaMetrics(config)
