"""A real service on a free loopback port, and what its tests send to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from ingest_service.auth import Role, create_token
from ingest_service.config import IngestConfig
from ingest_service.server import Server, make_server
from shopfloor import signal as names
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.messages import BATCH_MEDIA_TYPE, Batch, Lane
from shopfloor.signal import SeriesKey
from shopfloor.wire import encode_batch
from tests.plant_database import empty_plant

IMM = parse_asset("acme/hk01/moulding/cell-a/imm-01")
SERIES = (SeriesKey(IMM, "barrel.zone_1.temperature"), SeriesKey(IMM, names.MACHINE_MODE))
STRANGER = SeriesKey(parse_asset("acme/dg01/moulding/cell-a/imm-07"), "x")


class Running:
    """A service that runs, and tokens for it."""

    def __init__(self, server: Server, client: httpx.AsyncClient) -> None:
        self.server = server
        self.service = server._service
        self.client = client
        self.agent = self.token(Role.AGENT, "acme/hk01")
        self.viewer = self.token(Role.VIEWER, "acme")

    def token(self, role: Role, asset: str) -> dict[str, str]:
        text = create_token(self.service.plant.engine, role, asset, "test")
        return {"Authorization": f"Bearer {text}"}

    async def post(
        self, batch: Batch | bytes, headers: dict[str, str] | None = None, **more: str
    ) -> httpx.Response:
        body = batch if isinstance(batch, bytes) else encode_batch(batch)
        chosen = {"Content-Type": BATCH_MEDIA_TYPE} | (self.agent if headers is None else headers) | more
        return await self.client.post("/v1/batches", content=body, headers=chosen)

    async def get(self, path: str, headers: dict[str, str] | None = None, **parameters: Any) -> Any:
        answer = await self.client.get(
            path, params=parameters, headers=self.viewer if headers is None else headers
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def metric(self, name: str) -> float:
        answer = await self.client.get("/metrics", headers=self.viewer)
        for line in answer.text.splitlines():
            if line.startswith(name + " "):
                return float(line.split()[-1])
        raise AssertionError(f"{name} is not in\n{answer.text}")


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[Running]:
    config = IngestConfig(listen="127.0.0.1:0", data=folder / "data", **options)
    if isinstance(config.plant_address, Path) and not config.data.exists():
        config.data.mkdir(parents=True)
        empty_plant(config.plant_address)
    server = make_server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done(), serving.exception()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    # Certificates take a tenth of a second to read, and are not looked at.
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=False) as client:
        try:
            yield Running(server, client)
        finally:
            server.should_exit = True
            await serving


def block(n: int = 10, *, at: int | None = None, series: tuple[SeriesKey, ...] = SERIES) -> SampleBlock:
    now = time.time_ns() if at is None else at
    return make_block(
        series, np.arange(n) % len(series), now + np.arange(n) * 1_000_000, now, np.arange(n) / 8
    )


def batch(first_seq: int = 1, n: int = 10, stream: str = "stream-1", agent: str = "gateway") -> Batch:
    return Batch(agent, stream, Lane.LIVE, first_seq, block(n))


def heartbeat(
    agent: str = "gateway", asset: str = "acme/hk01", *, sources: tuple[Any, ...] = ()
) -> dict[str, Any]:
    return {
        "agent_id": agent,
        "asset": asset,
        "version": "1",
        "wire_version": 1,
        "config_hash": "h1",
        "started": 0,
        "sent": time.time_ns(),
        "sources": list(sources),
        "buffer": {
            "streams": 1,
            "pending_samples": 0,
            "oldest_pending_time": None,
            "used_bytes": 0,
            "limit_bytes": 1,
            "hours_left": None,
        },
    }
