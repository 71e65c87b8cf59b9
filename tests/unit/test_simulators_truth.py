"""The truth on disk: written, read, cut off, merged; and a scenario's run of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shopfloor.errors import StoreUnavailable
from simulators.physics.unit import Column, Facts
from simulators.scenario import Scenario, load_scenario
from simulators.truth import TABLES, TruthWriter, read_truth
from simulators.truth_run import write_truth
from simulators.truth_so_far import so_far
from tests.contract.unit_contract import DAY_MS, START_MS

ASSET = "acme/hk01/moulding/cell-a/imm-1"


def write(folder: Path, *facts: Facts, part: int | None = None, asset: str = ASSET) -> None:
    writer = TruthWriter(folder, part)
    for fact in facts:
        writer.add(asset, fact)
    writer.close()


def state(
    begin_ms: int, end_ms: int, name: str = "RUNNING", cause: str | None = None, job: str = "J"
) -> Facts:
    return Facts(
        "states", {"begin_ms": begin_ms, "end_ms": end_ms, "state": name, "cause": cause, "job": job}
    )


def read(folder: Path, table: str, *, merged: bool = False) -> list[dict[str, Any]]:
    """Return rows with times as UTC ms."""
    rows = read_truth(folder, table, merged=merged)
    for name in ("begin", "end"):
        times = pa.array(rows[name].cast(pa.int64()).to_numpy() // 1_000_000)
        rows = rows.set_column(rows.schema.get_field_index(name), name, times)
    found: list[dict[str, Any]] = rows.to_pylist()
    return found


def test_every_table_has_its_file_and_its_columns_also_without_rows(tmp_path: Path) -> None:
    write(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}.parquet" for name in TABLES}
    for name, schema in TABLES.items():
        assert read_truth(tmp_path, name).schema == schema
        assert read_truth(tmp_path, name).num_rows == 0


def test_rows_come_back_as_they_were_one_value_for_all_or_row_by_row(tmp_path: Path) -> None:
    write(
        tmp_path,
        Facts(
            "cycles",
            {
                "begin_ms": np.array([START_MS, START_MS + 20_001]),
                "end_ms": [START_MS + 20_000, START_MS + 40_000],
                "job": "J",
                "quality": np.array(["good", "bad"], dtype=object),
                "cycle": np.array([7, 8]),
                "good": (4, 3),
                "cushion_mm": np.array([4.25, 4.5]),
            },
        ),
    )
    first, second = read(tmp_path, "cycles")
    assert (first["asset"], first["job"], first["quality"], first["cycle"]) == (ASSET, "J", "good", 7)
    assert (first["begin"], first["end"]) == (START_MS, START_MS + 20_000)
    assert (second["begin"], second["good"], second["cushion_mm"]) == (START_MS + 20_001, 3, 4.5)
    # What was left out is null, whatever kind of column it is.
    assert [second[name] for name in ("product", "bad", "peak_pressure_bar")] == [None] * 3


def test_a_value_that_is_missing_in_one_row_is_null_there(tmp_path: Path) -> None:
    write(
        tmp_path,
        Facts("states", {"begin_ms": [0, 1], "end_ms": [1, 2], "state": "IDLE", "cause": [None, "break"]}),
        Facts("cycles", {"begin_ms": [0, 1], "end_ms": [1, 2], "cushion_mm": [1.0, float("nan")]}),
    )
    assert [row["cause"] for row in read(tmp_path, "states")] == [None, "break"]
    assert [row["cushion_mm"] for row in read(tmp_path, "cycles")] == [1.0, None]


def test_no_rows_are_no_rows(tmp_path: Path) -> None:
    none = np.zeros(0, dtype=np.int64)
    write(tmp_path, Facts("cycles", {"begin_ms": none, "end_ms": none, "cushion_mm": np.zeros(0)}))
    assert read(tmp_path, "cycles") == []


def test_cells_of_a_row_set_become_paths(tmp_path: Path) -> None:
    writer = TruthWriter(tmp_path)
    span: dict[str, Column] = {"begin_ms": [0, 1], "end_ms": [1, 2]}
    writer.add(lambda cell: f"site/{cell or 'own'}", Facts("states", {**span, "asset": ["a", "b"]}))
    writer.add(lambda cell: f"site/{cell or 'own'}", Facts("states", {**span, "asset": "c"}))
    writer.add(lambda cell: f"site/{cell or 'own'}", Facts("states", span))
    writer.close()
    assert writer.rows_total == 6
    paths = [row["asset"] for row in read(tmp_path, "states")]
    assert paths == ["site/a", "site/b", "site/c", "site/c", "site/own", "site/own"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"begin_ms": 0, "end_ms": 1, "mood": "good"}, "states has no column mood"),
        ({"begin_ms": 0, "end_ms": 1, "kind": "stop"}, "states has no column kind"),
        ({"begin_ms": [0, 1], "end_ms": [1]}, "states: 1 values of end_ms for 2 rows"),
        ({"begin_ms": [0, 1], "end_ms": [1, 2], "state": ["IDLE"]}, "states: 1 values of state for 2 rows"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_the_others_stay(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    writer = TruthWriter(tmp_path)
    writer.add(ASSET, state(0, 1))
    with pytest.raises(ValueError, match=message):
        writer.add(ASSET, Facts("states", columns))
    writer.close()
    assert len(read(tmp_path, "states")) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file/truth"):
        TruthWriter(tmp_path / "file" / "truth")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "states.new").mkdir()
    writer = TruthWriter(tmp_path)
    writer.add(ASSET, state(0, 1))
    with pytest.raises(StoreUnavailable, match=r"states\.new"):
        writer.close()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    (tmp_path / "cycles.new").symlink_to(full)
    writer = TruthWriter(tmp_path)
    begins = np.arange(200_000)
    columns = {"begin_ms": begins, "end_ms": begins + 1, "cushion_mm": np.sqrt(begins)}
    with pytest.raises(StoreUnavailable, match=r"cycles.*space"):
        for _ in range(3):
            writer.add(ASSET, Facts("cycles", columns))
        writer.close()


def test_where_no_truth_is_or_no_parquet_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"states\.parquet is missing"):
        read_truth(tmp_path, "states")
    (tmp_path / "states.parquet").write_bytes(b"not this")
    with pytest.raises(StoreUnavailable, match=r"states\.parquet: "):
        read_truth(tmp_path, "states")


def test_parts_are_read_in_their_order_the_open_one_last(tmp_path: Path) -> None:
    for part in (999_999, 2, 1, 10):
        write(tmp_path, state(part, part + 1), part=part)
    assert [row["begin"] for row in read(tmp_path, "states")] == [1, 2, 10, 999_999]


def test_pieces_of_one_interval_are_merged_over_parts_and_assets(tmp_path: Path) -> None:
    write(
        tmp_path,
        state(0, 10),
        state(10, 20),
        state(20, 30, "DOWN_UNPLANNED", "Robot fault"),
        state(30, 40, "DOWN_UNPLANNED", "Part stuck in mould"),
        part=1,
    )
    write(tmp_path, state(0, 25), part=2, asset="other")
    write(
        tmp_path,
        state(40, 50, "DOWN_UNPLANNED", "Part stuck in mould"),
        state(50, 60),
        state(61, 70),
        state(70, 80, job="K"),
        part=3,
    )
    rows = read(tmp_path, "states", merged=True)
    assert [tuple(row.values()) for row in rows] == [
        (ASSET, 0, 20, "RUNNING", None, "J"),
        (ASSET, 20, 30, "DOWN_UNPLANNED", "Robot fault", "J"),
        (ASSET, 30, 50, "DOWN_UNPLANNED", "Part stuck in mould", "J"),
        (ASSET, 50, 60, "RUNNING", None, "J"),
        (ASSET, 61, 70, "RUNNING", None, "J"),
        (ASSET, 70, 80, "RUNNING", None, "K"),
        ("other", 0, 25, "RUNNING", None, "J"),
    ]
    assert len(read(tmp_path, "states")) == 9
    assert read_truth(tmp_path, "states", merged=True).schema == TABLES["states"]


def test_merged_energy_is_the_sum_of_its_pieces(tmp_path: Path) -> None:
    pieces: dict[str, Column] = {"begin_ms": [0, 10, 20], "end_ms": [10, 20, 30], "kwh": [1.5, 2.0, 4.0]}
    write(tmp_path, Facts("energy", {**pieces, "state": ["IDLE", "IDLE", "RUNNING"]}))
    rows = read(tmp_path, "energy", merged=True)
    assert [(row["begin"], row["end"], row["kwh"], row["state"]) for row in rows] == [
        (0, 20, 3.5, "IDLE"),
        (20, 30, 4.0, "RUNNING"),
    ]


@pytest.mark.parametrize("table", ["states", "energy", "downtime", "faults"])
def test_nothing_merges_to_nothing(tmp_path: Path, table: str) -> None:
    write(tmp_path)
    assert read_truth(tmp_path, table, merged=True).num_rows == 0


def test_what_is_no_interval_is_not_merged(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ValueError, match="cycles are no intervals: only downtime, energy, faults, states"):
        read_truth(tmp_path, "cycles", merged=True)


def test_so_far_cuts_what_goes_on_and_leaves_what_is_not_over() -> None:
    facts = [
        state(0, 100),
        Facts(
            "energy",
            {"begin_ms": np.array([0, 40]), "end_ms": np.array([40, 100]), "kwh": np.array([4.0, 6.0])},
        ),
        Facts("downtime", {"begin_ms": [0, 70], "end_ms": [20, 90], "kind": ["stop", "micro_stop"]}),
        Facts("faults", {"begin_ms": 10, "end_ms": 100, "kind": "hot_oil"}),
        Facts(
            "cycles", {"begin_ms": np.array([0, 40]), "end_ms": np.array([40, 80]), "cycle": np.array([1, 2])}
        ),
        Facts("jobs", {"begin_ms": -500, "end_ms": 60, "job": "J"}),
        Facts("changeovers", {"begin_ms": 61, "end_ms": 65, "kind": "mould"}),
    ]
    found = {fact.table: fact.columns for fact in so_far(facts, 60)}
    assert set(found) == {"states", "energy", "downtime", "faults", "cycles", "jobs"}
    assert np.asarray(found["states"]["end_ms"]).tolist() == [60]
    assert np.asarray(found["energy"]["kwh"]).tolist() == [4.0, 2.0]
    assert np.asarray(found["energy"]["end_ms"]).tolist() == [40, 60]
    assert found["downtime"]["kind"] == ["stop"]
    assert np.asarray(found["faults"]["end_ms"]).tolist() == [60]
    assert np.asarray(found["cycles"]["cycle"]).tolist() == [1]
    assert so_far(facts, 0) == []


SCENARIO = """
seed: {seed}
sites:
  - asset: acme/hk01
    name: Hong Kong
    time_zone: Asia/Hong_Kong
    opcua_port: 4840
    machines:
      - {{cell: imm-1, drive: electric, clamp_kn: 1000, faults_per_day: 6}}
      - {{cell: imm-2, drive: servo_hydraulic, clamp_kn: 1600, semi_automatic: true}}
"""


def scenario(folder: Path, seed: int = 3) -> Scenario:
    file = folder / f"small-{seed}.yaml"
    file.write_text(SCENARIO.format(seed=seed))
    return load_scenario(file)


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(folder.iterdir()):
        yield file.name, file.read_bytes()


def test_the_same_seed_gives_the_same_bytes_of_every_file_and_another_others(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        write_truth(scenario(tmp_path, seed), tmp_path / name, START_MS, 0.5)
    one, two, other = (dict(contents(tmp_path / name)) for name in ("one", "two", "other"))
    assert one == two
    assert one.keys() == other.keys() == {f"{name}.parquet" for name in TABLES}
    assert one["cycles.parquet"] != other["cycles.parquet"]


def test_a_run_has_unit_after_unit_and_ends_at_its_very_end(tmp_path: Path) -> None:
    written = write_truth(scenario(tmp_path), tmp_path / "truth", START_MS, 1.25)
    end_ms = START_MS + round(1.25 * DAY_MS)
    assert (written.units, written.unit_days) == (2, 2.5)
    assert written.rows == sum(read_truth(tmp_path / "truth", name).num_rows for name in TABLES)
    for name in TABLES:
        rows = read(tmp_path / "truth", name)
        assert all(row["begin"] <= row["end"] <= end_ms for row in rows)
        assets = [row["asset"] for row in rows]
        assert assets == sorted(assets), "imm-1, then imm-2"
        for earlier, later in pairwise(rows):
            assert earlier["asset"] != later["asset"] or name == "faults" or earlier["end"] <= later["end"]
    states = read(tmp_path / "truth", "states")
    for asset in {row["asset"] for row in states}:
        mine = [row for row in states if row["asset"] == asset]
        assert (mine[0]["begin"], mine[-1]["end"]) == (START_MS, end_ms)
        assert all(earlier["end"] == later["begin"] for earlier, later in pairwise(mine))
    faults = read(tmp_path / "truth", "faults", merged=True)
    assert faults
    assert len(faults) < read_truth(tmp_path / "truth", "faults").num_rows


def test_energy_of_a_run_is_cut_off_with_it(tmp_path: Path) -> None:
    kwh = []
    for days in (0.5, 1.0):
        write_truth(scenario(tmp_path), tmp_path / str(days), START_MS, days)
        rows = read(tmp_path / str(days), "energy")
        kwh.append(sum(row["kwh"] for row in rows if row["begin"] < START_MS + DAY_MS // 2))
        assert max(row["end"] for row in rows) == START_MS + round(days * DAY_MS)
    assert kwh[0] < kwh[1]
    assert kwh[0] == pytest.approx(kwh[1], rel=0.05)


def test_a_disk_that_refuses_a_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StoreUnavailable, match="out"):
        write_truth(scenario(tmp_path), tmp_path / "out", START_MS, 0.1)
