"""What a site goes on from: nothing that is damaged, missing or another's is taken for its own."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from shopfloor.errors import StoreUnavailable
from shopfloor.signal import SeriesKey
from simulators.emissions import EmissionLog, Row, read_series
from simulators.plant import Plant, emission_folder, truth_folder
from simulators.plant.units import fingerprints
from simulators.scenario import Scenario
from simulators.truth import read_truth

S = 10**9
T0 = 1_795_600_800 * S
NAME = "acme_dg01"


def scenario(*cells: str, batch: tuple[int, int] = (100, 200)) -> Scenario:
    machines = [
        {"cell": cell, "protocol": "gateway", "meter": "none", "batch": list(batch)} for cell in cells
    ]
    site = {"asset": "acme/dg01", "name": "D", "time_zone": "Asia/Shanghai", "opcua_port": 4840}
    return Scenario.model_validate({"history_h": 0.0, "sites": [{**site, "machines": machines}]})


async def live(made: Scenario, folder: Path, from_ns: int, seconds: int) -> int:
    """Let a site live for some time, and stop it; returns when that was."""
    (site,) = made.sites
    plant = Plant(made, site, folder, EmissionLog(emission_folder(folder, site)), from_ns)
    now_ns = from_ns
    for _ in range(seconds // 10):
        now_ns += 10 * S
        await plant.advance(now_ns)
    await plant.stop()
    return now_ns


async def test_a_damaged_checkpoint_is_named_and_nothing_is_overwritten(tmp_path: Path) -> None:
    now_ns = await live(scenario("imm-01"), tmp_path, T0, 1_800)
    before = read_truth(truth_folder(tmp_path) / NAME, "cycles")
    file = tmp_path / "checkpoints" / f"{NAME}.json"
    file.write_bytes(b"{bad")
    with pytest.raises(StoreUnavailable, match=rf"{NAME}\.json: no checkpoint that can be read"):
        await live(scenario("imm-01"), tmp_path, now_ns, 60)
    assert read_truth(truth_folder(tmp_path) / NAME, "cycles").equals(before)


@pytest.mark.parametrize(
    ("lost", "said"),
    [("emissions", "has no emissions"), ("checkpoints", "but no checkpoint")],
)
async def test_half_a_data_folder_is_refused(tmp_path: Path, lost: str, said: str) -> None:
    now_ns = await live(scenario("imm-01"), tmp_path, T0, 600)
    shutil.rmtree(tmp_path / lost)
    with pytest.raises(StoreUnavailable, match=said):
        await live(scenario("imm-01"), tmp_path, now_ns, 60)


async def test_another_machine_has_another_life_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now_ns = await live(scenario("imm-01", "imm-02"), tmp_path, T0, 600)
    with caplog.at_level(logging.WARNING, "simulators.plant"):
        later_ns = await live(scenario("imm-03", "imm-02"), tmp_path, now_ns, 600)
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == ["imm-03"]
    (site,) = scenario("imm-03", "imm-02").sites
    said = {
        (key.asset.name, key.signal): columns
        for key, columns in read_series(emission_folder(tmp_path, site)).items()
    }
    counter = said["imm-02", "cycle.counter"].value
    assert ((counter[1:] - counter[:-1]) % 65_536 == 1).all(), "the one that stayed went on"
    assert said["imm-03", "cycle.counter"].time_ns[0] > now_ns
    assert said["imm-01", "cycle.counter"].time_ns[-1] <= now_ns < later_ns


def test_a_fingerprint_tells_what_a_unit_is_and_not_how_it_speaks() -> None:
    one, other = scenario("imm-01"), scenario("imm-01", batch=(100, 300))
    louder = one.sites[0].model_copy(
        update={"machines": (one.sites[0].machines[0].model_copy(update={"meter": "plain"}),)}
    )
    made = fingerprints(one, one.sites[0])
    assert made == fingerprints(one, louder)
    assert made != fingerprints(other, other.sites[0])
    assert made != fingerprints(one.model_copy(update={"seed": 2}), one.sites[0])


def test_what_has_not_changed_for_hours_is_shown_again_and_not_as_nothing(tmp_path: Path) -> None:
    site_of = {"asset": "acme/dg01", "name": "D", "time_zone": "Asia/Shanghai", "opcua_port": 4840}
    made = Scenario.model_validate({"history_h": 0.1, "sites": [{**site_of, "tcus": [{"cell": "tcu-01"}]}]})
    (site,) = made.sites

    def begin(now_ns: int) -> tuple[Plant, EmissionLog]:
        log = EmissionLog(emission_folder(tmp_path, site))
        return Plant(made, site, tmp_path, log, now_ns), log

    _, log = begin(T0 - 3 * 3_600 * S)
    asset = site.cells["tcu-01"]
    setpoint, temperature = (SeriesKey(asset, f"tcu.{name}") for name in ("setpoint", "temperature"))
    (said_at, said) = log.latest()[setpoint]
    assert said == 55.0
    log.append([Row(log.series(temperature), T0 - S, 54.3)])
    log.close()
    plant, log = begin(T0)
    assert log.latest()[setpoint] == (said_at, said), "nothing new was said"
    log.close()
    assert plant.series_total > 0


async def test_a_clock_that_is_put_back_is_waited_for_and_mentioned_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = scenario("imm-01")
    (site,) = made.sites
    log = EmissionLog(emission_folder(tmp_path, site))
    plant = Plant(made, site, tmp_path, log, T0)
    await plant.advance(T0 + 60 * S)
    rows = log.rows_total
    with caplog.at_level(logging.WARNING, "simulators.plant"):
        for second in range(3):
            await plant.advance(T0 + second * S)
        assert [record.getMessage() for record in caplog.records] == [
            "the clock was put back by 60 s; acme/dg01 waits for it"
        ]
    assert log.rows_total == rows
    await plant.advance(T0 + 90 * S)
    assert log.rows_total > rows
    await plant.stop()
