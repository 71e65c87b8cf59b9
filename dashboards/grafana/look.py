"""How things look, in one place: units, thresholds, colours, and the words for numbers that stand for something."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders import dashboard as make
from grafana_foundation_sdk.models import dashboard as model

from shopfloor import reports

GREEN, YELLOW, ORANGE, RED = "green", "yellow", "orange", "red"
GREY, LIGHT_GREY, BLUE, PURPLE = "#6E7680", "#C4CAD0", "blue", "purple"

MACHINE_STATES: Final = {
    "unknown": ("No contact", PURPLE),
    "running": ("Running", GREEN),
    "idle": ("Idle", YELLOW),
    "setup": ("Setup", BLUE),
    "down_unplanned": ("Down", RED),
    "down_planned": ("Down, planned", ORANGE),
    "off": ("Off", GREY),
}
"""Word and colour; no contact has a colour of its own, and an absent report has none."""
SOURCE_STATES: Final = {
    "no_contact": ("No contact", PURPLE),
    "running": ("Running", GREEN),
    "connecting": ("Connecting", YELLOW),
    "unavailable": ("Unavailable", RED),
    "misconfigured": ("Misconfigured", ORANGE),
}
_CONTACT: Final = [("No contact", PURPLE), ("Contact", GREEN)]
_VALID: Final = [("Refused", ORANGE), ("Valid", GREEN)]
# The numbers of OPC 40083 (MachineModeEnumeration, ProductionStatusEnumeration, CycleQualityEnumeration).
_MODES: Final = [
    ("Other", GREY),
    ("Automatic", GREEN),
    ("Semi-automatic", GREEN),
    ("Manual", YELLOW),
    ("Setup", BLUE),
    ("Sleep", GREY),
]
_PRODUCTION: Final = [
    ("Other", GREY),
    ("None", GREY),
    ("Start-up", BLUE),
    ("Ready", YELLOW),
    ("Production", GREEN),
    ("Dry run", BLUE),
]
_CYCLE_QUALITY: Final = [("Good", GREEN), ("Bad", RED), ("Test sample", BLUE), ("Failed", ORANGE)]


class Look(NamedTuple):
    """How one kind of figure looks."""

    unit: str = "none"
    """Grafana's name of it."""
    steps: tuple[tuple[float | None, str], ...] = ()
    """Thresholds: from which value on which colour; the first from None."""
    words: tuple[tuple[str, str], ...] = ()
    """Word and colour for 0, 1, 2 and so on."""
    decimals: int | None = None
    minimum: float | None = None


_BAD_IF_ANY: Final = ((None, GREEN), (1.0, RED))
_WARN_IF_ANY: Final = ((None, GREEN), (1.0, ORANGE))
_COUNT: Final = Look("short", decimals=0, minimum=0)

FIELDS: Final[Mapping[str, Look]] = {
    "count": _COUNT,
    "number": Look("short"),
    **{state: _COUNT._replace(steps=((None, color),)) for state, (_, color) in MACHINE_STATES.items()},
    "unknown_any": _COUNT._replace(steps=((None, GREEN), (1.0, PURPLE))),
    "missing": _COUNT._replace(steps=_BAD_IF_ANY),
    "alarms": _COUNT._replace(steps=_BAD_IF_ANY),
    "refused": _COUNT._replace(steps=_WARN_IF_ANY),
    "state": Look(words=tuple(MACHINE_STATES[name] for name in reports.MACHINE_STATES)),
    "source_state": Look(words=tuple(SOURCE_STATES[name] for name in reports.SOURCE_STATES)),
    "contact": Look(words=tuple(_CONTACT)),
    "valid": Look(words=tuple(_VALID)),
    "mode": Look(words=tuple(_MODES)),
    "production": Look(words=tuple(_PRODUCTION)),
    "cycle_quality": Look(words=tuple(_CYCLE_QUALITY)),
    "duration": Look("s", decimals=0, minimum=0),
    "age": Look("s", ((None, GREEN), (60.0, YELLOW), (300.0, RED)), decimals=0, minimum=0),
    "silence": Look("s", ((None, GREEN), (10.0, YELLOW), (60.0, RED)), decimals=0, minimum=0),
    "lag": Look("s", ((None, GREEN), (30.0, YELLOW), (300.0, RED)), decimals=1, minimum=0),
    "offset": Look("s", ((None, RED), (-5.0, GREEN), (5.0, RED)), decimals=2),
    "machine_offset": Look("s", ((None, RED), (-60.0, GREEN), (60.0, RED)), decimals=1),
    "buffer_hours": Look("h", ((None, RED), (24.0, YELLOW), (48.0, GREEN)), decimals=1, minimum=0),
    "utc_offset": Look("s", decimals=0),
    "bytes": Look("bytes", minimum=0),
    "rate": Look("short", decimals=1, minimum=0),
    "parts": Look("short", decimals=0, minimum=0),
    "power": Look("kwatt", decimals=1, minimum=0),
    "energy": Look("kwatth", decimals=1, minimum=0),
    "volts": Look("volt", decimals=0),
    "amps": Look("amp", decimals=1, minimum=0),
    "power_factor": Look("none", ((None, RED), (0.9, GREEN)), decimals=2, minimum=0),
    "seconds": Look("s", decimals=2, minimum=0),
    "celsius": Look("celsius", decimals=1),
    "kelvin_off": Look("suffix: K", ((None, GREEN), (5.0, YELLOW), (10.0, RED)), decimals=1, minimum=0),
    "percent": Look("percent", decimals=0, minimum=0),
    "bar": Look("pressurebar", decimals=1),
    "millimetres": Look("lengthmm", decimals=2),
    "volume": Look("suffix: cm³", decimals=2),
    "kilonewtons": Look("suffix: kN", decimals=0),
    "flow": Look("suffix: L/min", decimals=1, minimum=0),
    "air_flow": Look("suffix: m³/min", decimals=2, minimum=0),
}


def thresholds(look: Look) -> make.ThresholdsConfig:
    """Return the thresholds of a look; a colour without meaning where it has none."""
    steps = look.steps or ((None, LIGHT_GREY),)
    return (
        make.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(value=value, color=color) for value, color in steps])
    )


def mappings(look: Look) -> list[model.ValueMapping]:
    """Return the words of a look as Grafana's value mappings."""
    return [value_map(enumerate(look.words))] if look.words else []


def value_map(words: Iterable[tuple[int, tuple[str, str]]]) -> model.ValueMap:
    """Return one mapping from numbers to words with colours."""
    return model.ValueMap(
        options={
            str(number): model.ValueMappingResult(text=text, color=color, index=number)
            for number, (text, color) in words
        }
    )
