"""`shopfloor ingest check`: what stands in the way of a start, what runs, and what will soon be wrong."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest_service import check_command
from ingest_service.config import IngestConfig
from ingest_service.store_config import PlantConfig, VictoriaMetricsStoreConfig
from shopfloor.__main__ import main
from shopfloor.findings import Finding, Verdict
from tests.integration.ingest_server import running
from tests.integration.tls_files import Authority
from tests.ports import free_port


@pytest.fixture
def listener() -> Iterator[int]:
    """A server that accepts connections and answers nothing."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        yield opened.getsockname()[1]


def look(folder: Path, **options: Any) -> dict[str, list[Finding]]:
    given = {"listen": f"127.0.0.1:{free_port()}", "data": folder / "data"} | options
    config = IngestConfig.model_validate(given)
    return {section.name: list(section.findings) for section in check_command.look_at_this_machine(config)}


def test_a_machine_where_nothing_is_in_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "ingest.yaml"
    config.write_text(f"listen: 127.0.0.1:{free_port()}\ndata: data\n")
    assert main(["ingest", "check", str(config)]) == 0
    assert "0 failures" in capsys.readouterr().out
    assert not (tmp_path / "data").exists()
    assert main(["ingest", "check", "--json", str(config)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sound"]
    made, _ = said["sections"][0]["findings"]
    assert made["text"] == f"{tmp_path / 'data'} will be made at the first start"
    assert [section["name"] for section in said["sections"]] == [
        "data folder",
        "address",
        "databases",
        "this machine",
    ]
    # Whether somebody keeps the clock right is one of two things that are said of it.
    (clock,) = said["sections"][3]["findings"]
    assert "clock" in clock["text"]
    config.write_text("listen: nowhere\n")
    assert main(["ingest", "check", str(config)]) == 2


def test_a_port_that_somebody_else_has(
    tmp_path: Path, listener: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_command, "_REACH_S", 0.2)
    port, *_ = look(tmp_path, listen=f"127.0.0.1:{listener}")["address"]
    assert port.verdict is Verdict.FAILURE
    assert "another process listens there already" in port.text


async def test_the_port_that_the_service_itself_has(tmp_path: Path) -> None:

    async with running(tmp_path) as plant:
        listen = f"127.0.0.1:{plant.client.base_url.port}"
        found = await asyncio.to_thread(look, tmp_path, listen=listen)
    assert found["address"][0].text == f"a service answers at {listen}"
    assert found["address"][0].verdict is Verdict.OK


def test_a_folder_that_is_none_and_a_disk_without_room(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    (folder,) = look(tmp_path)["data folder"]
    assert (folder.verdict, "not a folder" in folder.text) == (Verdict.FAILURE, True)
    _, room = look(tmp_path / "other", store={"reserve_bytes": 2**60})["data folder"]
    assert (room.verdict, "nothing will be acknowledged" in room.text) == (Verdict.FAILURE, True)


@pytest.mark.parametrize(
    ("days", "verdict"), [(0, Verdict.WARNING), (60, Verdict.FAILURE), (-400, Verdict.OK)]
)
def test_certificates_that_run_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, verdict: Verdict
) -> None:
    # They are made for thirty days.
    certificate, key = Authority(tmp_path).certificate("service", server=True)

    class Later(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return dt.datetime.now(tz) + dt.timedelta(days=days)

    monkeypatch.setattr(check_command, "datetime", Later)
    tls = {"certificate": certificate, "key": key}
    assert look(tmp_path, tls=tls)["address"][1].verdict is verdict
    certificate.write_text("nonsense")
    broken = look(tmp_path, tls=tls)["address"][1]
    assert (broken.verdict, str(certificate) in broken.text) == (Verdict.FAILURE, True)


def test_databases_are_reached_or_named(tmp_path: Path, listener: int) -> None:
    closed = free_port()
    store = VictoriaMetricsStoreConfig(
        kind="victoriametrics",
        url=f"http://127.0.0.1:{listener}",
        insert_url=f"http://127.0.0.1:{closed}/insert/0",
    )
    plant = PlantConfig(url=f"postgresql://shopfloor@127.0.0.1:{closed}/shopfloor")
    read, write, rest = look(tmp_path, store=store, plant=plant)["databases"]
    assert read.verdict is Verdict.OK
    assert write.verdict is rest.verdict is Verdict.FAILURE
    assert write.text == f"store http://127.0.0.1:{closed}/insert/0: Connection refused"
    assert f"127.0.0.1:{closed}" in rest.advice
