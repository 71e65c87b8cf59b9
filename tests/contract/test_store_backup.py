"""Backup while the store runs, verified restore, and damage that is found."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from ingest_service.store_command import add_arguments
from ingest_service.stores import Selector
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_backup import restore, verify_backup, verify_closed
from ingest_service.stores.duckdb_hot import hot_folder
from ingest_service.stores.duckdb_schema import Tuning
from shopfloor.errors import StoreUnavailable
from tests.contract.store_contract import ALWAYS, batch, stored_values, write

SMALL = Tuning(memory_bytes=256 * 2**20, threads=1, compaction=False, least_rows=0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    with sqlite3.connect(folder / "plant.sqlite") as plant:
        plant.execute("CREATE TABLE site (asset TEXT)")
        plant.execute("INSERT INTO site VALUES ('acme/hk01')")
    plant.close()
    return folder


async def filled(data: Path) -> DuckDBStore:
    store = DuckDBStore(data / "samples.duckdb", SMALL)
    await write(store, batch(1, 500))
    await store.compact()
    await write(store, batch(501, 500))
    return store


def command(*arguments: str) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser.add_subparsers(required=True))
    parsed = parser.parse_args(arguments)
    code: int = parsed.run(parsed)
    return code


async def test_a_backup_is_one_moment_and_comes_back(data: Path, tmp_path: Path) -> None:
    store = await filled(data)
    assert await store.verify() == []
    seq = 1001
    copying = asyncio.create_task(store.back_up(tmp_path / "copy"))
    while not copying.done():
        await write(store, batch(seq, 100))
        seq += 100
        await store.compact()
    await copying
    await store.close()
    assert verify_backup(tmp_path / "copy") == []
    restore(tmp_path / "copy", tmp_path / "again")
    assert verify_closed(tmp_path / "again") == []
    again = DuckDBStore(tmp_path / "again" / "samples.duckdb", SMALL)
    mark = (await again.watermark("stream-1")).durable_through
    assert 1000 <= mark < seq
    assert await stored_values(again) == [float(one) for one in range(1, mark + 1)]
    assert (await again.latest(Selector())).block.value.tolist() == [float(mark)]
    await write(again, batch(mark + 1, 10))
    await again.close()
    with sqlite3.connect(tmp_path / "again" / "plant.sqlite") as plant:
        assert plant.execute("SELECT asset FROM site").fetchall() == [("acme/hk01",)]
    plant.close()


async def test_damage_is_found_and_not_restored(data: Path, tmp_path: Path) -> None:
    store = await filled(data)
    await store.back_up(tmp_path / "copy")
    await store.close()
    names = json.loads((tmp_path / "copy" / "manifest.json").read_text())["files"]
    assert {name.split("/")[0] for name in names} == {
        "samples.duckdb",
        "samples",
        "samples.hot",
        "plant.sqlite",
    }
    for name in names:
        path = tmp_path / "copy" / name
        sound = path.read_bytes()
        damaged = bytearray(sound)
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(damaged)
        assert [name in problem for problem in verify_backup(tmp_path / "copy")] == [True]
        with pytest.raises(StoreUnavailable, match="checksum"):
            restore(tmp_path / "copy", tmp_path / "again")
        path.write_bytes(sound[:-1])
        assert len(verify_backup(tmp_path / "copy")) == 1
        path.write_bytes(sound)
    assert not (tmp_path / "again").exists()
    (tmp_path / "copy" / "manifest.json").unlink()
    assert "not finished" in verify_backup(tmp_path / "copy")[0]


async def test_the_live_store_finds_damaged_files_and_lost_rows(data: Path) -> None:
    store = await filled(data)
    (part,) = store.folder.glob("*/*.parquet")
    sound = part.read_bytes()
    part.write_bytes(bytes([*sound[:100], sound[100] ^ 1, *sound[101:]]))
    assert [str(part) in problem for problem in await store.verify()] == [True]
    part.write_bytes(sound)
    assert await store.verify() == []
    (hot,) = (path for path in hot_folder(store.folder).iterdir() if path.stat().st_size)
    with hot.open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"x")
    lost, problem = await store.verify()
    assert f"{hot}: damaged between byte" in lost
    assert "1000 samples were stored; " in problem
    assert " are hot, 500 in files" in problem
    await store.close()


async def test_a_start_on_a_damaged_hot_file_loses_its_frame_and_nothing_that_comes(data: Path) -> None:
    store = await filled(data)
    await store.close()
    (hot,) = (path for path in hot_folder(store.folder).iterdir() if path.stat().st_size)
    with hot.open("r+b") as file:
        file.write(b"rubbish")
    for _ in range(2):
        again = DuckDBStore(data / "samples.duckdb", SMALL)
        seq = (await again.watermark("stream-1")).durable_through + 1
        await write(again, batch(seq, 100))
        assert await stored_values(again) == [*map(float, range(1, 501)), *map(float, range(1001, seq + 100))]
        await again.close()
    assert any(str(hot) in problem for problem in verify_closed(data))
    again = DuckDBStore(data / "samples.duckdb", SMALL)
    await again.compact()
    await again.compact()
    assert len(await stored_values(again)) == 700
    await again.close()
    assert [path.name for path in hot.parent.iterdir() if path.suffix == ".damaged"] == [
        f"{hot.name}.damaged"
    ]


async def test_a_folder_with_a_store_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    store = await filled(data)
    await store.back_up(tmp_path / "copy")
    with pytest.raises(StoreUnavailable, match="already"):
        restore(tmp_path / "copy", data)
    with pytest.raises(OSError, match="copy"):
        await store.back_up(tmp_path / "copy")
    assert len((await store.read(Selector(), ALWAYS, 10**6)).block) == 1000
    await store.close()


async def test_the_commands_with_and_without_a_running_store(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "ingest.yaml"
    config.write_text(f"data: {data}\n")
    other = tmp_path / "other.yaml"
    other.write_text(f"data: {tmp_path / 'restored'}\n")
    store = await filled(data)
    copy = str(tmp_path / "copy")
    # DuckDB lets the same process open its file twice: so another one asks.
    command_line = (
        "import argparse, sys; from ingest_service.store_command import add_arguments\n"
        "parser = argparse.ArgumentParser(); add_arguments(parser.add_subparsers())\n"
        "parsed = parser.parse_args(); sys.exit(parsed.run(parsed))"
    )
    import sys

    for arguments in (["backup", str(config), copy], ["verify", str(config)]):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", command_line, *arguments)
        assert await process.wait() == 0
    await store.close()
    assert command("verify", str(config)) == 0
    assert command("verify", str(config), "--backup", copy) == 0
    assert command("restore", str(other), copy) == 0
    assert command("restore", str(other), copy) == 1
    assert command("backup", str(config), copy) == 1
    assert command("backup", str(config), copy + "2") == 0
    assert verify_backup(tmp_path / "copy2") == []
    assert "already" in capsys.readouterr().err
    restored = DuckDBStore(tmp_path / "restored" / "samples.duckdb", SMALL)
    assert np.array_equal(await stored_values(restored), np.arange(1, 1001))
    await restored.close()
