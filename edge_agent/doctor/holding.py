"""What the buffer of this agent holds now, for the doctor; ``edge buffer`` tells more."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.buffer.sqlite import FILE_NAME
from edge_agent.buffer_command import report_of
from edge_agent.config import Config
from shopfloor.errors import StoreUnavailable
from shopfloor.findings import Finding, failure, ok, warning
from shopfloor.tables import size_text

_ENOUGH_H = 24.0
_SEE = "shopfloor edge buffer AGENT_YAML shows which"


def look_at_buffer(config: Config) -> Iterator[Finding]:
    """Read the buffer's file, beside a running agent or without one."""
    try:
        report = report_of(config) if (config.data / FILE_NAME).exists() else None
    except PermissionError as error:
        yield failure(
            f"the buffer can't be read: {error}",
            "run this as the user to whom the data folder belongs, or as root",
        )
        return
    except (StoreUnavailable, OSError) as error:
        yield failure(
            f"the buffer can't be read: {error}",
            "the agent sets a damaged file aside when it starts; look at its log",
        )
        return
    if report is None:
        yield ok("there is no buffer yet; it is made at the first start", streams=0)
        return
    names = ("pending_samples", "pending_bytes", "left_bytes", "hours_left", "oldest_pending_time")
    figures = {name: report[name] for name in names} | {"streams": len(report["streams"])}
    text = (
        f"{report['pending_samples']:,} samples wait in {len(report['streams'])} streams "
        f"({size_text(report['pending_bytes'])}), {size_text(report['left_bytes'])} left"
    )
    hours = report["hours_left"]
    if hours is not None and hours < _ENOUGH_H:
        yield warning(
            f"{text}: full in {hours:.1f} hours at the present rate, then {report['when_full']}",
            "bring the uplink back, or give the buffer more room (buffer.max_bytes)",
            **figures,
        )
    else:
        yield ok(
            f"{text}{f', {hours:,.0f} hours at the present rate' if hours is not None else ''}", **figures
        )
    if report["records_waiting"]:
        yield warning(f"{report['records_waiting']} records of lost samples wait to be sent", _SEE)
    for name, what in (("quarantine", "batches that the service refused"), ("damaged", "damaged files")):
        if report[name]:
            yield warning(
                f"{len(report[name])} {what} lie in {config.data}", f"{_SEE}; delete them once looked at"
            )
