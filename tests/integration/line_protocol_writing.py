"""A token that writes line protocol to a running service, and what is then there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ingest_service.auth import Role, create_token
from tests.integration.ingest_server import Running, running

RULES: dict[str, Any] = {
    "rules": [
        {
            "measurement": "cpu",
            "asset": "acme/hk01/it/{host}",
            "exclude": ["usage_guest*"],
            "units": {"usage_*": "%"},
        },
        {
            "measurement": "opcua",
            "asset": "acme/{site}/{line}/{tag:machine}",
            "signal": "{field}",
            "quality": "Quality",
        },
        {"measurement": "disk", "discard": True},
    ]
}


class Writing:
    """A running service and a token that writes line protocol to it."""

    def __init__(self, plant: Running) -> None:
        self.plant = plant
        engine = plant.service.plant.engine
        self.token = create_token(engine, Role.AGENT, "acme/hk01", "telegraf")
        self.headers = {"Authorization": f"Token {self.token}"}

    async def post(
        self, body: str | bytes, path: str = "/api/v2/write?org=o&bucket=b", **headers: str
    ) -> Any:
        return await self.plant.client.post(path, content=body, headers=self.headers | headers)

    async def samples(self) -> dict[str, Any]:
        """Return series -> (times in ms, values)."""
        found = (
            await self.plant.client.get("/v1/samples", params={"from": 0}, headers=self.plant.viewer)
        ).json()
        return {f"{one['asset']}:{one['signal']}": (one["t"], one["value"]) for one in found["series"]}

    def quarantine(self) -> list[tuple[str, str, str]]:
        rows = self.plant.service.plant.list_quarantine()
        return sorted((row["reason"], row["asset"], row["text"]) for row in rows)


@asynccontextmanager
async def writing_to(tmp_path: Path) -> AsyncIterator[Writing]:
    """Run a service with these rules."""
    async with running(tmp_path, line_protocol={"mapping": RULES}) as plant:
        yield Writing(plant)


def own(value: str, at: int, cell: str = "imm-01", signal: str = "barrel.temperature") -> str:
    return f"sample,enterprise=acme,site=hk01,area=moulding,line=a,cell={cell},signal={signal} {value} {at}"
