"""The agents: what they last said of themselves, and whether an asset has contact."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from ingest_service import agent_views
from ingest_service.agent_record import AgentRecord, is_complete, pending_of
from ingest_service.ledger import Edge
from ingest_service.plant.agents import AgentRow
from ingest_service.stores import below
from shopfloor.messages import Heartbeat, SourceReport, SourceState
from shopfloor.signal import SeriesKey

_MAX_AGENTS: Final = 20_000
_REMEMBERED_TABLES: Final = 4096
_MAX_WRITTEN_ASSETS: Final = 200_000
_MAX_NAMED: Final = 50


class Contact(NamedTuple):
    """Whether what an asset shows is live, and what broke it if it is not."""

    ok: bool
    reason: str = ""
    clock_offset_ns: int = 0
    """The serving agent's clock minus ours, about."""
    served: bool = True
    """Whether there is an agent that should have contact with it."""


class AgentBook:
    """All agents, in memory; `changed_rows` gives what the PlantStore should keep."""

    def __init__(self, rows: Iterable[AgentRow] = (), clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        known = list(rows)
        self._agents = {row.agent_id: AgentRecord(*row[:6]) for row in known if row.retired_at is None}
        self._retired = {row.agent_id: row.asset for row in known if row.retired_at is not None}
        self._departed: list[AgentRow] = []
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

    def take_heartbeat(self, heartbeat: Heartbeat, now_ns: int, outside: Iterable[str] = ()) -> bool:
        """Note a heartbeat; tell whether the configuration's declarations are still to be sent.

        Args:
            heartbeat: as far as its token reaches.
            now_ns: UTC ns.
            outside: assets that were left out of it.
        """
        agent = self._agents.get(heartbeat.agent_id)
        if agent is None:
            agent = self._new(heartbeat.agent_id, heartbeat.asset)
        agent.asset = heartbeat.asset
        agent.last_contact = now_ns
        agent.notepending_of(heartbeat)
        agent.heartbeat = heartbeat
        agent.outside = tuple(outside)
        agent.clock_offset_ns = heartbeat.sent - now_ns
        self._unsaved.add(agent.agent_id)
        self._index_sources(agent)
        return agent.declared_hash != heartbeat.config_hash

    def last_contacts(self) -> dict[str, int]:
        """Return when each agent was last heard of, 0 for never."""
        return {agent_id: one.last_contact or 0 for agent_id, one in self._agents.items()}

    def declared_hashes(self) -> dict[str, str]:
        """Return the configuration of each agent whose series are known."""
        return {agent_id: one.declared_hash for agent_id, one in self._agents.items()}

    def take_rows(self, rows: Iterable[AgentRow]) -> None:
        """Take what another process heard of agents."""
        for row in rows:
            if row.retired_at is not None:
                self._agents.pop(row.agent_id, None)
                self._retired[row.agent_id] = row.asset
                self._unsaved.discard(row.agent_id)
                continue
            agent = self._agents.get(row.agent_id)
            if agent is None:
                agent = self._new(row.agent_id, row.asset)
                self._unsaved.discard(row.agent_id)
            agent.asset, agent.last_contact = row.asset, row.last_contact
            agent.declared_hash, agent.first_seen = row.declared_hash, row.first_seen
            if row.heartbeat is not None:
                agent.notepending_of(row.heartbeat)
                agent.heartbeat = row.heartbeat
                agent.clock_offset_ns = row.heartbeat.sent - (row.last_contact or row.heartbeat.sent)
            self._index_sources(agent)

    def take_assets(self, agent_id: str, assets: Iterable[str]) -> None:
        """Note which assets an agent writes, as another process heard."""
        for asset in assets:
            if asset in self._writer or len(self._writer) < _MAX_WRITTEN_ASSETS:
                self._writer[asset] = agent_id

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
        speakers = self._speakers_for(asset)
        if speakers:
            return self._worst(speakers, now_ns)
        writer = self._writer.get(asset)
        if writer is None:
            return Contact(ok=False, reason="no agent serves it", served=False)
        return self._of_agent(writer, now_ns)

    def served_by(self, asset: str) -> list[str]:
        """Return who speaks for an asset, as subjects of alarms name them: ``agent/source``; ``agent`` if it only writes.

        Sorted, at most fifty; empty where nobody does.
        """
        speakers = self._speakers_for(asset)
        if speakers:
            return sorted({f"{agent_id}/{name}"[:100] for agent_id, name in speakers})[:_MAX_NAMED]
        writer = self._writer.get(asset)
        return [] if writer is None else [writer]

    def describe(self, agent_id: str, now_ns: int) -> dict[str, Any]:
        """Return the JSON of an agent as live pages see it."""
        agent = self._agents[agent_id]
        contact = self.has_contact(agent_id, now_ns)
        return agent_views.describe(
            agent_id, agent.asset, agent.last_contact, agent.heartbeat, contact=contact
        )

    def details(self, agent_id: str, now_ns: int) -> dict[str, Any]:
        """Return the JSON of an agent with its buffer, lag and versions."""
        agent = self._agents[agent_id]
        return {
            **self.describe(agent_id, now_ns),
            **agent_views.report(agent.heartbeat, agent.clock_offset_ns),
            "first_seen": None if agent.first_seen is None else agent.first_seen // 1_000_000,
            "outside": list(agent.outside),
        }

    def records(self) -> list[AgentRecord]:
        """Return all agents, for whoever only looks."""
        return list(self._agents.values())

    def asset_ever(self, agent_id: str) -> str | None:
        """Return the asset that an agent serves or, retired, served; None for an unknown one."""
        return self.asset_of(agent_id) or self._retired.get(agent_id)

    def below(self, path: str) -> list[str]:
        """Return the ids of the agents, retired ones included, that serve a path or what lies below it."""
        known = self._retired | {one.agent_id: one.asset for one in self._agents.values()}
        return [agent_id for agent_id, asset in known.items() if below(asset, path)]

    def edges(self) -> dict[str, tuple[str, Edge]]:
        """Return stream -> (agent, what its newest heartbeat says) for the streams that heartbeats name."""
        return {
            stream.stream_id: (
                agent.agent_id,
                Edge(
                    agent.last_contact or 0, (stream.first_seq, stream.last_seq), is_complete(agent.heartbeat)
                ),
            )
            for agent in self._agents.values()
            if agent.heartbeat
            for stream in agent.heartbeat.buffer.pending or ()
        }

    def edge_of(self, agent_id: str) -> Edge | None:
        """Return what an agent's newest heartbeat says of a stream that it does not name."""
        agent = self._agents.get(agent_id)
        if agent is None or agent.heartbeat is None:
            return None
        return Edge(agent.last_contact or 0, None, is_complete(agent.heartbeat))

    def take_vanished(self, agent_id: str) -> tuple[dict[str, int], bool]:
        """Return stream -> highest number that waited at an agent and does not any more, and whether that is final.

        The store may have it by now. While loss records are on their way to us it is not final, and comes again.
        """
        agent = self._agents.get(agent_id)
        if agent is None or not agent.unexplained:
            return {}, True
        vanished, final = dict(agent.unexplained), is_complete(agent.heartbeat)
        if final:
            agent.unexplained = {}
        return vanished, final

    def keep_unexplained(self, agent_id: str, vanished: Mapping[str, int]) -> None:
        """Take back what `take_vanished` returned and could not be noted."""
        agent = self._agents.get(agent_id)
        if agent is not None:
            agent.unexplained = {**vanished, **agent.unexplained}

    def retire(self, agent_id: str, now_ns: int) -> dict[str, int]:
        """Forget an agent but for whose streams were its; return stream -> highest number that waited at it.

        Raises:
            KeyError: there is no such agent.
        """
        agent = self._agents.pop(agent_id)
        self._retired[agent_id] = agent.asset
        self._unsaved.discard(agent_id)
        self._departed.append(agent.row(now_ns))
        pending = {one.stream_id: one.last_seq for one in pending_of(agent.heartbeat)}
        agent.heartbeat = None
        self._index_sources(agent)
        del self._spoken_for[agent_id]
        for asset in [asset for asset, writer in self._writer.items() if writer == agent_id]:
            del self._writer[asset]
        self._tables.clear()
        return agent.unexplained | pending

    def changed_rows(self) -> list[AgentRow]:
        """Return the agents that changed since the last call."""
        departed = {row.agent_id: row for row in self._departed if row.agent_id not in self._agents}
        rows = [*departed.values(), *(self._agents[agent_id].row() for agent_id in self._unsaved)]
        self._unsaved.clear()
        self._departed.clear()
        return rows

    def _new(self, agent_id: str, asset: str) -> AgentRecord:
        if len(self._agents) >= _MAX_AGENTS:
            # Random ids must not fill the memory; an agent that never sent a heartbeat is the first to go.
            silent = next((key for key, one in self._agents.items() if one.heartbeat is None), None)
            self._agents.pop(silent or next(iter(self._agents)))
        # A path of the vocabulary is no plain text for what encodes it later.
        agent = AgentRecord(agent_id, str(asset), first_seen=self._clock_ns())
        self._agents[agent_id] = agent
        self._retired.pop(agent_id, None)
        self._unsaved &= self._agents.keys()
        self._unsaved.add(agent_id)
        return agent

    def _index_sources(self, agent: AgentRecord) -> None:
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

    def _speakers_for(self, asset: str) -> list[tuple[str, str]]:
        path = asset
        while path:
            if speakers := self._speakers.get(path):
                return speakers
            path = path.rpartition("/")[0]
        return []

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
