"""The agents: what they last said of themselves, and whether an asset has contact."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ingest_service.plant.agents import AgentRow
from shopfloor.messages import NO_CONTACT_AFTER_S, Heartbeat, SourceReport, SourceState
from shopfloor.signal import SeriesKey

_NO_CONTACT_NS: Final = int(NO_CONTACT_AFTER_S * 1e9)
_MAX_AGENTS: Final = 20_000
_REMEMBERED_TABLES: Final = 4096
_MAX_WRITTEN_ASSETS: Final = 200_000


class Contact(NamedTuple):
    """Whether what an asset shows is live, and what broke it if it is not."""

    ok: bool
    reason: str = ""
    clock_offset_ns: int = 0
    """The serving agent's clock minus ours, about."""


@dataclass(slots=True)
class _Agent:
    agent_id: str
    asset: str
    last_contact: int | None = None
    heartbeat: Heartbeat | None = None
    declared_hash: str = ""
    clock_offset_ns: int = 0
    quiet_ns: int = _NO_CONTACT_NS
    """Without a word for so long, it has no contact."""


class AgentBook:
    """All agents, in memory; `changed_rows` gives what the PlantStore should keep."""

    def __init__(self, rows: Iterable[AgentRow] = ()) -> None:
        self._agents = {row.agent_id: _Agent(*row) for row in rows}
        self._unsaved: set[str] = set()
        self._speakers: dict[str, list[tuple[str, str]]] = {}
        self._spoken_for: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {}
        self._writer: dict[str, str] = {}
        self._tables: OrderedDict[int, tuple[tuple[SeriesKey, ...], str]] = OrderedDict()
        for agent in self._agents.values():
            self._index_sources(agent)

    def __len__(self) -> int:
        return len(self._agents)

    def asset_of(self, agent_id: str) -> str | None:
        """Return the asset that an agent serves, None for an unknown one."""
        agent = self._agents.get(agent_id)
        return agent.asset if agent else None

    def has_reported(self, agent_id: str) -> bool:
        """Tell whether a heartbeat of an agent was ever taken."""
        agent = self._agents.get(agent_id)
        return agent is not None and agent.heartbeat is not None

    def ids(self) -> list[str]:
        """Return the ids of all agents."""
        return list(self._agents)

    def take_heartbeat(self, heartbeat: Heartbeat, now_ns: int) -> bool:
        """Note a heartbeat; tell whether the configuration's declarations are still to be sent."""
        agent = self._agents.get(heartbeat.agent_id)
        if agent is None:
            agent = self._new(heartbeat.agent_id, heartbeat.asset)
        agent.asset = heartbeat.asset
        agent.last_contact = now_ns
        agent.heartbeat = heartbeat
        agent.clock_offset_ns = heartbeat.sent - now_ns
        self._unsaved.add(agent.agent_id)
        self._index_sources(agent)
        return agent.declared_hash != heartbeat.config_hash

    def take_batch(self, agent_id: str, series: tuple[SeriesKey, ...], asset: str) -> None:
        """Note who writes which assets; ``asset`` is the token's, for an agent that was never heard of."""
        if agent_id not in self._agents and asset:
            self._new(agent_id, asset)
        known = self._tables.get(id(series))
        if known is not None and known[1] == agent_id:
            return
        self._tables[id(series)] = (series, agent_id)
        while len(self._tables) > _REMEMBERED_TABLES:
            self._tables.popitem(last=False)
        for key in series:
            if key.asset in self._writer or len(self._writer) < _MAX_WRITTEN_ASSETS:
                self._writer[key.asset] = agent_id

    def take_write(self, agent_id: str, now_ns: int, quiet_ns: int) -> None:
        """Note that somebody wrote who sends no heartbeats; contact lasts for ``quiet_ns``."""
        agent = self._agents.get(agent_id)
        if agent is not None:
            agent.last_contact, agent.quiet_ns = now_ns, quiet_ns
            self._unsaved.add(agent_id)

    def set_declared(self, agent_id: str, config_hash: str, asset: str) -> None:
        """Note that the series of a configuration are known."""
        agent = self._agents.get(agent_id) or self._new(agent_id, asset)
        agent.declared_hash = config_hash
        self._unsaved.add(agent_id)

    def has_contact(self, agent_id: str, now_ns: int) -> bool:
        """Tell whether an agent's last heartbeat is recent."""
        agent = self._agents.get(agent_id)
        if agent is None or agent.last_contact is None:
            return False
        return now_ns - agent.last_contact < agent.quiet_ns

    def contact(self, asset: str, now_ns: int) -> Contact:
        """Tell whether an asset has contact.

        The sources with the longest path that covers the asset speak for it, and all of them must run. Where no
        source does, the agent that last wrote it counts.
        """
        path = asset
        while path:
            speakers = self._speakers.get(path)
            if speakers:
                return self._worst(speakers, now_ns)
            path = path.rpartition("/")[0]
        writer = self._writer.get(asset)
        if writer is None:
            return Contact(ok=False, reason="no agent serves it")
        return self._of_agent(writer, now_ns)

    def describe(self, agent_id: str, now_ns: int) -> dict[str, Any]:
        """Return the JSON of an agent as live pages see it."""
        agent = self._agents[agent_id]
        heartbeat = agent.heartbeat
        return {
            "id": agent.agent_id,
            "asset": agent.asset,
            "contact": self.has_contact(agent_id, now_ns),
            "last_contact": None if agent.last_contact is None else agent.last_contact // 1_000_000,
            "sources": [
                {"name": one.name, "protocol": one.protocol, "state": one.state, "message": one.message}
                for one in (heartbeat.sources if heartbeat else ())
            ],
        }

    def details(self, agent_id: str, now_ns: int) -> dict[str, Any]:
        """Return the JSON of an agent with its buffer, lag and versions."""
        agent = self._agents[agent_id]
        described = self.describe(agent_id, now_ns)
        heartbeat = agent.heartbeat
        if heartbeat is None:
            return {**described, "version": "", "buffer": None, "lag_s": None, "clock_offset_ms": None}
        buffer = heartbeat.buffer
        oldest = buffer.oldest_pending_time
        return {
            **described,
            "version": heartbeat.version,
            "config_hash": heartbeat.config_hash,
            "config_valid": heartbeat.config_valid,
            "config_message": heartbeat.config_message,
            "source_events": {one.name: one.events for one in heartbeat.sources if one.events},
            "started": heartbeat.started // 1_000_000,
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
            "clock_offset_ms": agent.clock_offset_ns // 1_000_000,
        }

    def changed_rows(self) -> list[AgentRow]:
        """Return the agents that changed since the last call."""
        rows = [
            AgentRow(one.agent_id, one.asset, one.last_contact, one.heartbeat, one.declared_hash)
            for one in (self._agents[agent_id] for agent_id in self._unsaved)
        ]
        self._unsaved.clear()
        return rows

    def _new(self, agent_id: str, asset: str) -> _Agent:
        if len(self._agents) >= _MAX_AGENTS:
            # Random ids must not fill the memory; an agent that never sent a heartbeat is the first to go.
            silent = next((key for key, one in self._agents.items() if one.heartbeat is None), None)
            self._agents.pop(silent or next(iter(self._agents)))
        agent = _Agent(agent_id, asset)
        self._agents[agent_id] = agent
        self._unsaved &= self._agents.keys()
        self._unsaved.add(agent_id)
        return agent

    def _index_sources(self, agent: _Agent) -> None:
        reports: tuple[SourceReport, ...] = agent.heartbeat.sources if agent.heartbeat else ()
        claims = tuple((one.name, one.assets) for one in reports)
        if self._spoken_for.get(agent.agent_id) == claims:
            return
        for path in list(self._speakers):
            left = [one for one in self._speakers[path] if one[0] != agent.agent_id]
            if left:
                self._speakers[path] = left
            else:
                del self._speakers[path]
        for name, assets in claims:
            for path in assets:
                self._speakers.setdefault(path, []).append((agent.agent_id, name))
        self._spoken_for[agent.agent_id] = claims

    def _worst(self, speakers: list[tuple[str, str]], now_ns: int) -> Contact:
        contact = Contact(ok=True)
        for agent_id, name in speakers:
            contact = self._of_agent(agent_id, now_ns)
            if not contact.ok:
                return contact
            heartbeat = self._agents[agent_id].heartbeat
            for report in heartbeat.sources if heartbeat else ():
                if report.name == name and report.state is not SourceState.RUNNING:
                    why = f": {report.message}" if report.message else ""
                    return Contact(
                        ok=False,
                        reason=f"{name} {report.state}{why}",
                        clock_offset_ns=contact.clock_offset_ns,
                    )
        return contact

    def _of_agent(self, agent_id: str, now_ns: int) -> Contact:
        agent = self._agents.get(agent_id)
        offset = agent.clock_offset_ns if agent else 0
        if self.has_contact(agent_id, now_ns):
            return Contact(ok=True, clock_offset_ns=offset)
        return Contact(ok=False, reason=f"no contact with agent {agent_id}", clock_offset_ns=offset)
