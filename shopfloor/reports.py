"""What the service writes about machines, lines, sites, agents and itself into a database server beside the samples.

The words that `ingest_service.report_points` writes and dashboards read. Tags are the levels of `shopfloor.asset` as far as
the thing's path goes, and what is named below; fields are numbers, so that every database can hold them.
"""

from __future__ import annotations

from typing import Final

MACHINE: Final = "machine"
"""Tags enterprise to cell. Fields ``state`` (see `MACHINE_STATES`), ``state_s``, ``contact``, ``missing`` (1 without contact,
unless it was off or stood as planned when it was last heard of, or no agent serves it any more), ``age_s``, ``parts_today``,
and while it runs ``zone_off_k``: how far the worst of its heated zones is off the setpoint, in kelvin."""
LINE: Final = "line"
"""Tags enterprise to line. Fields ``machines``, one a state, and where a machine counts ``parts_today``."""
SITE: Final = "site"
"""Tags enterprise, site, time_zone. Fields ``machines``, one a state, ``expected`` (those that an agent serves and that were
neither off nor stood as planned when last heard of), ``missing`` (those of them without contact), ``parts_today``,
``power_kw``, ``age_s``, ``utc_offset_s``."""
AGENT: Final = "agent"
"""Tags of the asset that it serves, agent. Fields ``contact``, ``silent_s``; ``stored``, ``refused`` and ``gaps`` (loss
records of data that nobody has any more) since the report before; and while there is contact ``lag_s``,
``pending_samples``, ``buffer_bytes``, ``buffer_limit_bytes``, ``buffer_hours``, ``dropped_samples``,
``quarantined_samples``, ``clock_offset_s``, ``uptime_s``, ``sources``, ``sources_running``, ``config_valid``."""
SOURCE: Final = "source"
"""Tags of the agent's asset, agent, source, protocol. Fields ``state`` (see `SOURCE_STATES`), and while there is contact
``state_s``, ``clock_offset_s``."""
QUARANTINE: Final = "quarantine"
"""Tags of the agent's asset, agent, reason. Field ``count``; a point only where something was refused."""
EVENT: Final = "event"
"""Tags of the asset, agent, kind (see `EVENT_KINDS`). Fields ``count``, ``until_ms``, and where the database keeps texts
``text``; its time is when it began."""
ALARM: Final = "alarm"
"""Tags enterprise and site (none for the service's own), kind. Fields ``active``, ``unacknowledged``."""
SERVICE: Final = "service"
"""No tags. Fields ``agents``, ``agents_contact``, ``series``, ``quarantine``, ``stored``, ``refused``."""

MACHINE_STATES: Final = ("unknown", "running", "idle", "setup", "down_unplanned", "down_planned", "off")
"""By the number that stands for it: 0 is no contact or no good value, and never means that a machine stands."""
SOURCE_STATES: Final = ("no_contact", "running", "connecting", "unavailable", "misconfigured")
"""By the number that stands for it."""
EVENT_KINDS: Final = ("source_gap", "dropped", "quarantined", "restart")
"""The kinds of loss records (`shopfloor.messages.SpanKind`), and that an agent started."""
REPORT_EVERY_S: Final = 10.0
"""Seconds between two reports, where nothing else is configured."""
