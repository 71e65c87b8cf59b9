"""Health of the collection itself: agents, sources, lag, buffers, gaps, quarantine, clocks, alarms."""

from __future__ import annotations

from dashboards.grafana.ask import Ask, Column, How, Is, Rows, Var
from dashboards.grafana.boards.board import SITE, Board, Row, agent_variable, board_link, site_variable
from dashboards.grafana.language import Language
from dashboards.grafana.panels import RATE_FINEST, Drawn, Place, now, states, totals, trend
from dashboards.grafana.tables import rows
from shopfloor import reports

_AGENT = ("enterprise", "site", "agent")
_SOURCE = (*_AGENT, "source", "protocol")
_CHOSEN = (*SITE, Var("agent"))
_ALWAYS_THERE = "none in this span"


def collector(language: Language) -> Board:
    """Return the board of collector health."""

    def agents(field: str, how: How = How.MEAN) -> Ask:
        return Ask(reports.AGENT, field, how, _AGENT, _CHOSEN, "{site}/{agent}")

    def sources(field: str, how: How) -> Ask:
        return Ask(reports.SOURCE, field, how, _SOURCE, _CHOSEN, "{site}/{agent}/{source}")

    def service(field: str, how: How = How.NEWEST) -> Ask:
        return Ask(reports.SERVICE, field, how, legend=field.replace("_", " "))

    def chart(key: str, title: str, field: str, look: str, text: str = "", nothing: str = "") -> Drawn:
        return trend(language, key, title, [agents(field)], look, Place(8, 7), text=text, nothing=nothing)

    def events(kind: str, how: How, by: tuple[str, ...], legend: str) -> Ask:
        return Ask(reports.EVENT, "count", how, by, (*SITE, Is("kind", kind)), legend)

    return Board(
        "collector",
        "Shopfloor: collector health",
        "Agents, sources, buffers, losses. An agent without contact has no lag and no buffer here: nobody knows them. What "
        "is missing altogether was not reported: look at the service.",
        [
            Row(
                "Now",
                [
                    now(
                        language,
                        "agents",
                        "Agents",
                        [service("agents"), service("agents_contact")._replace(legend="with contact")],
                        "count",
                        Place(5, 4),
                    ),
                    now(language, "series", "Series", [service("series")], "count", Place(3, 4)),
                    now(language, "lying", "In quarantine", [service("quarantine")], "refused", Place(3, 4)),
                    now(
                        language,
                        "alarms",
                        "Active alarms by kind",
                        [Ask(reports.ALARM, "active", How.NEWEST_SUM, ("kind",), (), "{kind}")],
                        "alarms",
                        Place(13, 4),
                    ),
                    rows(
                        language,
                        "table",
                        "Agents",
                        Rows(
                            reports.AGENT,
                            (
                                Column("contact", "Contact", "contact"),
                                Column("silent_s", "Silent for", "silence"),
                                Column("lag_s", "Lag", "lag"),
                                Column("pending_samples", "Waiting", "count"),
                                Column("buffer_bytes", "Buffer", "bytes"),
                                Column("buffer_hours", "Hours left", "buffer_hours"),
                                Column("clock_offset_s", "Clock", "offset"),
                                Column("sources", "Sources", "count"),
                                Column("sources_running", "Running", "count"),
                                Column("uptime_s", "Up for", "duration"),
                                Column("config_valid", "Configuration", "valid"),
                            ),
                            _AGENT,
                            _CHOSEN,
                        ),
                        Place(24, 8),
                        text="Hours left: until the buffer is full at the rate at which it fills; empty while it does not fill.",
                        links={
                            "site": (
                                board_link(
                                    language,
                                    "Site and lines",
                                    "site",
                                    "var-site=${__data.fields.site:percentencode}",
                                ),
                            )
                        },
                    ),
                ],
            ),
            Row(
                "Contact",
                [
                    states(
                        language,
                        "contact",
                        "Contact with agents",
                        [agents("contact", How.LAST)],
                        "contact",
                        Place(12, 8),
                    ),
                    states(
                        language,
                        "sources",
                        "Sources",
                        [sources("state", How.LAST)],
                        "source_state",
                        Place(12, 8),
                    ),
                    chart("silent", "Seconds since the last heartbeat", "silent_s", "silence"),
                    chart("uptime", "Uptime of agents", "uptime_s", "duration"),
                    chart("running", "Sources that run", "sources_running", "count"),
                ],
            ),
            Row(
                "Lag and buffer",
                [
                    chart("lag", "Lag", "lag_s", "lag", "Age of the oldest sample that waits at the edge."),
                    chart("pending", "Samples waiting at the edge", "pending_samples", "count"),
                    chart(
                        "hours",
                        "Buffer lasts for",
                        "buffer_hours",
                        "buffer_hours",
                        "At the rate at which it fills.",
                        "no buffer fills",
                    ),
                    trend(
                        language,
                        "bytes",
                        "Buffer",
                        [
                            agents("buffer_bytes"),
                            agents("buffer_limit_bytes")._replace(legend="{site}/{agent} limit"),
                        ],
                        "bytes",
                        Place(8, 7),
                    ),
                    chart(
                        "dropped",
                        "Samples dropped by agents",
                        "dropped_samples",
                        "missing",
                        "Since they began.",
                    ),
                    chart(
                        "edge-quarantine",
                        "Samples in quarantine at the edge",
                        "quarantined_samples",
                        "refused",
                    ),
                ],
            ),
            Row(
                "Stored, refused, lost",
                [
                    trend(
                        language,
                        "stored",
                        "Samples stored per second",
                        [agents("stored", How.RATE)],
                        "rate",
                        Place(8, 7),
                        finest=RATE_FINEST,
                    ),
                    trend(
                        language,
                        "refused",
                        "Samples refused",
                        [agents("refused", How.SUM)],
                        "refused",
                        Place(8, 7),
                        kind="bars",
                    ),
                    totals(
                        language,
                        "reasons",
                        "Refused, by reason",
                        [
                            Ask(
                                reports.QUARANTINE,
                                "count",
                                How.TOTAL,
                                ("site", "agent", "reason"),
                                _CHOSEN,
                                "{site}/{agent} {reason}",
                            )
                        ],
                        "refused",
                        Place(8, 7),
                        nothing=_ALWAYS_THERE,
                    ),
                    trend(
                        language,
                        "gaps",
                        "Loss records",
                        [agents("gaps", How.SUM)],
                        "missing",
                        Place(8, 7),
                        kind="bars",
                        text="When the service learned of them; marks show when the data were lost.",
                    ),
                    totals(
                        language,
                        "gap-samples",
                        "Readings that sources never got",
                        [events("source_gap", How.TOTAL, ("site", "agent"), "{site}/{agent}")],
                        "missing",
                        Place(8, 7),
                        nothing=_ALWAYS_THERE,
                    ),
                    totals(
                        language,
                        "restarts",
                        "Restarts of agents",
                        [events("restart", How.TOTAL, ("site", "agent"), "{site}/{agent}")],
                        "count",
                        Place(8, 7),
                        nothing=_ALWAYS_THERE,
                    ),
                ],
            ),
            Row(
                "Clocks and configuration",
                [
                    chart("clock", "Clock of agents, ahead of the service", "clock_offset_s", "offset"),
                    trend(
                        language,
                        "machine-clock",
                        "Clock of machines, ahead of the agent",
                        [sources("clock_offset_s", How.MEAN)],
                        "machine_offset",
                        Place(8, 7),
                        nothing="no source knows its machine's clock",
                    ),
                    states(
                        language,
                        "valid",
                        "Configuration files",
                        [agents("config_valid", How.LAST)],
                        "valid",
                        Place(8, 7),
                    ),
                    states(
                        language,
                        "alarm-bands",
                        "Alarms",
                        [Ask(reports.ALARM, "active", How.LAST, ("site", "kind"), SITE, "{site} {kind}")],
                        "alarms",
                        Place(24, 8),
                        finest="2m",
                    ),
                ],
            ),
        ],
        variables=[site_variable(language, many=True), agent_variable(language)],
        annotated=_CHOSEN,
    )
