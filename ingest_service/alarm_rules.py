"""What is an alarm: pure functions of what is known of agents and stores."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from ingest_service.alarm_config import AlarmConfig
from shopfloor.messages import Heartbeat

_S: Final = 1_000_000_000
_RELEASE: Final = 0.8
"""A figure has to be better than its limit by so much before the alarm ends, so that it does not come and go."""


class Kind(StrEnum):
    """What is wrong."""

    AGENT_SILENT = "agent_silent"
    GAP = "gap"
    QUARANTINE_GROWING = "quarantine_growing"
    BUFFER_LOW = "buffer_low"
    CLOCK_OFFSET = "clock_offset"
    STORE_UNAVAILABLE = "store_unavailable"


Name = tuple[Kind, str]
"""What is wrong with whom: one alarm at a time."""


class Condition(NamedTuple):
    """Something is wrong now."""

    kind: Kind
    subject: str
    """Agent, ``agent/source``, stream or store."""
    asset: str
    """Where; empty for the service as a whole."""
    message: str

    @property
    def name(self) -> Name:
        """Which alarm this is."""
        return self.kind, self.subject


class Watched(NamedTuple):
    """One agent, as the rules see it."""

    agent_id: str
    asset: str
    heard_at: int
    """UTC ns; of the service's start where that is later: nobody could be heard before."""
    quiet_s: float
    """It may say nothing for so long."""
    clock_offset_ns: int
    heartbeat: Heartbeat | None


def of_agents(
    agents: Iterable[Watched], config: AlarmConfig, now: int, active: Collection[Name]
) -> Iterator[Condition]:
    """Yield what is wrong with agents; ``active`` are the alarms that are there already."""
    for one in agents:
        if now - one.heard_at > max(config.silent_after_s, one.quiet_s) * _S:
            heard = dt.datetime.fromtimestamp(one.heard_at / 1e9, dt.UTC).isoformat(timespec="seconds")
            yield Condition(Kind.AGENT_SILENT, one.agent_id, one.asset, f"not heard of since {heard}")
        elif one.heartbeat is not None:
            yield from _of_heartbeat(one, one.heartbeat, config, active)


def _of_heartbeat(
    one: Watched, heartbeat: Heartbeat, config: AlarmConfig, active: Collection[Name]
) -> Iterator[Condition]:
    hours = heartbeat.buffer.hours_left
    limit = config.buffer_hours / (_RELEASE if (Kind.BUFFER_LOW, one.agent_id) in active else 1)
    if hours is not None and hours < limit:
        message = f"the buffer lasts for less than {config.buffer_hours:g} hours at its present rate"
        yield Condition(Kind.BUFFER_LOW, one.agent_id, one.asset, message)
    offsets = [(one.agent_id, "the agent's clock", one.clock_offset_ns, config.clock_offset_s)]
    offsets += [
        (
            f"{one.agent_id}/{source.name}"[:100],
            "the machine's clock",
            source.clock_offset_ns,
            config.machine_clock_offset_s,
        )
        for source in heartbeat.sources
        if source.clock_offset_ns is not None
    ]
    for subject, whose, offset_ns, most_s in offsets:
        limit_s = most_s * (_RELEASE if (Kind.CLOCK_OFFSET, subject) in active else 1)
        if abs(offset_ns) > limit_s * _S:
            way = "ahead" if offset_ns > 0 else "behind"
            yield Condition(Kind.CLOCK_OFFSET, subject, one.asset, f"{whose} is more than {most_s:g} s {way}")
