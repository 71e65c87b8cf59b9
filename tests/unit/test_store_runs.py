"""Runs of parts: pieces are encoded one after the other, and what fails leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ingest_service.stores.duckdb_keeping import Classes
from ingest_service.stores.duckdb_part import PartWriter, slices_of, units_of
from ingest_service.stores.duckdb_part_reader import PartReader
from ingest_service.stores.duckdb_rollup import HOUR, MINUTE, levels_for
from ingest_service.stores.duckdb_rows import Rows
from ingest_service.stores.duckdb_run import Workshop, write_run
from ingest_service.stores.labels import Labels
from ingest_service.stores.latest import LatestTable
from ingest_service.stores.series import SeriesIndex
from shopfloor.asset import parse_asset
from shopfloor.signal import SeriesKey

KEYS = [SeriesKey(parse_asset(f"acme/hk01/a/b/m-{number}"), "x") for number in range(4)]
SAMPLES = 200
STEP_NS = 100_000_000


def sorted_rows() -> Rows:
    n = len(KEYS) * SAMPLES
    time = np.tile(np.arange(SAMPLES, dtype=np.int64) * STEP_NS, len(KEYS))
    ids = np.repeat(np.arange(1, len(KEYS) + 1, dtype=np.uint32), SAMPLES)
    value = np.arange(n, dtype=np.float64)
    return Rows(ids, time, time, value, np.zeros(n, np.uint8), np.zeros(n, np.uint32), None)


class _Numbers:
    def __init__(self) -> None:
        self.last = 0

    def __call__(self) -> int:
        self.last += 1
        return self.last


def workshop(folder: Path, part_rows: int) -> Workshop:
    index = SeriesIndex()
    index.restore(KEYS)
    return Workshop(
        folder,
        index,
        LatestTable(),
        PartReader(folder),
        Classes((), index),
        part_rows,
        0,
        _Numbers(),
        lambda: 0,
        lambda _: None,
        Labels(KEYS),
        lambda _: None,
    )


@pytest.mark.parametrize("part_rows", [10_000, 2 * SAMPLES])
def test_pieces_come_back_from_the_parts_of_a_run(tmp_path: Path, part_rows: int) -> None:
    rows = sorted_rows()
    shop = workshop(tmp_path, part_rows)
    written = write_run(shop, slices_of(rows, SAMPLES), units_of(rows), "", 0, (MINUTE, HOUR))
    assert [one.part.samples for one in written] == [min(part_rows, rows.n)] * (
        rows.n // min(part_rows, rows.n)
    )
    found = [
        PartReader(tmp_path).read(one.part.file or "", np.arange(1, 5, dtype=np.uint32)) for one in written
    ]
    assert np.concatenate([part.value for part in found]).tolist() == rows.value.tolist()
    for one in written:
        assert one.levels[MINUTE].partials.count.sum() == one.part.samples


@pytest.mark.parametrize("failing", range(1, len(KEYS) + 1))
def test_a_piece_that_fails_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    rows = sorted_rows()
    write = PartWriter.write
    calls = _Numbers()

    def refuse(self: PartWriter, piece: Rows) -> None:
        if calls() == failing:
            raise OSError(28, "No space left on device")
        write(self, piece)

    monkeypatch.setattr(PartWriter, "write", refuse)
    with pytest.raises(OSError, match="No space"):
        write_run(workshop(tmp_path, 2 * SAMPLES), slices_of(rows, SAMPLES), units_of(rows), "", 0, ())
    assert list(tmp_path.rglob("*.parquet")) == []


def test_many_series_with_few_samples_each_are_not_rolled_up() -> None:
    assert levels_for(series=1000, samples=1000 * 120) == (MINUTE, HOUR)
    assert levels_for(series=1000, samples=1000 * 120 - 1) == (HOUR,)
    assert levels_for(series=1000, samples=1000 * 32 - 1) == ()
