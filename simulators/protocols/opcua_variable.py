"""What a live OPC UA variable is: where it stands, how its values travel, and which samples they become."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from simulators.emission_format import Value

Kind = Literal[
    "Boolean", "Int32", "UInt16", "UInt32", "UInt64", "Double", "String", "LocalizedText", "StringArray"
]
"""How values travel; enumerations as Int32."""
Raw = bool | int | float | str
TEXTS: Final = frozenset({"String", "LocalizedText", "StringArray"})
"""The kinds whose raw value is text."""


class Unit(NamedTuple):
    """An engineering unit as OPC UA shows it (Part 8 §5.6.3), with the range that its values normally lie in."""

    code: str
    """UN/ECE Recommendation 20; its bytes make the UnitId."""
    symbol: str
    low: float
    high: float


CELSIUS: Final = Unit("CEL", "°C", 0.0, 500.0)
BAR: Final = Unit("BAR", "bar", 0.0, 3_000.0)
MILLIMETRE: Final = Unit("MMT", "mm", 0.0, 2_000.0)
CUBIC_CENTIMETRE: Final = Unit("CMQ", "cm³", 0.0, 50_000.0)
KILONEWTON: Final = Unit("B47", "kN", 0.0, 50_000.0)
KILOWATT: Final = Unit("KWT", "kW", 0.0, 1_000.0)
MILLISECOND: Final = Unit("C26", "ms", 0.0, 3_600_000.0)
PERCENT: Final = Unit("P1", "%", 0.0, 100.0)
PER_MINUTE: Final = Unit("RPM", "r/min", 0.0, 1_000.0)
LITRE_PER_MINUTE: Final = Unit("L2", "l/min", 0.0, 200.0)


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
        return ".".join(step.partition(":")[2] or step for step in self.path)

    @property
    def logged(self) -> bool:
        """Whether collectors store it; an array is no sample."""
        return self.kind != "StringArray"

    def raw(self, value: Value) -> Raw:
        """Return what the variable shows where the signal is ``value``; an array, its only element."""
        if isinstance(value, str):
            return value
        if self.kind == "Double":
            return value if self.scale == 1.0 else float(round(value / self.scale))
        return bool(value) if self.kind == "Boolean" else round(value)

    def sample(self, raw: Raw) -> Value:
        """Return what a correct collector stores for a raw value, computed as it computes it."""
        return raw if isinstance(raw, str) else float(raw) * self.scale + 0.0
