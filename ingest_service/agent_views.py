"""An agent as pages and the interface show it: pure functions of its last heartbeat."""

from __future__ import annotations

from typing import Any

from shopfloor.messages import Heartbeat


def describe(
    agent_id: str, asset: str, last_contact: int | None, heartbeat: Heartbeat | None, *, contact: bool
) -> dict[str, Any]:
    """Return the JSON of an agent as live pages see it; ``last_contact`` in UTC ns."""
    return {
        "id": agent_id,
        "asset": asset,
        "contact": contact,
        "last_contact": _ms(last_contact),
        "sources": [
            {"name": one.name, "protocol": one.protocol, "state": one.state, "message": one.message}
            for one in (heartbeat.sources if heartbeat else ())
        ],
    }


def report(heartbeat: Heartbeat | None, clock_offset_ns: int) -> dict[str, Any]:
    """Return what an agent says of its buffer, lag, clock, versions and configuration."""
    if heartbeat is None:
        return {"version": "", "buffer": None, "lag_s": None, "clock_offset_ms": None}
    buffer = heartbeat.buffer
    oldest = buffer.oldest_pending_time
    return {
        "version": heartbeat.version,
        "wire_version": heartbeat.wire_version,
        "config_hash": heartbeat.config_hash,
        "config_valid": heartbeat.config_valid,
        "config_message": heartbeat.config_message,
        "sources": [
            {
                "name": one.name,
                "protocol": one.protocol,
                "state": one.state,
                "message": one.message,
                "since": _ms(one.since),
                "clock_offset_ms": None if one.clock_offset_ns is None else one.clock_offset_ns // 1_000_000,
            }
            for one in heartbeat.sources
        ],
        "source_events": {one.name: one.events for one in heartbeat.sources if one.events},
        "started": _ms(heartbeat.started),
        "buffer": {
            "streams": buffer.streams,
            "pending_samples": buffer.pending_samples,
            "used_bytes": buffer.used_bytes,
            "limit_bytes": buffer.limit_bytes,
            "hours_left": buffer.hours_left,
            "dropped_samples": buffer.dropped_samples,
            "quarantined_samples": buffer.quarantined_samples,
        },
        "lag_s": 0.0 if oldest is None else max(0.0, (heartbeat.sent - oldest) / 1e9),
        "clock_offset_ms": clock_offset_ns // 1_000_000,
    }


def _ms(time_ns: int | None) -> int | None:
    return None if time_ns is None else time_ns // 1_000_000
