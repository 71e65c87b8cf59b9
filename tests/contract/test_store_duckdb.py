"""The embedded store, held against the contract of stores, against faults and against kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import duckdb
import numpy as np
import pytest

from ingest_service.stores import (
    Admitted,
    Committed,
    Refused,
    Selector,
)
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_schema import Tuning
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey
from tests.contract.store_contract import (
    ALWAYS,
    JOB,
    T0,
    SampleStoreContract,
    batch,
    outcome_of,
    stored_values,
    write,
)


class TestDuckDBStore(SampleStoreContract):
    """The embedded store."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[[], Awaitable[DuckDBStore]]:
        async def open_it() -> DuckDBStore:
            return DuckDBStore(tmp_path / "samples.duckdb", Tuning(memory_bytes=256 * 2**20, threads=1))

        return open_it

    async def test_a_bad_batch_fails_alone_and_its_stream_goes_on(self, tmp_path: Path) -> None:
        quarantined: list[tuple[str, int, str]] = []

        def quarantine(one: Batch, refused: Refused) -> None:
            quarantined.extend((one.stream_id, row, refused.reasons[0]) for row in refused.rows.tolist())

        store = DuckDBStore(tmp_path / "s.duckdb", quarantine=quarantine)
        # No wire message can carry it; a lone surrogate stands for any content that the database refuses.
        poison = make_block((JOB,), [0], T0, T0, np.nan, text={0: "\ud800"})
        outcomes = await write(
            store, batch(1), Batch("a", "bad", Lane.LIVE, 1, poison), batch(1, 5, "stream-2")
        )
        assert [one.stored for one in outcomes] == [10, 0, 5]
        assert outcomes[1].durable_through == 1
        assert quarantined == [("bad", 0, "store_refused: UnicodeEncodeError")]
        assert len(await stored_values(store)) == 15
        await store.close()

    async def test_without_quarantine_a_bad_batch_is_unavailable_and_the_others_are_stored(
        self, tmp_path: Path
    ) -> None:
        store = DuckDBStore(tmp_path / "s.duckdb")
        poison = Batch("a", "bad", Lane.LIVE, 1, make_block((JOB,), [0], T0, T0, np.nan, text={0: "\ud800"}))
        good, bad = await store.write([Admitted(batch(1)), Admitted(poison)])
        assert outcome_of(good).stored == 10
        assert isinstance(bad, StoreUnavailable)
        assert await store.watermark("bad") == (0, 0)
        await store.close()

    async def test_a_fault_of_the_machine_is_survived(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The disk is full once: nothing is acknowledged, nothing is lost, the next try stores."""
        from ingest_service.stores import duckdb_group

        store = DuckDBStore(tmp_path / "s.duckdb", quarantine=lambda *_: pytest.fail("nothing is bad here"))
        insert = duckdb_group.Group.insert_ledger

        def full(group: duckdb_group.Group, connection: duckdb.DuckDBPyConnection) -> None:
            insert(group, connection)
            raise duckdb.IOException("could not write: no space left on device")

        monkeypatch.setattr(duckdb_group.Group, "insert_ledger", full)
        (result,) = await store.write([Admitted(batch(1))])
        assert isinstance(result, StoreUnavailable)
        assert result.retry_after_s
        assert await store.watermark("stream-1") == (0, 0)
        monkeypatch.undo()
        (outcome,) = await write(store, batch(1))
        assert outcome.stored == 10
        assert len(await stored_values(store)) == 10
        await store.close()

    async def test_a_fatal_fault_opens_the_database_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from ingest_service.stores import duckdb_group

        store = DuckDBStore(tmp_path / "s.duckdb")
        await write(store, batch(1))
        insert = duckdb_group.Group.insert_ledger

        def fatal(group: duckdb_group.Group, connection: duckdb.DuckDBPyConnection) -> None:
            insert(group, connection)
            raise duckdb.FatalException("database has been invalidated")

        monkeypatch.setattr(duckdb_group.Group, "insert_ledger", fatal)
        (result,) = await store.write([Admitted(batch(11))])
        assert isinstance(result, StoreUnavailable)
        monkeypatch.undo()
        (outcome,) = await write(store, batch(11))
        assert outcome.stored == 10
        assert await stored_values(store) == [float(seq) for seq in range(1, 21)]
        await store.close()

    async def test_a_file_that_another_process_holds_is_unavailable(self, tmp_path: Path) -> None:
        path = tmp_path / "s.duckdb"
        holder = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import duckdb; c = duckdb.connect({str(path)!r}); print(1, flush=True); input()",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert holder.stdin
        assert holder.stdout
        with holder:
            holder.stdout.readline()
            with pytest.raises(StoreUnavailable, match=r"s\.duckdb"):
                DuckDBStore(path)
            holder.stdin.close()

    async def test_listeners_hear_of_rows_only_after_the_commit(self, tmp_path: Path) -> None:
        store = DuckDBStore(tmp_path / "s.duckdb")
        heard: list[int] = []

        def listen(rows: Committed) -> None:
            heard.append(len(rows.series_id))

        store.listeners.append(listen)
        await write(store, batch(1))
        await write(store, batch(1))
        assert heard == [10]
        await store.close()

    async def test_many_series_in_changing_tables(self, tmp_path: Path) -> None:
        """Series keep their numbers whichever table they come in."""
        store = DuckDBStore(tmp_path / "s.duckdb")
        keys = [SeriesKey(parse_asset(f"acme/hk01/a/b/m-{number}"), "x") for number in range(50)]
        random = np.random.default_rng(3)
        expected: dict[SeriesKey, list[float]] = {}
        seq = 1
        for _ in range(30):
            table = [keys[place] for place in random.permutation(50)[:7]]
            values = random.random(7)
            block: SampleBlock = make_block(table, np.arange(7), T0 + seq + np.arange(7), T0, values)
            for key, value in zip(table, values.tolist(), strict=True):
                expected.setdefault(key, []).append(value)
            await write(store, Batch("a", "s", Lane.LIVE, seq, block))
            seq += 7
        for key, values_of_key in expected.items():
            assert await stored_values(store, key) == values_of_key
        await store.close()


_WRITER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.contract.store_contract import batch
from ingest_service.stores import Admitted
from ingest_service.stores.duckdb import DuckDBStore

async def main():
    store = DuckDBStore(Path({path!r}))
    async def one(stream):
        seq = (await store.watermark(stream)).durable_through + 1
        while True:
            (outcome,) = await store.write([Admitted(batch(seq, 500, stream))])
            print(stream, outcome.durable_through, flush=True)
            seq = outcome.durable_through + 1
    await asyncio.gather(*(one(f"stream-{{number}}") for number in range(4)))

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "samples.duckdb"
    script = _WRITER.format(root=str(Path(__file__).parents[2]), path=str(path))
    acknowledged: dict[str, int] = {}
    for round_number in range(5):
        writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert writer.stdout
        with writer:
            lines = 0
            for line in writer.stdout:
                stream, through = line.split()
                acknowledged[stream] = max(acknowledged.get(stream, 0), int(through))
                lines += 1
                if lines == 30 + 7 * round_number:
                    os.kill(writer.pid, signal.SIGKILL)
        assert lines >= 30

        async def check() -> None:
            store = DuckDBStore(path)
            for stream, through in acknowledged.items():
                mark = (await store.watermark(stream)).durable_through
                assert mark >= through
                runs = await store.runs(stream)
                assert [(run.first_seq, run.last_seq, run.stored) for run in runs] == [(1, mark, mark)]
            marks = [(await store.watermark(f"stream-{number}")).durable_through for number in range(4)]
            values = await stored_values(store)
            expected = np.sort(np.concatenate([np.arange(1, mark + 1, dtype=float) for mark in marks]))
            assert np.array_equal(np.sort(values), expected)
            await store.close()

        asyncio.run(check())


def test_reads_go_on_while_writes_run(tmp_path: Path) -> None:
    async def run() -> None:
        store = DuckDBStore(tmp_path / "s.duckdb")
        stop = time.monotonic() + 1.0
        reads = 0

        async def read() -> None:
            nonlocal reads
            while time.monotonic() < stop:
                raw = await store.read(Selector(), ALWAYS, 1000)
                assert raw.block.value.tolist() == [float(seq) for seq in range(1, len(raw.block) + 1)]
                reads += 1

        async def feed() -> None:
            seq = 1
            while time.monotonic() < stop:
                await write(store, batch(seq, 200))
                seq += 200

        await asyncio.gather(read(), read(), feed())
        assert reads
        await store.close()

    asyncio.run(run())
