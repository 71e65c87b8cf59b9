"""Process faults of moulding machines come through as section 6 of the domain facts has them, and only by that."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pytest

from shopfloor import signal
from simulators.physics import signals
from simulators.physics.calendar import Calendar
from simulators.physics.drives import DRIVES
from simulators.physics.faults import FAULT_KINDS, Fault, FaultKind, effects, schedule, upsets
from simulators.physics.jobs import JobOrder
from simulators.physics.machine import InjectionMachine, MachineSpec, Sampling
from simulators.physics.materials import MATERIALS
from simulators.physics.moulds import Mould
from simulators.physics.stops import StopRates
from simulators.physics.unit import Change, CycleEnd, Moment, Stretch
from simulators.physics.zones import Upset
from tests.contract.unit_contract import DAY_MS, HOUR_MS, START_MS, live, planned, table

Numbers = npt.NDArray[np.float64]
BEGIN_H, END_H, LIFE_H = 8.0, 20.0, 22.0
UNSTOPPED: Final = StopRates(between_s=1e9, micro_between_s=1e9)
ZONE, CAVITY = 2, 3
SELDOM: Final = Sampling(40_000, 60_000)
"""Looks that are enough for the means of hours."""


def spec(faults: tuple[Fault, ...] = ()) -> MachineSpec:
    mould = Mould("M", "housing", "abs", MATERIALS["abs"], 4, 22.5, 2.5, 1200.0)
    orders = (JobOrder("J", 0, 1_000_000, "natural"),)
    return MachineSpec(
        "imm-1", DRIVES["hydraulic"], 1_800.0, 5, (mould,), UNSTOPPED, orders=orders, faults=faults
    )


def fault(kind: FaultKind, severity: float = 1.0, begin_h: float = BEGIN_H, end_h: float = END_H) -> Fault:
    begin_ms, end_ms = (START_MS + round(hours * HOUR_MS) for hours in (begin_h, end_h))
    return Fault(kind, begin_ms, end_ms, severity, CAVITY if kind == "blocked_gate" else ZONE)


@dataclass
class Life:
    """A machine that makes one job without a stop, around a fault from `BEGIN_H` to `END_H`."""

    fault: Fault
    stretches: list[Stretch]

    @cached_property
    def moments(self) -> list[Moment]:
        """All that was to be seen: not every test looks, and to look takes longer than to live."""
        unit = machine(self.fault)
        return [moment for each in live(unit, self.stretches[-1].end_ms) for moment in each.moments]

    def column(self, name: str, begin_h: float, end_h: float) -> Numbers:
        """Return one figure of the cycles between two times of the life."""
        begin_ms, end_ms = (START_MS + hours * HOUR_MS for hours in (begin_h, end_h))
        found = [
            np.asarray(
                facts.columns["end_ms"] - facts.columns["begin_ms"]  # type: ignore[operator]
                if name == "cycle_ms"
                else facts.columns[name],
                dtype=np.float64,
            )[
                (np.asarray(facts.columns["begin_ms"]) >= begin_ms)
                & (np.asarray(facts.columns["end_ms"]) <= end_ms)
            ]
            for stretch in self.stretches
            for facts in stretch.facts
            if facts.table == "cycles"
        ]
        return np.concatenate(found)

    def well(self, name: str) -> Numbers:
        return self.column(name, 0.0, BEGIN_H)

    def ill(self, name: str) -> Numbers:
        return self.column(name, BEGIN_H, END_H)

    def ratio(self, name: str) -> float:
        return float(self.ill(name).mean() / self.well(name).mean())

    def shown(self, name: str, begin_h: float, end_h: float) -> Numbers:
        """Return the values that a signal took between two times of the life."""
        begin_ns, end_ns = ((START_MS + hours * HOUR_MS) * 1e6 for hours in (begin_h, end_h))
        return np.array(
            [
                float(moment.value)
                for moment in self.moments
                if isinstance(moment, Change)
                and moment.signal == name
                and begin_ns <= moment.time_ns < end_ns
            ]
        )

    def ends(self, begin_h: float, end_h: float) -> list[CycleEnd]:
        begin_ns, end_ns = ((START_MS + hours * HOUR_MS) * 1e6 for hours in (begin_h, end_h))
        return [
            moment
            for moment in self.moments
            if isinstance(moment, CycleEnd) and begin_ns <= moment.time_ns < end_ns
        ]

    def true_c(self, zone: int, begin_h: float, end_h: float) -> Numbers:
        """Return what a barrel zone really had, not what its sensor showed."""
        found = []
        for stretch in self.stretches:
            detail: Any = stretch.detail
            trace = detail.detail.surroundings.barrel
            hours = (trace.time_ms - START_MS) / HOUR_MS
            found.append(trace.temperature_c[(hours >= begin_h) & (hours < end_h), zone - 1])
        return np.concatenate(found)


@lru_cache(maxsize=32)
def life(kind: FaultKind, severity: float = 1.0) -> Life:
    its_fault = fault(kind, severity)
    return Life(its_fault, planned(machine(its_fault), START_MS + round(LIFE_H * HOUR_MS)))


def machine(its_fault: Fault) -> InjectionMachine:
    unit = InjectionMachine(spec((its_fault,)), Calendar(ZoneInfo("UTC")), 4, START_MS)
    unit.sampling = SELDOM
    return unit


severities = pytest.mark.parametrize("severity", [0.3, 1.0])
each_kind = pytest.mark.parametrize("kind", FAULT_KINDS)


@each_kind
def test_a_fault_is_labelled_in_its_own_table_and_nowhere_else(kind: FaultKind) -> None:
    lived = life(kind)
    rows = table(lived.stretches, "faults", "imm-1")
    place = {"sensor_drift": "zone 2", "heater_band": "zone 2", "blocked_gate": "cavity 3"}.get(kind)
    assert {(row["kind"], row["severity"], row["place"]) for row in rows} == {(kind, 1.0, place)}
    assert rows[0]["begin_ms"] == START_MS + round(BEGIN_H * HOUR_MS)
    assert rows[-1]["end_ms"] == START_MS + round(END_H * HOUR_MS)
    assert all(later["begin_ms"] == earlier["end_ms"] for earlier, later in itertools.pairwise(rows))
    texts = [
        str(row[name]).lower()
        for told in ("states", "cycles", "energy", "downtime", "jobs", "changeovers")
        for row in table(lived.stretches, told, "imm-1")
        for name in row
        if isinstance(row[name], str)
    ]
    texts += [
        str(value).lower()
        for moment in lived.moments
        for value in ([moment.value] if isinstance(moment, Change) else moment.values.values())
        if isinstance(value, str)
    ]
    assert texts
    assert not any(kind in text or kind.replace("_", " ") in text or "fault" in text for text in set(texts))


@each_kind
def test_all_is_as_before_once_a_fault_is_over(kind: FaultKind) -> None:
    lived = life(kind)
    for name in ("cycle_ms", "injection_time_s", "cavity_pressure_bar", "clamp_force_kn", "cushion_mm"):
        after = lived.column(name, END_H + 1.0, LIFE_H)
        assert after.mean() == pytest.approx(lived.well(name).mean(), rel=0.02)
    alarms = [
        moment for moment in lived.moments if isinstance(moment, Change) and moment.signal == signals.ALARM
    ]
    assert alarms[-1].value == ""


@severities
def test_a_drifting_sensor_shows_the_set_point_while_the_melt_cools(severity: float) -> None:
    lived = life("sensor_drift", severity)
    name = signals.barrel_temperature(ZONE)
    early, late = lived.shown(name, 2.0, BEGIN_H), lived.shown(name, 14.0, END_H)
    assert late.mean() == pytest.approx(early.mean(), abs=0.8), "nobody sees it in the temperature"
    cooled = lived.true_c(ZONE, BEGIN_H, BEGIN_H + 2.0).mean() - lived.true_c(ZONE, 18.0, END_H).mean()
    assert cooled / 10.0 == pytest.approx(0.3 * severity, abs=0.1), "0.3 °C an hour"
    # Thicker melt: pressure and dosing time drift upward.
    for column in ("peak_pressure_bar", "dosing_time_s"):
        begin, end = (lived.column(column, *hours).mean() for hours in ((2.0, BEGIN_H), (18.0, END_H)))
        assert end > begin * (1.0 + 0.004 * severity)


@severities
def test_a_broken_heater_band_leaves_its_zone_15_to_40_degrees_too_cold(severity: float) -> None:
    lived = life("heater_band", severity)
    point = float(lived.shown(signals.barrel_setpoint(ZONE), 0.0, LIFE_H)[0])
    settled = lived.shown(signals.barrel_temperature(ZONE), BEGIN_H + 2.0, END_H)
    assert -40.0 <= settled.mean() - point <= -15.0
    assert set(lived.shown(signals.barrel_heater(ZONE), BEGIN_H + 1.0, END_H)) <= {100.0}
    assert lived.shown(signals.barrel_heater(ZONE), BEGIN_H, BEGIN_H + 1.0)[-1] == 100.0
    assert lived.shown(signals.ALARM_CLASSIFICATION, BEGIN_H, END_H).tolist() == [111.0]


def test_two_faults_of_one_zone_both_act_on_it_in_whichever_order() -> None:
    drift, worse = fault("sensor_drift", 1.0), fault("sensor_drift", 0.5, BEGIN_H + 1.0)
    band, weaker = fault("heater_band", 1.0), fault("heater_band", 0.3)
    now_ms = START_MS + round((BEGIN_H + 3.0) * HOUR_MS)
    for order in itertools.permutations((drift, worse, band, weaker)):
        found = upsets(order, 5, now_ms)
        assert found is not None
        assert found[ZONE - 1] == pytest.approx(Upset(0.3 + 0.15, 3 * 0.3 + 2 * 0.15, 37.0))
        assert [each for each in found if each != Upset()] == [found[ZONE - 1]]
    assert upsets([fault("wet_material")], 5, now_ms) is None


@severities
def test_a_blocked_cooling_circuit_warms_the_mould_and_lengthens_the_cycle(severity: float) -> None:
    lived = life("cooling_blockage", severity)
    mould_k = lived.column("mould_temperature_c", BEGIN_H + 1.0, END_H).mean() - 55.0
    assert mould_k == pytest.approx(5.0 + 10.0 * severity, abs=1.0)
    assert 5.0 <= mould_k <= 16.0
    assert 1.04 <= lived.ratio("cycle_ms") <= 1.21
    flow = [lived.shown(signals.COOLING_FLOW, *hours).mean() for hours in ((0.0, BEGIN_H), (BEGIN_H, END_H))]
    assert flow[1] / flow[0] == pytest.approx(1.0 - 0.3 * severity, abs=0.03)
    back = [
        lived.shown(signals.COOLING_RETURN_TEMPERATURE, *hours).mean()
        for hours in ((1.0, BEGIN_H), (BEGIN_H + 1.0, END_H))
    ]
    assert back[1] > back[0] + 1.0
    assert lived.shown(signals.ALARM_CLASSIFICATION, BEGIN_H, END_H).tolist() == [112.0]


@severities
def test_a_worn_check_ring_makes_the_cushion_unsteady(severity: float) -> None:
    lived = life("check_ring_wear", severity)
    cushion = lived.ill("cushion_mm")
    assert cushion.std() / lived.well("cushion_mm").std() == pytest.approx(1.0 + 4.0 * severity, rel=0.15)
    if severity == 1.0:  # less is lost in the usual scrap of half a day
        assert (lived.ill("bad") > 0).mean() > (lived.well("bad") > 0).mean()


def test_the_cushion_shrinks_by_a_percent_a_day() -> None:
    worn = [fault("check_ring_wear", 1.0, 0.0, 24.0 * 20)]
    shares = [effects(worn, START_MS + round(days * DAY_MS)).cushion for days in (0.0, 1.0, 10.0)]
    assert shares == pytest.approx([1.0, 0.99, 0.90])


@severities
def test_a_blocked_gate_costs_cavity_pressure_and_its_cavitys_parts(severity: float) -> None:
    lived = life("blocked_gate", severity)
    assert lived.ratio("cavity_pressure_bar") == pytest.approx(1.0 - 0.4 * severity, abs=0.02)
    assert lived.ratio("injection_time_s") == pytest.approx(1.0 - 0.08 * severity, abs=0.02)
    assert lived.ill("bad").min() >= 1
    ends = lived.ends(BEGIN_H + 0.1, END_H)
    assert {end.values[signals.CYCLE_QUALITY] for end in ends} == {1.0}
    single = [end for end in ends if end.values[signals.CYCLE_BAD_PARTS] == 1.0]
    assert len(single) > 0.9 * len(ends)
    assert {end.values[signals.CYCLE_BAD_CAVITY] for end in single} == {float(CAVITY)}


@severities
def test_wet_material_costs_pressure_and_three_to_ten_percent_scrap(severity: float) -> None:
    lived = life("wet_material", severity)
    assert lived.ratio("peak_pressure_bar") == pytest.approx(1.0 - 0.05 * severity, abs=0.012)
    rejected = (lived.ill("bad") > 0).mean() - (lived.well("bad") > 0).mean()
    assert 0.02 <= rejected <= 0.12
    assert rejected == pytest.approx(0.03 + 0.07 * severity, abs=0.025)


@severities
def test_hot_oil_slows_the_injection(severity: float) -> None:
    lived = life("hot_oil", severity)
    oil = lived.shown(signals.POWER_UNIT_TEMPERATURE, BEGIN_H + 2.0, END_H)
    assert oil.mean() > 55.0
    assert lived.shown(signals.POWER_UNIT_TEMPERATURE, 0.0, BEGIN_H).mean() < 50.0
    assert lived.ratio("injection_time_s") == pytest.approx(1.0 + 0.10 * severity, abs=0.01)
    assert lived.ratio("cycle_ms") > 1.0 + 0.03 * severity


@severities
def test_a_lost_tie_bar_costs_clamp_force_and_brings_flash(severity: float) -> None:
    lived = life("clamp_force_loss", severity)
    assert lived.ratio("clamp_force_kn") == pytest.approx(1.0 - 0.08 * severity, abs=0.003)
    assert (lived.ill("bad") > 0).mean() > (lived.well("bad") > 0).mean()


@severities
def test_a_slow_operator_opens_the_guard_by_hand(severity: float) -> None:
    lived = life("slow_operator", severity)
    assert lived.ratio("cycle_ms") > 1.1 + 0.2 * severity - 0.05
    assert lived.ill("cycle_ms").std() > 5.0 * lived.well("cycle_ms").std()
    modes = lived.shown(signal.MACHINE_MODE, 0.0, LIFE_H).tolist()
    assert modes == [1.0, 2.0, 1.0]


@each_kind
def test_what_a_fault_does_not_touch_stays_as_it_was(kind: FaultKind) -> None:
    touched = {
        "sensor_drift": {"peak_pressure_bar", "dosing_time_s", "cavity_pressure_bar"},
        "heater_band": {"peak_pressure_bar", "dosing_time_s", "cavity_pressure_bar"},
        "cooling_blockage": {"cycle_ms"},
        "check_ring_wear": set(),
        "blocked_gate": {"cavity_pressure_bar", "injection_time_s"},
        "wet_material": {"peak_pressure_bar", "cavity_pressure_bar"},
        "hot_oil": {"injection_time_s", "cycle_ms"},
        "clamp_force_loss": {"clamp_force_kn"},
        "slow_operator": {"cycle_ms"},
    }[kind]
    for name in {
        "peak_pressure_bar",
        "dosing_time_s",
        "cavity_pressure_bar",
        "injection_time_s",
        "clamp_force_kn",
        "hold_pressure_bar",
        "cycle_ms",
    } - touched:
        assert life(kind).ratio(name) == pytest.approx(1.0, abs=0.012), name


def test_random_faults_come_as_often_as_asked_one_at_a_time_of_a_kind() -> None:
    found = schedule(3, START_MS, 400.0, 2.0, FAULT_KINDS, 5, 4)
    assert len(found) == pytest.approx(800, rel=0.25), (
        "fewer than drawn: a kind that is at work is not begun again"
    )
    assert [each.begin_ms for each in found] == sorted(each.begin_ms for each in found)
    assert {each.kind for each in found} == set(FAULT_KINDS)
    for kind in FAULT_KINDS:
        of_kind = [each for each in found if each.kind == kind]
        assert all(earlier.end_ms <= later.begin_ms for earlier, later in itertools.pairwise(of_kind))
        assert all(0.3 <= each.severity <= 1.0 for each in of_kind)
        assert all(1 <= each.place <= (4 if kind == "blocked_gate" else 5) for each in of_kind)
    assert schedule(3, START_MS, 400.0, 2.0, FAULT_KINDS, 5, 4) == found
    assert schedule(4, START_MS, 400.0, 2.0, FAULT_KINDS, 5, 4) != found
    assert schedule(3, START_MS, 400.0, 0.0, FAULT_KINDS, 5, 4) == []
