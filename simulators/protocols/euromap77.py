"""Which OPC UA variable shows which signal, by the browse names of EUROMAP 77 (OPC 40077) and 83 (OPC 40083).

What those know no variable for (heater outputs, pressures, positions, the figures of the last shot: OPC 40077 sends
them with events only) stands under vendor names in the server's own namespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shopfloor import signal
from simulators.physics import signals
from simulators.protocols.opcua_variable import (
    BAR,
    CELSIUS,
    CUBIC_CENTIMETRE,
    KILONEWTON,
    LITRE_PER_MINUTE,
    MILLIMETRE,
    MILLISECOND,
    PER_MINUTE,
    PERCENT,
    Kind,
    Raw,
    Unit,
    Variable,
)

__all__ = ["MODE", "PRODUCTION", "STANDSTILL", "Kind", "Raw", "Unit", "Variable", "variables"]


def variables(zones: int) -> Iterator[Variable]:
    """Yield the variables of a machine with ``zones`` barrel zones."""
    yield from _STATUS
    yield from _JOB
    yield from _CYCLE
    for zone in range(1, zones + 1):
        yield from _barrel_zone(zone)
    for half in (1, 2):
        yield from _mould_zone(half)
    yield from _PROCESS


MODE: Final = ("imm:MachineStatus", "gen:MachineMode")
PRODUCTION: Final = ("imm:MachineMESStatus", "gen:ProductionControl", "gen:ProductionStatus")
STANDSTILL: Final = ("imm:MachineMESStatus", "gen:StandstillReasonId")
_MESSAGE: Final = ("imm:MachineMESStatus", "gen:StandstillMessage")
_ACTIVE: Final = ("imm:Jobs", "gen:ActiveJob")
_VALUES: Final = ("imm:Jobs", "gen:ActiveJobValues")
_POWER_UNIT: Final = ("imm:PowerUnits", "gen:PowerUnit_1")
_MOULD: Final = ("imm:Moulds", "gen:Mould_1")
_BARREL: Final = ("imm:InjectionUnits", "imm:InjectionUnit_1", "imm:TemperatureZones")
_LAST_CYCLE: Final = ("own:LastCycle",)
_ACTUAL: Final = ("own:ProcessValues",)


def _state(name: str, path: tuple[str, ...], description: str) -> Variable:
    return Variable(name, path, "Int32", "", description)


def _text(name: str, path: tuple[str, ...], description: str, kind: Kind = "String") -> Variable:
    return Variable(name, path, kind, "", description)


def _count(name: str, path: tuple[str, ...], description: str, kind: Kind = "UInt64") -> Variable:
    return Variable(name, path, kind, "1", description)


def _time(name: str, path: tuple[str, ...], description: str) -> Variable:
    return Variable(name, path, "Double", "s", description, 0.001, MILLISECOND)


def _analog(name: str, path: tuple[str, ...], ucum: str, unit: Unit, description: str) -> Variable:
    return Variable(name, path, "Double", ucum, description, 1.0, unit)


_STATUS: Final = (
    _state(signal.MACHINE_MODE, MODE, "Machine mode (OPC 40083 MachineModeEnumeration)"),
    _state(signal.PRODUCTION_STATUS, PRODUCTION, "Production status (OPC 40083 ProductionStatusEnumeration)"),
    _text(signal.STANDSTILL_REASON, STANDSTILL, "Why the machine stands; empty while it does not"),
    _text(
        "status.alarm", (*_MESSAGE, "gen:Id"), "The fault that stops the machine; empty while there is none"
    ),
    _text("status.alarm_text", (*_MESSAGE, "Message"), "The fault in words", "LocalizedText"),
    _state(
        "status.alarm_classification",
        (*_MESSAGE, "gen:Classification"),
        "Where the fault is (OPC 40077 IMMMessageClassificationEnumeration)",
    ),
    Variable(signal.POWER_ON, (*_POWER_UNIT, "gen:PowerOn"), "Boolean", "", "Power unit on"),
    _analog(
        signals.POWER_UNIT_TEMPERATURE,
        (*_POWER_UNIT, "gen:ActualTemperature"),
        "Cel",
        CELSIUS,
        "Temperature of the power unit",
    ),
    _state(
        signal.MOULD_STATUS, (*_MOULD, "gen:MouldStatus"), "Mould status (OPC 40083 MouldStatusEnumeration)"
    ),
)

_JOB: Final = (
    _text(signal.JOB_NAME, (*_ACTIVE, "gen:JobName"), "Job"),
    _text("job.material", (*_ACTIVE, "gen:Material"), "Material of the job", "StringArray"),
    _text("job.product", (*_ACTIVE, "gen:ProductName"), "What the job makes", "StringArray"),
    _text("mould.id", (*_ACTIVE, "gen:MouldId"), "Mould of the job"),
    _count(signals.JOB_NOMINAL_PARTS, (*_ACTIVE, "gen:NominalParts"), "Parts ordered"),
    _count(signals.JOB_CAVITIES, (*_ACTIVE, "gen:NumCavities"), "Cavities of the mould", "UInt32"),
    _time(signal.EXPECTED_CYCLE_TIME, (*_ACTIVE, "gen:ExpectedCycleTime"), "Standard cycle time"),
    _state(signal.JOB_STATUS, (*_VALUES, "gen:JobStatus"), "Job status (OPC 40083 JobStatusEnumeration)"),
    _text("job.lot", (*_VALUES, "gen:CurrentLotName"), "Lot being made"),
    _count(signals.JOB_CYCLE_COUNTER, (*_VALUES, "gen:JobCycleCounter"), "Cycles of the job"),
    _count(signal.PARTS_COUNTER, (*_VALUES, "gen:JobPartsCounter"), "Parts of the job"),
    _count(signal.GOOD_PARTS_COUNTER, (*_VALUES, "gen:JobGoodPartsCounter"), "Good parts of the job"),
    _count(signal.BAD_PARTS_COUNTER, (*_VALUES, "gen:JobBadPartsCounter"), "Bad parts of the job"),
    _count("job.test_samples_counter", (*_VALUES, "gen:JobTestSamplesCounter"), "Test samples of the job"),
)

_CYCLE: Final = (
    _count(signal.CYCLE_COUNTER, (*_VALUES, "gen:MachineCycleCounter"), "Cycles of the machine's life"),
    _time(signal.CYCLE_TIME, (*_VALUES, "gen:LastCycleTime"), "Last cycle time"),
    _state(
        "cycle.quality",
        (*_LAST_CYCLE, "own:CycleQuality"),
        "Quality of the last cycle (OPC 40083 CycleQualityEnumeration)",
    ),
    _time(signals.INJECTION_TIME, (*_LAST_CYCLE, "own:InjectionTime"), "Injection time of the last cycle"),
    _time(signals.DOSING_TIME, (*_LAST_CYCLE, "own:DosingTime"), "Dosing time of the last cycle"),
    *(
        _analog(name, (*_LAST_CYCLE, f"own:{browse}"), ucum, unit, f"{description} of the last cycle")
        for name, browse, ucum, unit, description in (
            (signals.CUSHION, "CushionStroke", "mm", MILLIMETRE, "Melt cushion"),
            ("cycle.cushion_volume", "CushionVolume", "cm3", CUBIC_CENTIMETRE, "Volume of the melt cushion"),
            (
                "cycle.plastification_volume",
                "PlastificationVolume",
                "cm3",
                CUBIC_CENTIMETRE,
                "Volume plasticised",
            ),
            (signals.PEAK_PRESSURE, "SpecificPressureMaximum", "bar", BAR, "Highest injection pressure"),
            ("cycle.cavity_pressure", "CavityPressureMaximum", "bar", BAR, "Highest cavity pressure"),
            ("cycle.hold_pressure", "HoldSpecificPressureAverage", "bar", BAR, "Mean holding pressure"),
            ("cycle.back_pressure", "BackPressure", "bar", BAR, "Back pressure"),
        )
    ),
)

_PROCESS: Final = tuple(
    _analog(name, (*_ACTUAL, f"own:{browse}"), ucum, unit, description)
    for name, browse, ucum, description, unit in (
        (signals.INJECTION_PRESSURE, "InjectionPressure", "bar", "Injection pressure", BAR),
        (signals.SCREW_POSITION, "ScrewPosition", "mm", "Screw position", MILLIMETRE),
        (signals.SCREW_SPEED, "ScrewSpeed", "{rev}/min", "Screw speed", PER_MINUTE),
        (signals.CLAMP_FORCE, "ClampForce", "kN", "Clamping force", KILONEWTON),
        (signals.CLAMP_POSITION, "MouldOpening", "mm", "Opening of the mould", MILLIMETRE),
        (signals.COOLING_FLOW, "CoolingFlow", "L/min", "Flow of cooling water", LITRE_PER_MINUTE),
        (
            signals.COOLING_RETURN_TEMPERATURE,
            "CoolingReturnTemperature",
            "Cel",
            "Temperature of the cooling water's return",
            CELSIUS,
        ),
    )
)


def _barrel_zone(zone: int) -> Iterator[Variable]:
    path = (*_BARREL, f"gen:TemperatureZone_{zone}")
    where = f"barrel zone {zone}"
    yield from _zone(path, where, signals.barrel_temperature(zone), signals.barrel_setpoint(zone))
    heater = (*path, "own:HeaterOutput")
    yield _analog(signals.barrel_heater(zone), heater, "%", PERCENT, f"Heater output of {where}")


def _mould_zone(half: int) -> Iterator[Variable]:
    path = (*_MOULD, "gen:TemperatureZones", f"gen:TemperatureZone_{half}")
    where = ("the fixed", "the moving")[half - 1] + " mould half"
    yield from _zone(path, where, signals.mould_temperature(half), signals.mould_setpoint(half))


def _zone(path: tuple[str, ...], where: str, actual: str, nominal: str) -> Iterator[Variable]:
    yield _analog(actual, (*path, "gen:ActualTemperature"), "Cel", CELSIUS, f"Temperature of {where}")
    yield _analog(nominal, (*path, "gen:NominalTemperature"), "Cel", CELSIUS, f"Set temperature of {where}")
