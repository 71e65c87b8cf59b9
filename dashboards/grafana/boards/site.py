"""One site and its lines: every machine's state over time, cycles, parts, power."""

from __future__ import annotations

from dashboards.grafana.ask import LINE_TAGS, MACHINE_TAGS, Ask, Column, How, Rows, signal
from dashboards.grafana.boards.board import (
    LINE,
    SITE,
    Board,
    Row,
    board_link,
    line_variable,
    live_machine_link,
    site_variable,
    zone_variable,
)
from dashboards.grafana.language import Language
from dashboards.grafana.look import MACHINE_STATES
from dashboards.grafana.panels import Place, now, states, trend
from dashboards.grafana.tables import rows, state_columns
from shopfloor import reports
from shopfloor import signal as names


def site(language: Language) -> Board:
    """Return the board of one site and its lines."""
    machine = "{line}/{cell}"
    chosen = ("var-site=${__data.fields.site:percentencode}", "var-line=${__data.fields.line:percentencode}")
    to_machine = (
        board_link(
            language,
            "Machine",
            "machine",
            *chosen,
            "var-machine=${__data.fields.cell:percentencode}",
            "timezone=${tz:percentencode}",
        ),
        board_link(
            language,
            "Moulding process",
            "moulding",
            *chosen,
            "var-machine=${__data.fields.cell:percentencode}",
            "timezone=${tz:percentencode}",
        ),
        live_machine_link(),
    )
    labels = (
        "var-site=${__field.labels.site:percentencode}",
        "var-line=${__field.labels.line:percentencode}",
    )
    series_to_machine = (
        board_link(
            language,
            "Machine",
            "machine",
            *labels,
            "var-machine=${__field.labels.cell:percentencode}",
            "timezone=${tz:percentencode}",
        ),
        live_machine_link("__field.labels"),
    )
    to_line = (board_link(language, "This line alone", "site", *chosen, "timezone=${tz:percentencode}"),)

    def of_site(field: str) -> Ask:
        return Ask(reports.SITE, field, How.NEWEST_SUM, (), SITE, field)

    def of_lines(field: str, how: How = How.MEAN) -> Ask:
        return Ask(reports.LINE, field, how, LINE_TAGS, LINE, "{line}")

    def of_machines(name: str, how: How) -> Ask:
        return signal(name, how, MACHINE_TAGS, LINE, machine)

    return Board(
        "site",
        "Shopfloor: site and lines",
        "One site, all of its lines or some. Times are those of the site where a link of the group's board led here.",
        [
            Row(
                "Now",
                [
                    now(
                        language,
                        "states",
                        "Machines by state",
                        [of_site(state)._replace(legend=word) for state, (word, _) in MACHINE_STATES.items()],
                        "count",
                        Place(14, 4),
                        looks=dict(enumerate(["unknown_any", *list(MACHINE_STATES)[1:]])),
                    ),
                    now(language, "parts", "Parts today", [of_site("parts_today")], "parts", Place(3, 4)),
                    now(language, "power", "Power", [of_site("power_kw")], "power", Place(3, 4)),
                    now(
                        language,
                        "age",
                        "Age of data",
                        [Ask(reports.SITE, "age_s", How.NEWEST, ("site",), SITE, "newest sample")],
                        "age",
                        Place(4, 4),
                    ),
                    rows(
                        language,
                        "lines",
                        "Lines",
                        Rows(
                            reports.LINE,
                            (
                                Column("machines", "Machines", "count"),
                                *state_columns(),
                                Column("parts_today", "Parts today", "parts"),
                            ),
                            LINE_TAGS,
                            LINE,
                        ),
                        Place(12, 9),
                        links={"line": to_line},
                        hidden=("enterprise", "site"),
                    ),
                    rows(
                        language,
                        "machines",
                        "Machines",
                        Rows(
                            reports.MACHINE,
                            (
                                Column("state", "State", "state"),
                                Column("state_s", "For", "duration"),
                                Column("age_s", "Age of data", "age"),
                                Column("parts_today", "Parts today", "parts"),
                            ),
                            MACHINE_TAGS,
                            LINE,
                        ),
                        Place(12, 9),
                        links={"cell": to_machine},
                        hidden=("enterprise", "site", "area"),
                        headings={"cell": "Machine"},
                    ),
                ],
            ),
            Row(
                "States",
                [
                    states(
                        language,
                        "bands",
                        "States of the machines",
                        [Ask(reports.MACHINE, "state", How.LAST, MACHINE_TAGS, LINE, machine)],
                        "state",
                        Place(24, 10),
                        text="A hole is a time without any report; no contact is a state of its own.",
                        links=series_to_machine,
                    ),
                    trend(
                        language, "running", "Running machines", [of_lines("running")], "count", Place(8, 7)
                    ),
                    trend(
                        language,
                        "down",
                        "Machines down, unplanned",
                        [of_lines("down_unplanned")],
                        "count",
                        Place(8, 7),
                    ),
                    trend(
                        language,
                        "no-contact",
                        "Machines without contact",
                        [of_lines("unknown")],
                        "count",
                        Place(8, 7),
                    ),
                ],
            ),
            Row(
                "Output",
                [
                    trend(
                        language,
                        "rise",
                        "Good parts per hour",
                        [of_machines(names.GOOD_PARTS_COUNTER, How.RISE)],
                        "parts",
                        Place(12, 8),
                        kind="stacked",
                        finest="1h",
                        text="By how much counters rose; a counter that is reset does not fall.",
                    ),
                    trend(
                        language,
                        "bad",
                        "Bad parts per hour",
                        [of_machines(names.BAD_PARTS_COUNTER, How.RISE)],
                        "parts",
                        Place(12, 8),
                        kind="stacked",
                        finest="1h",
                    ),
                    trend(
                        language,
                        "cycle",
                        "Cycle time",
                        [of_machines(names.CYCLE_TIME, How.MEAN)],
                        "seconds",
                        Place(12, 8),
                        links=series_to_machine,
                    ),
                    trend(
                        language,
                        "kilowatts",
                        "Power",
                        [of_machines(names.ACTIVE_POWER, How.MEAN)],
                        "power",
                        Place(12, 8),
                        links=series_to_machine,
                    ),
                    trend(
                        language,
                        "zone-off",
                        "Worst zone off its setpoint",
                        [Ask(reports.MACHINE, "zone_off_k", How.MEAN, MACHINE_TAGS, LINE, machine)],
                        "kelvin_off",
                        Place(12, 8),
                        text="Of machines that run.",
                        nothing="no machine runs, or none has setpoints",
                    ),
                    trend(
                        language,
                        "data-age",
                        "Age of data by machine",
                        [Ask(reports.MACHINE, "age_s", How.MEAN, MACHINE_TAGS, LINE, machine)],
                        "age",
                        Place(12, 8),
                    ),
                ],
            ),
        ],
        variables=[
            site_variable(language, many=False),
            zone_variable(language),
            line_variable(language),
        ],
        annotated=SITE,
    )
