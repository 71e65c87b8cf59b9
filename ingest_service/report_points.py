"""Machines, lines, sites, agents and the service as points of one moment: pure functions of what is known of them.

What is not known is left out: who has no contact gets no figure that could be taken for a measured one.
`shopfloor.reports` says what the words mean.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from ingest_service.agent_record import AgentRecord
from ingest_service.plant.activity import Activity
from ingest_service.plant.alarms import AlarmRow
from ingest_service.stores.own_points import Field, Point
from shopfloor import reports
from shopfloor.asset import LEVELS
from shopfloor.messages import SourceState, SpanRecord

_S: Final = 1_000_000_000
_MS: Final = 1_000_000
_LINE_DEPTH: Final = 4
_STATE_CODE: Final = {name: code for code, name in enumerate(reports.MACHINE_STATES)}
_SOURCE_CODE: Final = {state: reports.SOURCE_STATES.index(str(state)) for state in SourceState}
_FAR_NS: Final = 10 * 365 * 86_400 * _S
"""A loss that lies further from now was dated by a clock that knows nothing; it is shown when it was recorded."""


def tags_of(asset: str) -> dict[str, str]:
    """Return the levels of a path as tags."""
    return dict(zip(LEVELS, asset.split("/") if asset else (), strict=False))


def machine_points(
    machines: Mapping[str, Mapping[str, Any]],
    at_ns: int,
    unmissed: Container[str] = (),
    zones_off_k: Mapping[str, float] = MappingProxyType({}),
) -> Iterator[Point]:
    """Yield a point for each machine and each line; ``machines`` and the others are those of `Floor`."""
    lines: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for asset, machine in machines.items():
        if not machine:
            continue
        levels = asset.split("/")
        if len(levels) > _LINE_DEPTH:
            lines["/".join(levels[:_LINE_DEPTH])].append(machine)
        yield Point(
            reports.MACHINE,
            tags_of(asset),
            {
                "state": _STATE_CODE[machine["state"]],
                "state_s": max(0.0, at_ns / _S - machine["since"] / 1000),
                "contact": int(machine["contact"]),
                "missing": int(_missing(asset, machine, unmissed)),
                "zone_off_k": zones_off_k.get(asset) if machine["state"] == "running" else None,
                "age_s": _age_s(machine["newest"], at_ns),
                "parts_today": _number(machine["parts_today"]),
            },
            at_ns,
        )
    for asset, inside in lines.items():
        yield Point(reports.LINE, tags_of(asset), _counted(inside), at_ns)


def site_points(
    sites: Mapping[str, Mapping[str, Any]],
    machines: Mapping[str, Mapping[str, Any]],
    at_ns: int,
    unmissed: Container[str] = (),
) -> Iterator[Point]:
    """Yield a point for each site of `Floor`."""
    for asset, site in sites.items():
        paths = [path for path, one in machines.items() if path.startswith(asset + "/") and one]
        inside = [machines[path] for path in paths]
        offset = dt.datetime.fromtimestamp(at_ns / _S, zoneinfo.ZoneInfo(site["time_zone"])).utcoffset()
        assert offset is not None, "a time of a zone has an offset"
        yield Point(
            reports.SITE,
            {**tags_of(asset), "time_zone": site["time_zone"]},
            {
                **_counted(inside),
                "expected": sum(path not in unmissed for path in paths),
                "missing": sum(_missing(path, machines[path], unmissed) for path in paths),
                "power_kw": _number(site["power_kw"]),
                "age_s": _age_s(site["newest"], at_ns),
                "utc_offset_s": offset.total_seconds(),
            },
            at_ns,
        )


def agent_points(agent: AgentRecord, activity: Activity, at_ns: int) -> Iterator[Point]:
    """Yield a point for an agent and one for each of its sources."""
    tags = {**tags_of(agent.asset), "agent": agent.agent_id}
    heard = agent.last_contact
    contact = heard is not None and at_ns - heard < agent.quiet_ns
    fields: dict[str, Field | None] = {
        "contact": int(contact),
        "silent_s": None if heard is None else max(0.0, (at_ns - heard) / _S),
        "stored": activity.stored.get(agent.agent_id, 0),
        "refused": activity.refused.get(agent.agent_id, 0),
        "gaps": activity.gaps.get(agent.agent_id, 0),
    }
    said = agent.heartbeat
    if said is not None and contact:
        buffer = said.buffer
        oldest = buffer.oldest_pending_time
        fields |= {
            "lag_s": 0.0 if oldest is None else max(0.0, (said.sent - oldest) / _S),
            "pending_samples": buffer.pending_samples,
            "buffer_bytes": buffer.used_bytes,
            "buffer_limit_bytes": buffer.limit_bytes,
            "buffer_hours": _number(buffer.hours_left),
            "dropped_samples": buffer.dropped_samples,
            "quarantined_samples": buffer.quarantined_samples,
            "clock_offset_s": agent.clock_offset_ns / _S,
            "uptime_s": max(0.0, (said.sent - said.started) / _S),
            "sources": len(said.sources),
            "sources_running": sum(one.state is SourceState.RUNNING for one in said.sources),
            "config_valid": int(said.config_valid),
        }
    yield Point(reports.AGENT, tags, fields, at_ns)
    for source in said.sources if said else ():
        more = {"source": source.name, "protocol": source.protocol}
        of_source: dict[str, Field | None] = {"state": _SOURCE_CODE[source.state] if contact else 0}
        if contact:
            offset = source.clock_offset_ns
            of_source["state_s"] = max(0.0, (at_ns - source.since) / _S)
            of_source["clock_offset_s"] = None if offset is None else offset / _S
        yield Point(reports.SOURCE, {**tags, **more}, of_source, at_ns)
    for (agent_id, reason), count in activity.reasons.items():
        if agent_id == agent.agent_id:
            yield Point(reports.QUARANTINE, {**tags, "reason": reason}, {"count": count}, at_ns)


def start_points(agents: Iterable[AgentRecord]) -> Iterator[Point]:
    """Yield the event that each agent started."""
    for agent in agents:
        if agent.heartbeat is not None:
            yield Point(
                reports.EVENT,
                {**tags_of(agent.asset), "agent": agent.agent_id, "kind": "restart"},
                {
                    "count": 1,
                    "until_ms": agent.heartbeat.started // _MS,
                    "text": f"agent {agent.agent_id} started, version {agent.heartbeat.version}",
                },
                agent.heartbeat.started,
            )


def loss_point(span: SpanRecord, asset: str, recorded_ns: int) -> Point:
    """Return the event of a loss record.

    Args:
        span: the record.
        asset: where, should the record not say.
        recorded_ns: when the service learned of it.
    """
    dated = span.from_time > 0 and abs(span.from_time - recorded_ns) < _FAR_NS
    begin = span.from_time if dated else recorded_ns
    end = max(begin, span.to_time) if dated else recorded_ns
    tags = {**tags_of(span.asset or asset), "agent": span.agent_id, "kind": str(span.kind)}
    least = "at least " if span.at_least else ""
    text = f"{least}{span.count} samples: {span.reason}"
    return Point(
        reports.EVENT, tags, {"count": span.count, "until_ms": end // _MS, "text": text[:1000]}, begin
    )


def alarm_points(
    alarms: Iterable[AlarmRow], sites: Iterable[str], kinds: Sequence[str], at_ns: int
) -> Iterator[Point]:
    """Yield how many alarms of each kind each site has, zeros included; those of no site are the service's."""
    active: dict[tuple[str, str], list[AlarmRow]] = defaultdict(list)
    for alarm in alarms:
        active["/".join(alarm.asset.split("/")[:2]), alarm.kind].append(alarm)
    for place in sorted({"", *sites, *(place for place, _ in active)}):
        for kind in kinds:
            found = active.get((place, kind), [])
            yield Point(
                reports.ALARM,
                {**tags_of(place), "kind": kind},
                {
                    "active": len(found),
                    "unacknowledged": sum(one.acknowledged_at is None for one in found),
                },
                at_ns,
            )


def _counted(machines: list[Mapping[str, Any]]) -> dict[str, Field | None]:
    counts: dict[str, Field | None] = {
        state: sum(one["state"] == state for one in machines) for state in reports.MACHINE_STATES
    }
    parts = [one["parts_today"] for one in machines if one["parts_today"] is not None]
    return {
        "machines": len(machines),
        **counts,
        "parts_today": float(sum(parts)) if parts else None,
    }


def _missing(asset: str, machine: Mapping[str, Any], unmissed: Container[str]) -> bool:
    return not machine["contact"] and asset not in unmissed


def _age_s(newest_ms: int | None, at_ns: int) -> float | None:
    return None if newest_ms is None else max(0.0, at_ns / _S - newest_ms / 1000)


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)
