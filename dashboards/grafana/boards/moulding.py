"""The moulding process: what belongs to single cycles, machine beside machine."""

from __future__ import annotations

from typing import Final

from dashboards.grafana.ask import MACHINE_TAGS, How, signal
from dashboards.grafana.boards.board import (
    MACHINE,
    Board,
    Row,
    board_link,
    line_variable,
    live_machine_link,
    machine_variable,
    site_variable,
    zone_variable,
)
from dashboards.grafana.language import Language
from dashboards.grafana.panels import Drawn, Place, states, trend
from shopfloor import signal as names

_CYCLE: Final = (
    ("injection", "cycle.injection_time", "Injection time", "seconds"),
    ("dosing", "cycle.dosing_time", "Dosing time", "seconds"),
    ("cycle", names.CYCLE_TIME, "Cycle time", "seconds"),
    ("cushion", "cycle.cushion", "Cushion", "millimetres"),
    ("cushion-volume", "cycle.cushion_volume", "Cushion volume", "volume"),
    ("plastification", "cycle.plastification_volume", "Plastification volume", "volume"),
)
_PRESSURE: Final = (
    ("peak", "cycle.peak_pressure", "Peak pressure", "bar"),
    ("hold", "cycle.hold_pressure", "Hold pressure", "bar"),
    ("back", "cycle.back_pressure", "Back pressure", "bar"),
    ("cavity", "cycle.cavity_pressure", "Cavity pressure", "bar"),
    ("clamp", "clamp.force", "Clamp force", "kilonewtons"),
)
_THERMAL: Final = (
    ("flow", "cooling.flow", "Cooling flow", "flow"),
    ("return", "cooling.return_temperature", "Cooling return", "celsius"),
    ("oil", "power_unit.temperature", "Power unit", "celsius"),
)


def moulding(language: Language) -> Board:
    """Return the board of the moulding process."""
    legend = "{line}/{cell}"
    links = (
        board_link(
            language,
            "Machine",
            "machine",
            "var-site=${__field.labels.site:percentencode}",
            "var-line=${__field.labels.line:percentencode}",
            "var-machine=${__field.labels.cell:percentencode}",
            "timezone=${tz:percentencode}",
        ),
        live_machine_link("__field.labels"),
    )

    def chart(key: str, name: str, title: str, look: str, *, cyclic: bool) -> Drawn:
        return trend(
            language,
            key,
            title,
            [signal(name, How.MEAN, MACHINE_TAGS, MACHINE, legend)],
            look,
            Place(8, 8),
            kind="points" if cyclic else "line",
            finest="5s",
            links=links,
            nothing="not measured, or no cycle",
        )

    quality = [
        trend(
            language,
            "bad",
            "Bad parts of cycles",
            [signal("cycle.bad_parts", How.SUM, MACHINE_TAGS, MACHINE, legend)],
            "parts",
            Place(12, 6),
            kind="bars",
            finest="1m",
        ),
        states(
            language,
            "quality",
            "Quality of cycles",
            [signal("cycle.quality", How.LAST, MACHINE_TAGS, MACHINE, legend)],
            "cycle_quality",
            Place(12, 6),
        ),
    ]
    temperatures = [
        trend(
            language,
            key,
            title,
            [signal(name, How.MEAN, (*MACHINE_TAGS, "signal"), MACHINE, "{cell} {signal}")],
            "celsius",
            Place(12, 8),
            finest="5s",
            links=links,
        )
        for key, name, title in (
            ("mould", "mould.zone_*.temperature", "Mould temperatures"),
            ("barrel", "barrel.zone_*.temperature", "Barrel temperatures"),
        )
    ]
    return Board(
        "moulding",
        "Shopfloor: moulding process",
        "What each cycle showed, machine beside machine; over longer spans a point is the mean of several cycles.",
        [
            Row("Cycles", [chart(*one, cyclic=True) for one in _CYCLE]),
            Row("Pressure and force", [chart(*one, cyclic=one[1].startswith("cycle.")) for one in _PRESSURE]),
            Row("Temperatures", [*temperatures, *(chart(*one, cyclic=False) for one in _THERMAL)]),
            Row("Quality", quality),
        ],
        variables=[
            site_variable(language, many=False),
            zone_variable(language),
            line_variable(language),
            machine_variable(language, all_of_them=True),
        ],
        annotated=MACHINE,
        span="now-3h",
    )
