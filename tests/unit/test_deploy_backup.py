"""A PlantStore beside a store on a server: copied while it is written, looked through, brought back; and not by an old release."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from ingest_service.auth import Role, create_token, list_tokens
from ingest_service.plant import backup, rollups
from ingest_service.plant.engine import connect
from shopfloor.__main__ import main
from shopfloor.errors import StoreUnavailable

CONFIG = """\
listen: 127.0.0.1:0
data: {data}
store: {{kind: influxdb, url: "http://127.0.0.1:1", version: 1}}
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    engine = connect(folder / "plant.sqlite")
    create_token(engine, Role.AGENT, "acme/hk01", "gateway")
    engine.dispose()
    return folder


def names(data: Path) -> list[str]:
    engine = connect(data / "plant.sqlite")
    found = [row.name for row in list_tokens(engine)]
    engine.dispose()
    return found


def test_what_is_written_after_it_is_not_in_it(data: Path, tmp_path: Path) -> None:
    engine = connect(data / "plant.sqlite")
    with engine.begin() as connection:
        # Not committed: a backup must neither wait for it nor have it.
        connection.execute(sa.text("UPDATE token SET name = 'renamed'"))
        assert backup.back_up(data, tmp_path / "backup") > 0
    create_token(engine, Role.VIEWER, "acme", "later")
    engine.dispose()
    assert backup.verify_backup(tmp_path / "backup") == []
    backup.restore(tmp_path / "backup", tmp_path / "new")
    assert names(tmp_path / "new") == ["gateway"]
    assert names(data) == ["renamed", "later"]


def test_rollups_of_the_server_are_made_again_after_it(data: Path, tmp_path: Path) -> None:
    hour = 490_000 * rollups.HOUR_NS
    engine = connect(data / "plant.sqlite")
    rollups.begin(engine, hour)
    rollups.extend(engine, hour, hour + rollups.HOUR_NS, is_complete=True)
    backup.back_up(data, tmp_path / "backup")
    assert rollups.count_due(engine) == 1
    engine.dispose()
    backup.restore(tmp_path / "backup", tmp_path / "new")
    engine = connect(tmp_path / "new" / "plant.sqlite")
    assert rollups.span(engine) is None
    assert rollups.count_due(engine) == 0
    engine.dispose()


def test_damage_is_found_and_nothing_is_restored_from_it(data: Path, tmp_path: Path) -> None:
    backup.back_up(data, tmp_path / "backup")
    file = tmp_path / "backup" / "plant.sqlite"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    (problem,) = backup.verify_backup(tmp_path / "backup")
    assert problem == f"{file}: damaged: its checksum is not the one of its making"
    with pytest.raises(StoreUnavailable, match="damaged"):
        backup.restore(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "backup" / "manifest.json").unlink()
    assert "was not finished" in backup.verify_backup(tmp_path / "backup")[0]
    (data / "plant.sqlite").write_bytes(b"no database at all, but long enough to be taken for one" * 10)
    assert "not a database" in backup.verify(data)[0]


def test_the_commands(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "ingest.yaml"
    config.write_text(CONFIG.format(data=data))
    to = tmp_path / "backup"
    assert main(["ingest", "backup", str(config), str(to)]) == 0
    assert "the samples are copied by the tools of influxdb, after this" in capsys.readouterr().out
    assert main(["ingest", "backup", str(config), str(to)]) == 1
    assert capsys.readouterr().err == f"{to} is there already\n"
    assert main(["ingest", "verify", str(config), "--backup", str(to)]) == 0
    assert main(["ingest", "restore", str(config), str(to)]) == 1
    assert "holds plant.sqlite already" in capsys.readouterr().err
    (data / "plant.sqlite").unlink()
    assert main(["ingest", "verify", str(config)]) == 1
    assert main(["ingest", "restore", str(config), str(to)]) == 0
    assert main(["ingest", "verify", str(config)]) == 0
    assert names(data) == ["gateway"]
    config.write_text(config.read_text() + 'plant: {url: "postgresql://shopfloor@127.0.0.1:1/shopfloor"}\n')
    capsys.readouterr()
    assert main(["ingest", "backup", str(config), str(tmp_path / "other")]) == 2
    assert "influxdb and PostgreSQL are servers with tools of their own" in capsys.readouterr().err


def test_a_database_of_a_newer_release_is_left_as_it_is(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(data / "plant.sqlite")) as newer:
        newer.execute("UPDATE alembic_version SET version_num = '9999'")
        newer.commit()
    said = f"{data}/plant.sqlite: a newer release has changed this database (to 9999; this one knows "
    with pytest.raises(StoreUnavailable, match="restore the backup from before the upgrade") as met:
        connect(data / "plant.sqlite")
    assert str(met.value).startswith(said)
    config = tmp_path / "ingest.yaml"
    config.write_text(f"listen: 127.0.0.1:0\ndata: {data}\n")
    assert main(["token", "list", "--config", str(config)]) == 1
    assert main(["ingest", "serve", str(config)]) == 1
    assert capsys.readouterr().err.count(said) == 2


def test_the_rollups_of_a_server_are_shown_and_made_again(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "ingest.yaml"
    config.write_text(CONFIG.format(data=data))
    command = ["ingest", "rollups", "--config", str(config)]
    assert main(command) == 0
    assert capsys.readouterr().out == "no hour is rolled up yet\n"
    hour = 490_000 * rollups.HOUR_NS
    engine = connect(data / "plant.sqlite")
    rollups.begin(engine, hour)
    rollups.extend(engine, hour, hour + 2 * rollups.HOUR_NS, is_complete=False)
    assert main(command) == 0
    shown = "from 2025-11-24T16:00Z to 2025-11-24T18:00Z, 2 pieces of it due\nearlier hours follow\n"
    assert capsys.readouterr().out == shown
    assert main([*command, "--again"]) == 0
    assert capsys.readouterr().out.startswith("all hours are read from samples")
    assert rollups.span(engine) is None
    engine.dispose()
    config.write_text(f"listen: 127.0.0.1:0\ndata: {data}\n")
    assert main([*command, "--again"]) == 1
    assert "only a store on InfluxDB" in capsys.readouterr().err
