"""An injection moulding machine: what it plans, what it shows, and how faults come through."""

from __future__ import annotations

from datetime import date, time
from typing import Any
from zoneinfo import ZoneInfo

from simulators.physics.calendar import Calendar, Shift
from simulators.physics.drives import DRIVES
from simulators.physics.faults import FAULT_KINDS, Fault
from simulators.physics.jobs import JobOrder
from simulators.physics.machine import COARSE, InjectionMachine, MachineSpec
from simulators.physics.materials import MATERIALS
from simulators.physics.moulds import Mould
from simulators.physics.stops import StopRates
from tests.contract.unit_contract import HOUR_MS, START_MS, UnitContract

ZONE = ZoneInfo("Asia/Hong_Kong")
SHIFTS = (
    Shift("early", time(7), time(15), frozenset(range(6)), ((time(11), time(11, 30)),)),
    Shift("late", time(15), time(22), frozenset(range(5)), ((time(18, 30), time(19)),)),
)
AROUND_THE_CLOCK = Calendar(ZONE)
SHORT_DAYS = Calendar(ZONE, SHIFTS, frozenset({date(2026, 3, 3)}))
"""The second day of a life that begins at `START_MS` is a holiday."""
MOULDS = tuple(
    Mould(name, f"{name}-part", material, MATERIALS[material], 4, 22.5, 2.5, 1200.0, ("black", "grey"))
    for name, material in (("HOUSING", "abs"), ("COVER", "pp"))
)
RESTLESS = StopRates(between_s=1_800.0, repair_s=240.0, micro_between_s=600.0, changeover_s=900.0)


def spec(drive: str = "electric", **changed: Any) -> MachineSpec:
    return MachineSpec("imm-1", DRIVES[drive], 1_800.0, 5, **({"moulds": MOULDS} | changed))


def machine(
    its_spec: MachineSpec, calendar: Calendar = AROUND_THE_CLOCK, seed: int = 1, start_ms: int = START_MS
) -> InjectionMachine:
    made = InjectionMachine(its_spec, calendar, seed, start_ms)
    made.sampling = COARSE
    return made


def fault(kind: str, begin_h: float, end_h: float, place: int = 2, severity: float = 1.0) -> Fault:
    begin_ms, end_ms = (START_MS + round(hours * HOUR_MS) for hours in (begin_h, end_h))
    return Fault(kind, begin_ms, end_ms, severity, place)  # type: ignore[arg-type]


class TestElectric(UnitContract):
    def make(self, seed: int, start_ms: int = START_MS) -> InjectionMachine:
        return machine(spec(), AROUND_THE_CLOCK, seed, start_ms)


class TestWatchedClosely(UnitContract):
    hours = 3.0

    def make(self, seed: int, start_ms: int = START_MS) -> InjectionMachine:
        return InjectionMachine(spec(stops=RESTLESS), AROUND_THE_CLOCK, seed, start_ms)


class TestShifts(UnitContract):
    """Servo-hydraulic, through a break, an evening, a holiday and the warm-up before the first shift after it."""

    hours = 49.0

    def make(self, seed: int, start_ms: int = START_MS) -> InjectionMachine:
        return machine(spec("servo_hydraulic"), SHORT_DAYS, seed, start_ms)


class TestSemiAutomatic(UnitContract):
    hours = 16.0

    def make(self, seed: int, start_ms: int = START_MS) -> InjectionMachine:
        return machine(spec("hydraulic", semi_automatic=True, stops=RESTLESS), SHORT_DAYS, seed, start_ms)


class TestOrders(UnitContract):
    """Small ordered jobs with a gap, restless, with colours that change or not."""

    hours = 14.0

    def make(self, seed: int, start_ms: int = START_MS) -> InjectionMachine:
        orders = (
            JobOrder("A", 0, 400, "black"),
            JobOrder("B", 0, 402, "black"),
            JobOrder("C", 0, 401, "grey"),
            JobOrder("D", 1, 403, "grey", START_MS + 8 * HOUR_MS),
        )
        return machine(
            spec(orders=orders, stops=RESTLESS, batch=(200, 600)), AROUND_THE_CLOCK, seed, start_ms
        )


class TestFaults(UnitContract):
    """Every kind of fault, one after the other and two at a time."""

    hours = 20.0

    def make(self, seed: int, start_ms: int = START_MS) -> InjectionMachine:
        faults = tuple(
            fault(kind, 1.0 + 2.0 * number, 3.5 + 2.0 * number) for number, kind in enumerate(FAULT_KINDS)
        )
        return machine(spec("hydraulic", faults=faults), AROUND_THE_CLOCK, seed, start_ms)
