"""What Grafana warns of: alert rules on what the service reports of agents, sites and machines (`shopfloor.reports`).

Everything is said again every few seconds, also of who has no contact, so that a rule never waits for a series to vanish:
Grafana resolves an alert whose series is gone. Only one rule is about missing data, that on the reports themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from shopfloor import reports

Engine = Literal["influxql", "metricsql"]

FOLDER_UID: Final = "shopfloor-alerts"
FOLDER_TITLE: Final = "Shopfloor alerts"
GROUP: Final = "shopfloor"
"""All rules are evaluated once a minute, which is what Grafana does where nobody says otherwise."""

_SITE: Final = ("enterprise", "site")
_AGENT: Final = (*_SITE, "agent")
_SOURCE: Final = (*_AGENT, "source")
_MACHINE: Final = (*_SITE, "area", "line", "cell")
_MINUTE: Final = 60
_FRESH_S: Final = 11 * _MINUTE
"""How old the newest report of a thing may be: twice the longest ``report_every_s``, and some."""
_OPTIONAL_S: Final = 330
"""The same for a figure that is left out where there is none: an old one must not stand for it long."""


class Input(NamedTuple):
    """One figure that a rule asks for: a number for each combination of ``tags``."""

    name: str
    measurement: str
    field: str
    tags: tuple[str, ...]
    how: Literal["last", "sum", "count"] = "last"
    range_s: int = _FRESH_S
    may_be_empty: bool = False
    """Whether all may be well where there is no such point."""

    def query(self, engine: Engine) -> str:
        """Return the query; in InfluxQL with Grafana's macro for the span of time."""
        if engine == "influxql":
            by = ", ".join(f'"{tag}"' for tag in self.tags)
            grouped = f" GROUP BY {by}" if by else ""
            return f'SELECT {self.how}("{self.field}") FROM "{self.measurement}" WHERE $timeFilter{grouped}'  # noqa: S608 - names of ours
        over = f"{self.how}_over_time({self.measurement}_{self.field}[{self.range_s}s])"
        return f"{'max' if self.how == 'last' else 'sum'} by ({', '.join(self.tags)}) ({over})"


class AlertRule(NamedTuple):
    """One rule; it fires for each combination of its inputs' tags apart."""

    kind: str
    """Its label ``shopfloor``; with the prefix ``shopfloor-`` and hyphens its uid."""
    title: str
    panel: tuple[str, str]
    """Board and title of the panel that shows it; notifications link to it."""
    severity: Literal["critical", "warning"]
    inputs: tuple[Input, ...]
    fires: tuple[Literal["gt", "lt", "outside_range"], float, float]
    """How ``value`` compares; of the bounds only ``outside_range`` needs the second."""
    for_s: int
    summary: str
    """With Go's templates and no dollar sign, which older Grafanas would take for a variable of the environment."""
    what_to_do: str
    maths: str = ""
    """Grafana's expression of the inputs for ``value``; empty where the one input is it."""
    keep_firing_s: int = 0
    on_silence: bool = False
    """Whether it fires where the database has nothing, or does not answer."""

    @property
    def uid(self) -> str:
        """The rule's uid in Grafana."""
        return f"shopfloor-{self.kind.replace('_', '-')}"


class AlertQuery(NamedTuple):
    """One query of one rule, to be tried."""

    rule: str
    name: str
    query: str
    range_s: int
    """It asks for so many seconds before now."""
    may_be_empty: bool


def alert_rules() -> tuple[AlertRule, ...]:
    """Return all rules; thresholds are those of the service's own alarms where ``ingest.yaml`` says no others."""
    return (
        AlertRule(
            "agent_silent",
            "Agent silent",
            ("collector", "Seconds since the last heartbeat"),
            "critical",
            (Input("value", reports.AGENT, "silent_s", _AGENT),),
            ("gt", 60, 0),
            _MINUTE,
            "Agent {{ .Labels.agent }} at {{ .Labels.site }} has been silent for"
            " {{ with .Values.value }}{{ humanizeDuration .Value }}{{ end }}",
            "Its machines may run; nobody sees them. The agent keeps their data. Look at the gateway and its network.",
        ),
        AlertRule(
            "site_without_data",
            "Site without data",
            ("group", "Age of the newest sample"),
            "critical",
            (
                Input("age", reports.SITE, "age_s", _SITE),
                Input("expected", reports.SITE, "expected", _SITE),
            ),
            ("gt", 300, 0),
            2 * _MINUTE,
            "{{ .Labels.site }}: newest sample is"
            " {{ with .Values.value }}{{ humanizeDuration .Value }}{{ end }} old",
            "Machines that were off, or stood as planned, are not expected to send; here others are. Where agents have"
            " contact, look at their sources.",
            maths="$age * ($expected > 0)",
        ),
        AlertRule(
            "machine_missing",
            "Machine without contact",
            ("group", "Missed machines"),
            "warning",
            (Input("value", reports.MACHINE, "missing", _MACHINE),),
            ("gt", 0, 0),
            5 * _MINUTE,
            "{{ .Labels.cell }} ({{ .Labels.site }}, {{ .Labels.line }}) has no contact",
            "It was neither off nor stood as planned when it was last heard of. Its state is not known: not stopped.",
        ),
        AlertRule(
            "buffer_low",
            "Buffer below a day",
            ("collector", "Buffer lasts for"),
            "warning",
            (Input("value", reports.AGENT, "buffer_hours", _AGENT, "last", _OPTIONAL_S, may_be_empty=True),),
            ("lt", 24, 0),
            5 * _MINUTE,
            "The buffer of agent {{ .Labels.agent }} at {{ .Labels.site }} lasts for"
            ' {{ with .Values.value }}{{ printf "%.1f" .Value }}{{ end }} hours',
            "It fills because nobody takes its data, or more slowly than they come. When it is full, the oldest go.",
            keep_firing_s=15 * _MINUTE,
        ),
        AlertRule(
            "gap",
            "Gap recorded",
            ("collector", "Loss records"),
            "warning",
            (Input("value", reports.AGENT, "gaps", _AGENT, "sum", 15 * _MINUTE),),
            ("gt", 0, 0),
            0,
            "Agent {{ .Labels.agent }} at {{ .Labels.site }} recorded data that are lost",
            "What is gone, from when to when and why is in the ledger: shopfloor ingest ledger.",
        ),
        AlertRule(
            "quarantine_growing",
            "Quarantine growing",
            ("collector", "Samples refused"),
            "warning",
            (Input("value", reports.QUARANTINE, "count", _AGENT, "sum", 10 * _MINUTE, may_be_empty=True),),
            ("gt", 0, 0),
            0,
            "Samples of agent {{ .Labels.agent }} at {{ .Labels.site }} are refused:"
            ' {{ with .Values.value }}{{ printf "%.0f" .Value }}{{ end }} in ten minutes',
            "Nothing is lost: shopfloor ingest quarantine lists them with their reasons and takes them in again.",
        ),
        AlertRule(
            "agent_clock",
            "Clock of an agent off",
            ("collector", "Clock of agents, ahead of the service"),
            "warning",
            (Input("value", reports.AGENT, "clock_offset_s", _AGENT, "last", _OPTIONAL_S),),
            ("outside_range", -5, 5),
            5 * _MINUTE,
            "The clock of agent {{ .Labels.agent }} at {{ .Labels.site }} is off by"
            ' {{ with .Values.value }}{{ printf "%.1f" .Value }}{{ end }} s',
            "Look at its time synchronisation (chronyc tracking, timedatectl).",
        ),
        AlertRule(
            "machine_clock",
            "Clock of a machine off",
            ("collector", "Clock of machines, ahead of the agent"),
            "warning",
            (
                Input(
                    "value", reports.SOURCE, "clock_offset_s", _SOURCE, "last", _OPTIONAL_S, may_be_empty=True
                ),
            ),
            ("outside_range", -60, 60),
            15 * _MINUTE,
            "The clock of {{ .Labels.source }} at {{ .Labels.site }} is off by"
            ' {{ with .Values.value }}{{ printf "%.0f" .Value }}{{ end }} s',
            "Its samples bear that clock's times. Set the controller's clock, or let it follow a time server.",
        ),
        AlertRule(
            "zone_off_setpoint",
            "Zone temperature off setpoint",
            ("site", "Worst zone off its setpoint"),
            "warning",
            (
                Input(
                    "value", reports.MACHINE, "zone_off_k", _MACHINE, "last", _OPTIONAL_S, may_be_empty=True
                ),
            ),
            ("gt", 10, 0),
            10 * _MINUTE,
            "A zone of {{ .Labels.cell }} ({{ .Labels.site }}, {{ .Labels.line }}) is"
            ' {{ with .Values.value }}{{ printf "%.0f" .Value }}{{ end }} K off its setpoint',
            "The machine produces meanwhile. Its dashboard shows which zone: heater, thermocouple or cooling.",
        ),
        AlertRule(
            "no_reports",
            "No reports from the service",
            ("collector", "Samples stored per second"),
            "critical",
            (Input("value", reports.SERVICE, "agents", (), "count", _OPTIONAL_S),),
            ("lt", 1, 0),
            2 * _MINUTE,
            "The ingestion service reports nothing to the database, or the database does not answer",
            "The other rules see nothing meanwhile. Look at the service (/health), then at the database.",
            on_silence=True,
        ),
    )


def alert_queries(engine: Engine) -> Iterator[AlertQuery]:
    """Yield every query of every rule."""
    for rule in alert_rules():
        for one in rule.inputs:
            yield AlertQuery(rule.uid, one.name, one.query(engine), one.range_s, one.may_be_empty)
