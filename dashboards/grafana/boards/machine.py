"""One machine, or several below one another: state, cycles, counters, zones against setpoints, energy."""

from __future__ import annotations

from dashboards.grafana.ask import MACHINE_TAGS, Ask, How, signal
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
from dashboards.grafana.panels import NOW, Drawn, Place, now, states, trend
from shopfloor import reports
from shopfloor import signal as names

_BY_SIGNAL = (*MACHINE_TAGS, "signal")
_OFTEN = "5s"


def machine(language: Language) -> Board:
    """Return the board of single machines; its panels come anew for each that is chosen."""

    def of_machine(field: str, how: How, legend: str = "{cell}", within: str = NOW) -> Ask:
        return Ask(reports.MACHINE, field, how, MACHINE_TAGS, MACHINE, legend, within)

    def one(name: str, legend: str, how: How = How.MEAN) -> Ask:
        return signal(name, how, MACHINE_TAGS, MACHINE, legend)

    def several(name: str) -> Ask:
        return signal(name, How.MEAN, _BY_SIGNAL, MACHINE, "{signal}")

    to_process = (
        board_link(
            language,
            "Moulding process",
            "moulding",
            "var-site=${__field.labels.site:percentencode}",
            "var-line=${__field.labels.line:percentencode}",
            "var-machine=${__field.labels.cell:percentencode}",
            "timezone=${tz:percentencode}",
        ),
        live_machine_link("__field.labels"),
    )
    state: list[Drawn] = [
        now(
            language,
            "state",
            "State",
            [of_machine("state", How.NEWEST)],
            "state",
            Place(4, 4),
            links=to_process,
        ),
        now(language, "for", "For", [of_machine("state_s", How.NEWEST)], "duration", Place(3, 4)),
        now(language, "contact", "Contact", [of_machine("contact", How.NEWEST)], "contact", Place(3, 4)),
        now(language, "age", "Age of data", [of_machine("age_s", How.NEWEST)], "age", Place(3, 4)),
        now(language, "parts", "Parts today", [of_machine("parts_today", How.NEWEST)], "parts", Place(3, 4)),
        now(
            language,
            "power-now",
            "Power",
            [one(names.ACTIVE_POWER, "{cell}", How.NEWEST)],
            "power",
            Place(4, 4),
            text="The newest reading of the last 15 minutes.",
            within="15m",
        ),
        now(
            language,
            "cycle-now",
            "Last cycle",
            [one(names.CYCLE_TIME, "{cell}", How.NEWEST)],
            "seconds",
            Place(4, 4),
            text="The newest one of the last 15 minutes.",
            within="15m",
            nothing="no cycle",
        ),
        states(
            language,
            "bands",
            "State",
            [of_machine("state", How.LAST, "state")],
            "state",
            Place(24, 4),
            text="A hole is a time without any report; no contact is a state of its own.",
            links=to_process,
        ),
        states(
            language,
            "mode",
            "Machine mode",
            [one(names.MACHINE_MODE, "mode", How.HELD)],
            "mode",
            Place(12, 4),
            text="As the machine said it last, up to two days before: it says it when it changes.",
            held=True,
        ),
        states(
            language,
            "production",
            "Production status",
            [one(names.PRODUCTION_STATUS, "production", How.HELD)],
            "production",
            Place(12, 4),
            text="As the machine said it last, up to two days before: it says it when it changes.",
            held=True,
        ),
    ]
    output: list[Drawn] = [
        trend(
            language,
            "cycle",
            "Cycle time and what is expected",
            [one(names.CYCLE_TIME, "cycle"), one(names.EXPECTED_CYCLE_TIME, "expected", How.HELD)],
            "seconds",
            Place(12, 8),
            finest=_OFTEN,
            held=[1],
        ),
        trend(
            language,
            "rise",
            "Parts per hour",
            [
                one(names.GOOD_PARTS_COUNTER, "good", How.RISE),
                one(names.BAD_PARTS_COUNTER, "bad", How.RISE),
            ],
            "parts",
            Place(6, 8),
            kind="stacked",
            finest="1h",
        ),
        trend(
            language,
            "counters",
            "Counters",
            [
                one(names.CYCLE_COUNTER, "cycles", How.LAST),
                one(names.PARTS_COUNTER, "parts of the job", How.LAST),
                one(names.GOOD_PARTS_COUNTER, "good", How.LAST),
                one(names.BAD_PARTS_COUNTER, "bad", How.LAST),
            ],
            "number",
            Place(6, 8),
        ),
    ]
    zones: list[Drawn] = [
        trend(
            language,
            "barrel",
            "Barrel zones against their setpoints",
            [several("barrel.zone_*.temperature"), several("barrel.zone_*.setpoint")._replace(how=How.HELD)],
            "celsius",
            Place(12, 9),
            finest=_OFTEN,
            held=[1],
        ),
        trend(
            language,
            "mould",
            "Mould against its setpoints",
            [several("mould.zone_*.temperature"), several("mould.zone_*.setpoint")._replace(how=How.HELD)],
            "celsius",
            Place(12, 9),
            finest=_OFTEN,
            held=[1],
        ),
        trend(
            language,
            "heaters",
            "Heater output",
            [several("barrel.zone_*.heater_output")],
            "percent",
            Place(12, 7),
        ),
        trend(
            language,
            "zone-off",
            "Worst zone off its setpoint",
            [of_machine("zone_off_k", How.MEAN, "off by")],
            "kelvin_off",
            Place(12, 7),
            nothing="it does not run, or has no setpoints",
        ),
    ]
    energy: list[Drawn] = [
        trend(
            language,
            "power",
            "Power",
            [one(names.ACTIVE_POWER, "power")],
            "power",
            Place(8, 7),
            finest=_OFTEN,
        ),
        trend(
            language,
            "energy",
            "Energy per hour",
            [one(names.ACTIVE_ENERGY, "energy", How.RISE)],
            "energy",
            Place(8, 7),
            kind="bars",
            finest="1h",
        ),
        trend(
            language,
            "data-age",
            "Age of data",
            [of_machine("age_s", How.MEAN, "newest sample")],
            "age",
            Place(8, 7),
        ),
    ]
    return Board(
        "machine",
        "Shopfloor: machine",
        "One machine or several below one another. Without contact nothing is drawn: neither zero nor the last value.",
        [Row("$machine", [*state, *output, *zones, *energy], repeat="machine")],
        variables=[
            site_variable(language, many=False),
            zone_variable(language),
            line_variable(language),
            machine_variable(language, all_of_them=False),
        ],
        annotated=MACHINE,
    )
