"""What the agent says of itself at one moment, and what of it a person should look at."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from edge_agent.buffer import BufferStats
from edge_agent.delivery import DeliveryReport
from shopfloor.messages import SourceReport, SourceState


class ConfigReport(msgspec.Struct, frozen=True, kw_only=True):
    """Which configuration runs, and whether the file is still that one."""

    hash: str
    """Of the configuration that runs."""
    loaded_ns: int
    """Since when it runs, UTC ns."""
    file: str = ""
    """The file that is watched; empty where none is."""
    valid: bool = True
    """False while the file holds a configuration that was refused."""
    problems: tuple[str, ...] = ()
    """Why it was refused, a line each; never a secret."""
    reloads_total: int = 0
    refusals_total: int = 0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The agent at one moment, taken on the event loop and read by anybody."""

    agent_id: str
    asset: str = ""
    version: str
    started_ns: int
    taken_ns: int
    """UTC ns."""
    uptime_s: float
    sources: tuple[SourceReport, ...]
    config: ConfigReport
    buffer: BufferStats
    hours_left: float | None
    uplink_url: str = ""
    delivery: DeliveryReport
    commits_total: int
    commit_s: float
    sent_bytes_total: int
    stuck: tuple[str, ...] = ()
    """What of the agent itself does not answer any more."""


class Condition(StrEnum):
    """The agent in one word."""

    OK = "ok"
    DEGRADED = "degraded"
    """Something needs a person; the agent does what can be done, and starting it again would not help."""
    FAILING = "failing"
    """The agent itself does not work."""


def condition(snapshot: Snapshot) -> Condition:
    """Judge the agent."""
    if snapshot.stuck:
        return Condition.FAILING
    return Condition.DEGRADED if problems(snapshot) else Condition.OK


def problems(snapshot: Snapshot) -> list[str]:
    """Name what a person should look at; empty while all is well."""
    found = [f"agent: {each}" for each in snapshot.stuck]
    found += [f"configuration refused, the earlier one runs: {each}" for each in snapshot.config.problems]
    found += [
        f"source {source.name}: {source.state}{': ' if source.message else ''}{source.message}"
        for source in snapshot.sources
        if source.state is not SourceState.RUNNING or source.message
    ]
    delivery = snapshot.delivery
    if not delivery.connected:
        found.append(f"uplink: {delivery.message}")
    if delivery.heartbeat_message and (delivery.connected or delivery.heartbeat_message != delivery.message):
        found.append(f"heartbeats: {delivery.heartbeat_message}")
    if delivery.rejected_total:
        found.append(f"uplink: {delivery.rejected_total} samples rejected by the service since the start")
    if snapshot.buffer.dropped_samples_total:
        found.append(f"buffer: {snapshot.buffer.dropped_samples_total} samples dropped since the start")
    if snapshot.buffer.quarantined_samples_total:
        found.append(
            f"buffer: {snapshot.buffer.quarantined_samples_total} samples quarantined since the start"
        )
    return found


def health(snapshot: Snapshot) -> dict[str, Any]:
    """Return the body of ``/health``."""
    return {
        "status": condition(snapshot),
        "problems": problems(snapshot),
        "agent": snapshot.agent_id,
        "version": snapshot.version,
        "started_ns": snapshot.started_ns,
        "config": msgspec.to_builtins(snapshot.config),
        "sources": msgspec.to_builtins(snapshot.sources),
        "buffer": msgspec.to_builtins(snapshot.buffer) | {"hours_left": snapshot.hours_left},
        "uplink": msgspec.to_builtins(snapshot.delivery) | {"url": snapshot.uplink_url},
    }


def full_status(snapshot: Snapshot) -> dict[str, Any]:
    """Return the body of ``/status.json``: all that `health` says, and the figures."""
    return {
        **health(snapshot),
        "asset": snapshot.asset,
        "taken_ns": snapshot.taken_ns,
        "uptime_s": round(snapshot.uptime_s, 3),
        "commits_total": snapshot.commits_total,
        "last_commit_s": snapshot.commit_s,
        "sent_bytes_total": snapshot.sent_bytes_total,
    }
