"""What operators type beside a running service."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest_service.auth import Role, list_tokens
from shopfloor.__main__ import main
from shopfloor.messages import Batch, Lane
from tests.integration.ingest_server import SERIES, STRANGER, Running, batch, block, heartbeat, running


class Shell:
    """Runs commands on a service of the test, whose configuration lies in a file."""

    def __init__(self, plant: Running, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.plant = plant
        self.config = config
        self._capsys = capsys

    async def run(self, *words: str, exits: int = 0) -> str:
        code = await asyncio.to_thread(main, ["ingest", *words, "--config", str(self.config)])
        captured = self._capsys.readouterr()
        assert code == exits, captured
        return captured.out + captured.err


@pytest.fixture
async def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Shell]:
    async with running(tmp_path) as plant:
        port = plant.client.base_url.port
        config = tmp_path / "ingest.yaml"
        config.write_text(f"listen: 127.0.0.1:{port}\ndata: {tmp_path / 'data'}\n")
        beat = heartbeat()
        beat["buffer"]["pending"] = [{"stream_id": "s", "first_seq": 1, "last_seq": 12}]
        assert (await plant.client.post("/v1/heartbeats", json=beat, headers=plant.agent)).status_code == 200
        await plant.post(Batch("gateway", "s", Lane.LIVE, 1, block(10, series=(SERIES[0], STRANGER))))
        yield Shell(plant, config, capsys)


async def test_the_quarantine(shell: Shell, tmp_path: Path) -> None:
    shown = await shell.run("quarantine", "list")
    assert "gateway  outside_scope        5" in shown
    assert "s/10" in shown
    rows = [json.loads(line) for line in (await shell.run("quarantine", "list", "--json")).splitlines()]
    assert [row["seq"] for row in rows] == [10, 8, 6, 4, 2]
    assert (await shell.run("quarantine", "list", "--json", "--agent", "nobody")) == ""
    assert "outside_scope" in await shell.run("quarantine", "show", "s", "4")
    assert "404 there is no such sample" in await shell.run("quarantine", "show", "s", "5", exits=1)
    file = tmp_path / "export.csv"
    await shell.run("quarantine", "export", "--format", "csv", "--output", str(file))
    assert [row["seq"] for row in csv.DictReader(file.read_text().splitlines())] == ["2", "4", "6", "8", "10"]
    assert len((await shell.run("quarantine", "export")).splitlines()) == 5
    assert "say which samples" in await shell.run("quarantine", "readmit", exits=1)
    assert (
        await shell.run("quarantine", "readmit", "--stream", "s", "--seq", "4")
        == "1 samples are stored now\n"
    )
    assert await shell.run("quarantine", "purge", "--all") == "4 samples are thrown away\n"
    assert len((await shell.run("quarantine", "list", "--json", "--readmitted")).splitlines()) == 1
    tokens = [
        one for one in list_tokens(shell.plant.service.plant.engine) if one.name.startswith("command of")
    ]
    assert tokens
    assert all(one.revoked_at for one in tokens)


async def test_the_ledger(shell: Shell) -> None:
    shown = await shell.run("ledger")
    (total,) = [line for line in shown.splitlines() if line.startswith("total")]
    assert total.split() == ["total", "1", "streams", "12", "5", "5", "0", "2", "0", "0"]
    answer = json.loads(await shell.run("ledger", "--json", "--agent", "gateway", "--stream", "s"))
    assert answer["total"]["pending"] == 2
    await shell.plant.post(batch(21, stream="s"))
    shown = await shell.run("ledger", exits=1)
    assert "missing: stream s 11-20" in shown


async def test_agents_and_alarms(shell: Shell) -> None:
    shown = await shell.run("agents", "list")
    assert shown.splitlines()[1].split()[:3] == ["gateway", "acme/hk01", "yes"]
    assert json.loads(await shell.run("agents", "list", "--json"))["agents"][0]["id"] == "gateway"
    async with asyncio.timeout(60):
        while "quarantine_growing" not in (shown := await shell.run("alarms", "list")):
            await asyncio.sleep(0.1)
    alarm = json.loads(await shell.run("alarms", "list", "--json"))["alarms"][0]
    assert "seen by token" in await shell.run("alarms", "acknowledge", alarm["id"])
    assert "gateway is retired" in await shell.run("agents", "retire", "gateway")
    assert len((await shell.run("agents", "list")).splitlines()) == 1
    assert "404" in await shell.run("agents", "retire", "gateway", exits=1)


async def test_from_elsewhere_a_token_is_needed(
    shell: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(shell.plant.client.base_url)
    words = ["ingest", "agents", "list", "--url", url]
    assert await asyncio.to_thread(main, words) == 1
    assert "SHOPFLOOR_TOKEN" in capsys.readouterr().err
    token = shell.plant.token(Role.VIEWER, "acme")["Authorization"].removeprefix("Bearer ")
    monkeypatch.setenv("SHOPFLOOR_TOKEN", token)
    assert await asyncio.to_thread(main, words) == 0
    assert "gateway" in capsys.readouterr().out
    assert await asyncio.to_thread(main, ["ingest", "agents", "retire", "gateway", "--url", url]) == 1
    assert "403" in capsys.readouterr().err
    assert await asyncio.to_thread(main, [*words[:-1], "127.0.0.1:8080"]) == 1
    assert "https://ingest.example:8443" in capsys.readouterr().err
    monkeypatch.setenv("SHOPFLOOR_TOKEN", "sf_wrong")
    assert await asyncio.to_thread(main, words) == 1
    assert "401 a valid token is needed" in capsys.readouterr().err


def test_a_service_that_does_not_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "ingest.yaml"
    config.write_text(f"listen: 127.0.0.1:1\ndata: {tmp_path / 'data'}\n")
    assert main(["ingest", "ledger", "--config", str(config)]) == 1
    assert "http://127.0.0.1:1: " in capsys.readouterr().err
    config.write_text("listn: 127.0.0.1:1\n")
    assert main(["ingest", "ledger", "--config", str(config)]) == 2
