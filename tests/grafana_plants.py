"""Simulated plants in a database server, through our own service: samples, and what the service reports of agents."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from ingest_service.config import IngestConfig
from ingest_service.plant.schema import quarantine
from ingest_service.service import Service
from ingest_service.stores import Admitted
from shopfloor.block import SampleBlock
from shopfloor.messages import (
    Batch,
    BufferReport,
    Heartbeat,
    Lane,
    SourceReport,
    SourceState,
    SpanKind,
    SpanRecord,
)
from simulators.scenario import THREE_PLANTS, Scenario, load_scenario
from tests.simulated_plants import samples_of

S = 1_000_000_000
MIDNIGHT = 1_764_000_000 * S
"""2025-11-24T16:00:00Z: a day begins in Hong Kong and Dongguan."""
BEGIN, END = MIDNIGHT - 240 * S, MIDNIGHT + 180 * S
_REPORT_NS = 30 * S
_WRITE_NS = 210 * S
ZONES = {"acme/hk01": "Asia/Hong_Kong", "acme/dg01": "Asia/Shanghai", "acme/vn01": "Asia/Ho_Chi_Minh"}


def few_machines() -> Scenario:
    """One machine a site, with the compressor and a temperature control unit of Dongguan."""
    whole = load_scenario(THREE_PLANTS)
    sites = tuple(
        site.model_copy(
            update={
                "machines": site.machines[:1],
                "lines": (),
                "garment_cells": (),
                "tcus": site.tcus[:1],
                "compressors": site.compressors[:1],
            }
        )
        for site in whole.sites
    )
    return whole.model_copy(update={"sites": sites})


@lru_cache(maxsize=1)
def said() -> dict[str, SampleBlock]:
    """What each site says, by asset."""
    scenario = few_machines()
    return {str(site.asset): samples_of(scenario, site, BEGIN, END) for site in scenario.sites}


def heartbeat(asset: str, at: int) -> Heartbeat:
    """Of a site's agent; Dongguan's buffer fills."""
    fills = asset.endswith("dg01")
    machines = tuple({str(key.asset) for key in said()[asset].series})
    return Heartbeat(
        agent_id=f"gw.{asset[-4:]}",
        asset=asset,
        version="1",
        wire_version=1,
        config_hash="h",
        started=BEGIN + 5 * S,
        sent=at + S // 4,
        sources=(
            SourceReport(
                name='press\'s "line" 1/2 (new)',
                protocol="opcua",
                state=SourceState.RUNNING,
                since=BEGIN,
                assets=machines,
                clock_offset_ns=-420 * S,
            ),
        ),
        buffer=BufferReport(
            streams=1,
            pending_samples=500 if fills else 0,
            oldest_pending_time=at - 90 * S if fills else None,
            used_bytes=2**20,
            limit_bytes=2**30,
            hours_left=11.5 if fills else None,
        ),
    )


def losses(asset: str) -> list[SpanRecord]:
    """A loss of each kind."""
    return [
        SpanRecord(
            record_id=f"{asset[-4:]}-{kind}",
            stream_id="" if kind is SpanKind.SOURCE_GAP else "lost",
            first_seq=1,
            last_seq=20,
            kind=kind,
            reason='the server said "no" / it\'s full',
            asset=asset,
            from_time=BEGIN + 60 * S,
            to_time=BEGIN + 90 * S,
            count=20,
        )
        for kind in SpanKind
    ]


async def fill(folder: Path, store: Mapping[str, Any]) -> None:
    """Let plants live through a service with a store on a server; at the end one agent is silent."""
    now = [BEGIN]
    sites = [{"asset": asset, "time_zone": zone} for asset, zone in ZONES.items()]
    config = IngestConfig.model_validate({"data": folder, "sites": sites, "store": store})
    async with Service(config, lambda: now[0]) as service:
        assert service.reporter is not None
        await service.plant.run(_lose, service)
        seq = dict.fromkeys(said(), 1)
        for at in range(BEGIN + _REPORT_NS, END + 1, _REPORT_NS):
            now[0] = at
            for asset in said():
                if not asset.endswith("vn01") or at < END - 120 * S:
                    service.book.take_heartbeat(heartbeat(asset, at), at)
            if (at - BEGIN) % _WRITE_NS == 0:
                await service.store.write(
                    [_admitted(asset, block, at, seq) for asset, block in said().items()]
                )
            service._tick(refresh=True, ping=False)
            await service.reporter.report(at)


def _admitted(asset: str, block: SampleBlock, at: int, seq: dict[str, int]) -> Admitted:
    rows = np.flatnonzero((block.source_time >= at - _WRITE_NS) & (block.source_time < at))
    # What nobody looks at on a dashboard is left out: it would only take time.
    silent = np.array([key.signal.startswith(("injection.", "clamp.position")) for key in block.series])
    part = block.take(rows[~silent[block.series_index[rows]]])
    first = seq[asset]
    seq[asset] += len(part)
    return Admitted(Batch(f"gw.{asset[-4:]}", asset[-4:], Lane.LIVE, first, part))


def _lose(service: Service) -> None:
    plant = service.plant
    row = {"stream_id": "s", "asset": "a", "signal": "b", "source_time": 0, "received_time": 0}
    row |= {"quality": 0, "status": 0, "reason": "future", "quarantined_at": END - 60 * S}
    for number, asset in enumerate(ZONES):
        plant.put_spans(f"gw.{asset[-4:]}", losses(asset))
        with plant.engine.begin() as connection:
            connection.execute(
                sa.insert(quarantine), [{**row, "seq": number, "agent_id": f"gw.{asset[-4:]}"}]
            )
            connection.execute(sa.text("UPDATE span SET recorded_at = :at"), {"at": END - 60 * S})


__all__ = ["BEGIN", "END", "MIDNIGHT", "ZONES", "fill", "heartbeat", "said"]
