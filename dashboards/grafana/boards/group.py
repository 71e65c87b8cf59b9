"""Every site at a glance: machines by state, contact, parts, power, age of data."""

from __future__ import annotations

from dashboards.grafana.ask import SITE_TAGS, Ask, Column, How, Rows
from dashboards.grafana.boards.board import Board, Row, board_link, live_site_link
from dashboards.grafana.language import Language
from dashboards.grafana.look import MACHINE_STATES
from dashboards.grafana.panels import RATE_FINEST, Place, now, states, trend
from dashboards.grafana.tables import rows, state_columns
from shopfloor import reports

_OF_SITE = ("enterprise", "site")


def group(language: Language) -> Board:
    """Return the overview of all sites."""
    to_site = (
        board_link(
            language,
            "Site and lines",
            "site",
            "var-site=${__data.fields.site:percentencode}",
            # A link that carries the zone makes the clock of the board the site's.
            "timezone=${__data.fields.time_zone:percentencode}",
        ),
        board_link(language, "Collector", "collector", "var-site=${__data.fields.site:percentencode}"),
        live_site_link(),
    )
    series_to_site = (
        board_link(
            language,
            "Site and lines",
            "site",
            "var-site=${__field.labels.site:percentencode}",
            "timezone=${__field.labels.time_zone:percentencode}",
        ),
    )

    def of_site(field: str, how: How = How.MEAN) -> Ask:
        return Ask(reports.SITE, field, how, SITE_TAGS, (), "{site}")

    state_asks = [
        Ask(reports.SITE, state, How.NEWEST_SUM, legend=word) for state, (word, _) in MACHINE_STATES.items()
    ]
    columns = (
        Column("machines", "Machines", "count"),
        *state_columns(),
        Column("missing", "Missed", "missing"),
        Column("parts_today", "Parts today", "parts"),
        Column("power_kw", "kW", "power"),
        Column("age_s", "Age of data", "age"),
        Column("utc_offset_s", "UTC +", "utc_offset"),
    )
    return Board(
        "group",
        "Shopfloor: group",
        "Every site. Machines without contact are counted apart: nobody knows whether they run. A figure that is missing "
        "was not reported in the last two minutes.",
        [
            Row(
                "Now",
                [
                    now(
                        language,
                        "states",
                        "Machines by state",
                        state_asks,
                        "count",
                        Place(16, 4),
                        looks=dict(enumerate(["unknown_any", *list(MACHINE_STATES)[1:]])),
                    ),
                    now(
                        language,
                        "agents",
                        "Agents",
                        [
                            Ask(reports.SERVICE, "agents", How.NEWEST, legend="known"),
                            Ask(reports.SERVICE, "agents_contact", How.NEWEST, legend="with contact"),
                        ],
                        "count",
                        Place(4, 4),
                    ),
                    now(
                        language,
                        "alarms",
                        "Active alarms",
                        [Ask(reports.ALARM, "active", How.NEWEST_SUM, legend="active")],
                        "alarms",
                        Place(4, 4),
                    ),
                    rows(
                        language,
                        "sites",
                        "Sites",
                        Rows(reports.SITE, columns, SITE_TAGS),
                        Place(24, 8),
                        text="Parts since midnight of the site. Age of data: how old the newest sample of the site is.",
                        links={"site": to_site},
                        headings={"time_zone": "Time zone"},
                    ),
                ],
            ),
            Row(
                "Machines",
                [
                    trend(
                        language,
                        "running",
                        "Running machines",
                        [of_site("running")],
                        "count",
                        Place(8, 7),
                        links=series_to_site,
                    ),
                    trend(
                        language,
                        "no-contact",
                        "Machines without contact",
                        [of_site("unknown")],
                        "count",
                        Place(8, 7),
                        text="A hole is a time without any report: then nothing is known of any machine.",
                        links=series_to_site,
                    ),
                    trend(
                        language,
                        "down",
                        "Machines down, unplanned",
                        [of_site("down_unplanned")],
                        "count",
                        Place(8, 7),
                        links=series_to_site,
                    ),
                    trend(language, "setup", "Machines in setup", [of_site("setup")], "count", Place(8, 7)),
                    trend(language, "idle", "Idle machines", [of_site("idle")], "count", Place(8, 7)),
                    trend(language, "off", "Machines off", [of_site("off")], "count", Place(8, 7)),
                ],
            ),
            Row(
                "Output and energy",
                [
                    trend(
                        language,
                        "parts",
                        "Good parts since midnight of the site",
                        [of_site("parts_today", How.LAST)],
                        "parts",
                        Place(8, 7),
                    ),
                    trend(
                        language,
                        "power",
                        "Power",
                        [of_site("power_kw")],
                        "power",
                        Place(8, 7),
                        text="Of meters with contact.",
                    ),
                    trend(
                        language,
                        "missing",
                        "Missed machines",
                        [of_site("missing")],
                        "missing",
                        Place(8, 7),
                        text="Without contact, and neither off nor down as planned before.",
                    ),
                ],
            ),
            Row(
                "Data",
                [
                    trend(
                        language, "age", "Age of the newest sample", [of_site("age_s")], "age", Place(8, 7)
                    ),
                    trend(
                        language,
                        "stored",
                        "Samples stored per second",
                        [Ask(reports.AGENT, "stored", How.RATE, _OF_SITE, (), "{site}")],
                        "rate",
                        Place(8, 7),
                        finest=RATE_FINEST,
                    ),
                    trend(
                        language,
                        "refused",
                        "Samples refused",
                        [Ask(reports.AGENT, "refused", How.SUM, _OF_SITE, (), "{site}")],
                        "refused",
                        Place(8, 7),
                        kind="bars",
                    ),
                    states(
                        language,
                        "alarm-bands",
                        "Alarms by site",
                        [Ask(reports.ALARM, "active", How.MOST, ("site",), (), "{site}")],
                        "alarms",
                        Place(24, 8),
                        text="How many of one kind were active at most; those without a site are of the service itself.",
                        finest="2m",
                    ),
                ],
            ),
        ],
        annotated=(),
    )
