"""Which OPC UA variable shows which signal, by the browse names of EUROMAP 77 (OPC 40077) and 83 (OPC 40083).

What those know no variable for (heater outputs, pressures, positions, the figures of the last shot: OPC 40077 sends
them with events only) stands under vendor names in the server's own namespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from shopfloor import signal
from simulators.emission_format import Value
from simulators.physics import signals

DI_URI: Final = "http://opcfoundation.org/UA/DI/"
GENERAL_TYPES_URI: Final = "http://opcfoundation.org/UA/PlasticsRubber/GeneralTypes/"
IMM2MES_URI: Final = "http://opcfoundation.org/UA/PlasticsRubber/IMM2MES/"

Kind = Literal["Boolean", "Int32", "UInt64", "Double", "String"]
Raw = bool | int | float | str


class Unit(NamedTuple):
    """An engineering unit as OPC UA shows it (Part 8 §5.6.3)."""

    code: str
    """UN/ECE Recommendation 20; its bytes make the UnitId."""
    symbol: str


CELSIUS: Final = Unit("CEL", "°C")
BAR: Final = Unit("BAR", "bar")
MILLIMETRE: Final = Unit("MMT", "mm")
KILONEWTON: Final = Unit("B47", "kN")
MILLISECOND: Final = Unit("C26", "ms")
PERCENT: Final = Unit("P1", "%")
PER_MINUTE: Final = Unit("RPM", "r/min")
LITRE_PER_MINUTE: Final = Unit("L2", "l/min")


class Variable(NamedTuple):
    """One variable of one machine."""

    signal: str
    path: tuple[str, ...]
    """Browse names below the machine, each with the letter of its namespace: ``imm:Jobs``, ``gen:JobName``, ``own:...``."""
    kind: Kind
    unit: str
    """UCUM, of the sample that the variable becomes: raw * scale + 0.0."""
    description: str
    scale: float = 1.0
    shown_unit: Unit | None = None
    """Of the raw value, for EngineeringUnits."""

    @property
    def node_name(self) -> str:
        """The path as it stands in the node id."""
        return ".".join(step.partition(":")[2] for step in self.path)

    def raw(self, value: Value) -> Raw:
        """Return what the variable shows where the signal is ``value``."""
        if isinstance(value, str):
            return value
        if self.kind == "Double":
            return value if self.scale == 1.0 else float(round(value / self.scale))
        return bool(value) if self.kind == "Boolean" else round(value)

    def sample(self, raw: Raw) -> Value:
        """Return what a correct collector stores for a raw value, computed as it computes it."""
        return raw if isinstance(raw, str) else float(raw) * self.scale + 0.0


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


_MODE_PATH: Final = ("imm:MachineStatus", "gen:MachineMode")
_CONTROL: Final = ("imm:MachineMESStatus", "gen:ProductionControl")
_ACTIVE: Final = ("imm:Jobs", "gen:ActiveJob")
_VALUES: Final = ("imm:Jobs", "gen:ActiveJobValues")
_POWER_UNIT: Final = ("imm:PowerUnits", "gen:PowerUnit_1")
_MOULD: Final = ("imm:Moulds", "gen:Mould_1")
_BARREL: Final = ("imm:InjectionUnits", "imm:InjectionUnit_1", "imm:TemperatureZones")
_LAST_CYCLE: Final = ("own:LastCycle",)
_ACTUAL: Final = ("own:ProcessValues",)

_STATUS: Final = (
    Variable(signal.MACHINE_MODE, _MODE_PATH, "Int32", "", "Machine mode (OPC 40083 MachineModeEnumeration)"),
    Variable(
        signal.PRODUCTION_STATUS,
        (*_CONTROL, "gen:ProductionStatus"),
        "Int32",
        "",
        "Production status (OPC 40083 ProductionStatusEnumeration)",
    ),
    Variable(
        signal.STANDSTILL_REASON,
        ("imm:MachineMESStatus", "gen:StandstillReasonId"),
        "String",
        "",
        "Why the machine stands; empty while it does not",
    ),
    Variable(signal.POWER_ON, (*_POWER_UNIT, "gen:PowerOn"), "Boolean", "", "Power unit on"),
    Variable(
        signals.POWER_UNIT_TEMPERATURE,
        (*_POWER_UNIT, "gen:ActualTemperature"),
        "Double",
        "Cel",
        "Temperature of the power unit",
        shown_unit=CELSIUS,
    ),
    Variable(
        signal.MOULD_STATUS,
        (*_MOULD, "gen:MouldStatus"),
        "Int32",
        "",
        "Mould status (OPC 40083 MouldStatusEnumeration)",
    ),
)

_JOB: Final = (
    Variable(signal.JOB_NAME, (*_ACTIVE, "gen:JobName"), "String", "", "Job"),
    Variable(signals.JOB_NOMINAL_PARTS, (*_ACTIVE, "gen:NominalParts"), "UInt64", "1", "Parts ordered"),
    Variable(signals.JOB_CAVITIES, (*_ACTIVE, "gen:NumCavities"), "UInt64", "1", "Cavities of the mould"),
    Variable(
        signal.EXPECTED_CYCLE_TIME,
        (*_ACTIVE, "gen:ExpectedCycleTime"),
        "Double",
        "s",
        "Standard cycle time",
        0.001,
        MILLISECOND,
    ),
    Variable(
        signal.JOB_STATUS,
        (*_VALUES, "gen:JobStatus"),
        "Int32",
        "",
        "Job status (OPC 40083 JobStatusEnumeration)",
    ),
    Variable(
        signals.JOB_CYCLE_COUNTER, (*_VALUES, "gen:JobCycleCounter"), "UInt64", "1", "Cycles of the job"
    ),
    Variable(signal.PARTS_COUNTER, (*_VALUES, "gen:JobPartsCounter"), "UInt64", "1", "Parts of the job"),
    Variable(
        signal.GOOD_PARTS_COUNTER,
        (*_VALUES, "gen:JobGoodPartsCounter"),
        "UInt64",
        "1",
        "Good parts of the job",
    ),
    Variable(
        signal.BAD_PARTS_COUNTER, (*_VALUES, "gen:JobBadPartsCounter"), "UInt64", "1", "Bad parts of the job"
    ),
)

_CYCLE: Final = (
    Variable(
        signal.CYCLE_COUNTER,
        (*_VALUES, "gen:MachineCycleCounter"),
        "UInt64",
        "1",
        "Cycles of the machine's life",
    ),
    Variable(
        signal.CYCLE_TIME,
        (*_VALUES, "gen:LastCycleTime"),
        "Double",
        "s",
        "Last cycle time",
        0.001,
        MILLISECOND,
    ),
    Variable(
        signals.INJECTION_TIME,
        (*_LAST_CYCLE, "own:InjectionTime"),
        "Double",
        "s",
        "Injection time of the last cycle",
        0.001,
        MILLISECOND,
    ),
    Variable(
        signals.DOSING_TIME,
        (*_LAST_CYCLE, "own:DosingTime"),
        "Double",
        "s",
        "Dosing time of the last cycle",
        0.001,
        MILLISECOND,
    ),
    Variable(
        signals.CUSHION,
        (*_LAST_CYCLE, "own:CushionStroke"),
        "Double",
        "mm",
        "Melt cushion of the last cycle",
        shown_unit=MILLIMETRE,
    ),
    Variable(
        signals.PEAK_PRESSURE,
        (*_LAST_CYCLE, "own:SpecificPressureMaximum"),
        "Double",
        "bar",
        "Highest injection pressure of the last cycle",
        shown_unit=BAR,
    ),
)

_PROCESS: Final = tuple(
    Variable(name, (*_ACTUAL, f"own:{browse}"), "Double", ucum, description, shown_unit=unit)
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
    actual, nominal = (*path, "gen:ActualTemperature"), (*path, "gen:NominalTemperature")
    yield Variable(
        signals.barrel_temperature(zone), actual, "Double", "Cel", f"Temperature of {where}", 1.0, CELSIUS
    )
    yield Variable(
        signals.barrel_setpoint(zone), nominal, "Double", "Cel", f"Set temperature of {where}", 1.0, CELSIUS
    )
    heater = (*path, "own:HeaterOutput")
    yield Variable(
        signals.barrel_heater(zone), heater, "Double", "%", f"Heater output of {where}", 1.0, PERCENT
    )


def _mould_zone(half: int) -> Iterator[Variable]:
    path = (*_MOULD, "gen:TemperatureZones", f"gen:TemperatureZone_{half}")
    where = ("the fixed", "the moving")[half - 1] + " mould half"
    actual, nominal = (*path, "gen:ActualTemperature"), (*path, "gen:NominalTemperature")
    yield Variable(
        signals.mould_temperature(half), actual, "Double", "Cel", f"Temperature of {where}", 1.0, CELSIUS
    )
    yield Variable(
        signals.mould_setpoint(half), nominal, "Double", "Cel", f"Set temperature of {where}", 1.0, CELSIUS
    )
