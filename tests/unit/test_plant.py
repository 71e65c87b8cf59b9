"""A whole site without sockets: one clock, one log, one truth; and the clock that all sites have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from simulators.emissions import EmissionLog, read_series
from simulators.plant import Plant, emission_folder, truth_folder
from simulators.plant.checkpoint import TimeMark
from simulators.scenario import Scenario
from simulators.truth import read_truth
from simulators.truth_run import write_truth

MS = 1_000_000
H_NS = 3_600 * 10**9
T0 = 1_795_600_800 * 10**9
SCENARIO = Scenario.model_validate(
    {
        "seed": 4,
        "history_h": 0.25,
        "broker": {"url": "mqtt://127.0.0.1:9"},
        "sites": [
            {
                "asset": "acme/dg01",
                "name": "Dongguan",
                "time_zone": "Asia/Shanghai",
                "opcua_port": 4840,
                "outages": [{"kind": "wan_cut", "after_h": 0.5, "for_h": 0.05}],
                "data_faults": [
                    {"kind": "data.stuck", "cell": "air-01", "after_h": 0.3, "for_h": 0.1},
                    {
                        "kind": "data.counter_wrap",
                        "cell": "imm-02",
                        "signal": "cycle",
                        "after_h": 0.4,
                        "for_h": 9,
                    },
                ],
                "machines": [
                    {"cell": "imm-01", "protocol": "gateway", "drive": "hydraulic", "meter": "shelly"},
                    {"cell": "imm-02", "protocol": "sparkplug"},
                ],
                "compressors": [{"cell": "air-01"}],
            }
        ],
    }
)


def plant(folder: Path, now_ns: int) -> Plant:
    (site,) = SCENARIO.sites
    return Plant(SCENARIO, site, folder, EmissionLog(emission_folder(folder, site)), now_ns)


async def live(site: Plant, from_ns: int, hours: float) -> int:
    """Let a site live in ticks of 10 s; returns when it is then."""
    now_ns = from_ns
    for tick in range(1, round(hours * 360) + 1):
        now_ns = from_ns + tick * 10 * 10**9
        await site.advance(now_ns)
    return now_ns


def labels(folder: Path) -> list[tuple[str, str, int, int]]:
    """(asset, kind, begin, end) of the faults in the truth, in seconds after T0."""
    table = read_truth(truth_folder(folder) / "acme_dg01", "faults")
    times = [
        [(time - T0) // 10**9 for time in table.column(name).cast(pa.int64()).to_pylist()]
        for name in ("begin", "end")
    ]
    rows = zip(table.column("asset").to_pylist(), table.column("kind").to_pylist(), *times, strict=True)
    return sorted(row for row in rows if "." in row[1])


STUCK = ("acme/dg01/utilities/air/air-01", "data.stuck", 180, 540)
CUT = ("acme/dg01", "outage.wan_cut", 900, 1_080)


async def test_data_faults_and_outages_are_labelled_in_the_truth_and_nowhere_else(tmp_path: Path) -> None:
    site = plant(tmp_path, T0)
    life_s = -900
    assert labels(tmp_path) == []
    now_ns = await live(site, T0, 0.5)
    await site.stop()
    wrapped = ("acme/dg01/moulding/cell-a/imm-02", "data.counter_wrap", life_s + 1_440, 1_800)
    assert labels(tmp_path) == [CUT, wrapped, STUCK]
    said = read_series(emission_folder(tmp_path, site.site))
    assert not any("fault" in key.signal for key in said)
    pressure = next(
        columns for key, columns in said.items() if key.signal == "compressor.pressure" and "air" in key.asset
    )
    stuck = (pressure.time_ns >= T0 + 180 * 10**9) & (pressure.time_ns < T0 + 540 * 10**9)
    assert len(set(pressure.value[stuck].tolist())) == 1
    assert len(set(pressure.value[~stuck].tolist())) > 10
    assert site.unacknowledged > 0, "nobody listened"
    assert now_ns == T0 + H_NS // 2


async def test_a_label_is_written_once_however_often_the_site_starts(tmp_path: Path) -> None:
    now_ns = T0
    for _ in range(3):
        site = plant(tmp_path, now_ns)
        now_ns = await live(site, now_ns, 0.2)
        site.log.close()  # as a kill does: nothing else is put in order
    last = plant(tmp_path, now_ns)
    assert labels(tmp_path) == [CUT, STUCK]
    await last.stop()
    assert [label[1] for label in labels(tmp_path)] == [
        "outage.wan_cut",
        "data.counter_wrap",
        "data.stuck",
    ]


async def test_a_kill_before_anything_was_said_does_not_begin_other_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    (own,) = SCENARIO.sites
    log = EmissionLog(emission_folder(tmp_path, own))
    monkeypatch.setattr(Plant, "_complete_part", killed)
    with pytest.raises(KeyboardInterrupt):
        Plant(SCENARIO, own, tmp_path, log, T0)
    monkeypatch.undo()
    log.close()
    before = read_series(emission_folder(tmp_path, own))
    site = plant(tmp_path, T0 + 60 * 10**9)
    await site.stop()
    after = read_series(emission_folder(tmp_path, own))
    for key, columns in before.items():
        assert after[key].value[: len(columns.value)].tobytes() == columns.value.tobytes(), key
        if key.signal == "cycle.counter":
            assert (np.diff(after[key].value) > 0).all(), "another life would count from 0"
    kept = json.loads((tmp_path / "checkpoints" / "acme_dg01.json").read_text())
    assert kept["life_ms"] == (T0 - H_NS // 4) // MS


async def test_a_site_that_was_off_for_a_day_lived_on_and_is_soon_back(tmp_path: Path) -> None:
    site = plant(tmp_path, T0)
    now_ns = await live(site, T0, 0.05)
    site.log.close()
    before = read_series(emission_folder(tmp_path, site.site))
    back_ns = now_ns + 26 * H_NS
    site = plant(tmp_path, back_ns)
    end_ns = await live(site, back_ns, 0.05)
    await site.stop()
    said = read_series(emission_folder(tmp_path, site.site))
    for key, columns in said.items():
        old = before.get(key)
        if old is not None:
            assert columns.value[: len(old.value)].tobytes() == old.value.tobytes(), key
        untold = (columns.time_ns > now_ns) & (columns.time_ns <= back_ns - 2 * H_NS)
        assert not untold.any(), f"{key}: nobody was there to hear of it"
        if key.signal in {"cycle.counter", "energy.active_energy", "gateway.cycle"} and "imm-02" in key.asset:
            assert (np.diff(columns.value) >= 0).all(), key
    truth = truth_folder(tmp_path) / "acme_dg01"
    days = (end_ns - (T0 - H_NS // 4)) / H_NS / 24
    write_truth(SCENARIO, tmp_path / "never-off", (T0 - H_NS // 4) // MS, days)
    for table in ("cycles", "states", "energy", "jobs"):
        assert rows_of(truth, table) == rows_of(tmp_path / "never-off", table), table


def rows_of(folder: Path, table: str) -> list[str]:
    return sorted(map(str, read_truth(folder, table).to_pylist()))


async def test_what_a_computer_slept_through_nobody_saw(tmp_path: Path) -> None:
    site = plant(tmp_path, T0)
    now_ns = await live(site, T0, 0.02)
    rows = site.log.rows_total
    await site.advance(now_ns + H_NS // 10)
    assert site.log.rows_total < rows + 3 * site.series_total, "but for how things stand now"
    await live(site, now_ns + H_NS // 10, 0.01)
    await site.stop()


async def test_frozen_machines_say_nothing(tmp_path: Path) -> None:
    site = plant(tmp_path, T0)
    now_ns = await live(site, T0, 0.01)
    rows, values = site.log.rows_total, site.values_total
    site.frozen = True
    await live(site, now_ns, 0.01)
    assert (site.log.rows_total, site.values_total) == (rows, values)
    await site.stop()


def test_a_mark_that_cannot_be_read_or_written_is_none(tmp_path: Path) -> None:
    mark: Any = TimeMark(tmp_path / "folder" / "mark")
    assert mark.load() == 0
    mark.save(5)
    assert TimeMark(tmp_path / "folder" / "mark").load() == 5
    (tmp_path / "folder" / "mark").write_text("five")
    assert mark.load() == 0
    TimeMark(tmp_path / "folder" / "mark" / "below").save(5)
