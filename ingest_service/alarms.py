"""The alarms of one service: raised, ended, acknowledged; kept over restarts. Belongs to the event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from ingest_service.agent_record import AgentRecord
from ingest_service.alarm_config import AlarmConfig
from ingest_service.alarm_rules import Condition, Kind, Name, Watched, of_agents
from ingest_service.plant import alarms as kept
from ingest_service.plant.alarms import AlarmRow
from ingest_service.plant.store import PlantStore
from ingest_service.stores import below
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch, new_id

_PRUNE_EVERY_NS: Final = 3600 * 1_000_000_000
_DAY_NS: Final = 86_400 * 1_000_000_000
_MAX_ACTIVE: Final = 50_000


def shown(alarm: AlarmRow) -> dict[str, Any]:
    """Return an alarm as JSON."""
    return {
        "id": alarm.alarm_id,
        "kind": alarm.kind,
        "subject": alarm.subject,
        "asset": alarm.asset,
        "message": alarm.message,
        "since": alarm.since // 1_000_000,
        "until": None if alarm.until is None else alarm.until // 1_000_000,
        "acknowledged_at": None if alarm.acknowledged_at is None else alarm.acknowledged_at // 1_000_000,
        "acknowledged_by": alarm.acknowledged_by,
    }


def may_see(alarm: AlarmRow, *reaches: str) -> bool:
    """Tell whether an alarm lies in one of these paths; those of the service itself are everybody's."""
    return not alarm.asset or any(below(alarm.asset, reach) for reach in reaches)


def _growing(agent_id: str, asset: str) -> Condition:
    return Condition(
        Kind.QUARANTINE_GROWING, agent_id, asset, f"samples of agent {agent_id} go to quarantine"
    )


class AlarmBook:
    """What is wrong now. It is admission's observer as well: some alarms begin with what that meets."""

    def __init__(
        self,
        plant: PlantStore,
        config: AlarmConfig,
        asset_of: Callable[[str], str | None],
        clock_ns: Callable[[], int],
    ) -> None:
        self._plant = plant
        self._config = config
        self._asset_of = asset_of
        self._clock_ns = clock_ns
        self.active: dict[Name, AlarmRow] = {
            (Kind(one.kind), one.subject): one for one in kept.active(plant.engine)
        }
        self._told: dict[Name, AlarmRow] = {}
        """What viewers know; see `news`."""
        self._unsaved: dict[str, AlarmRow] = {}
        self._seen: dict[Name, Condition] = {}
        """What does not end by itself: it lasts until somebody has acknowledged it."""
        self._grown: dict[str, tuple[int, str]] = {}
        """Agent -> when something of it went to quarantine last (UTC ns), and its asset."""
        self._failed: dict[str, Condition] = {}
        self._pruned_at = 0
        loaded, self.active = self.active, {}
        self._adopt(loaded.values())
        self.active = loaded
        self._told = dict(loaded)

    def gap(self, batch: Batch, missing: tuple[int, int], count: int) -> None:
        """See `admission.Observer`."""
        self.lost(
            batch.agent_id, batch.stream_id, f"{count} of the numbers {missing[0]} to {missing[1]} never came"
        )

    def lost(self, agent_id: str, stream_id: str, message: str) -> None:
        """Note that numbers of a stream are missing."""
        asset = self._asset_of(agent_id) or ""
        condition = Condition(Kind.GAP, stream_id, asset, f"agent {agent_id}: {message}")
        if len(self._seen) < _MAX_ACTIVE:
            self._seen[condition.name] = condition

    def quarantined(self, batch: Batch, _count: int) -> None:
        """See `admission.Observer`."""
        self._grown[batch.agent_id] = (self._clock_ns(), self._asset_of(batch.agent_id) or "")

    def store(self, error: StoreUnavailable | None) -> None:
        """See `admission.Observer`."""
        self.reach("samples", error)

    def reach(self, store: str, error: StoreUnavailable | None) -> None:
        """Note whether a store (``samples``, ``plant``) could be used."""
        if error is None:
            self._failed.pop(store, None)
        else:
            # The error itself may name files and addresses of servers: it stands in the log.
            message = f"the store of {store} can't be used: nothing is acknowledged"
            self._failed[store] = Condition(Kind.STORE_UNAVAILABLE, store, "", message)

    def count(self, kind: Kind) -> int:
        """Return how many alarms of a kind there are now."""
        return sum(name[0] is kind for name in self.active)

    def retire(self, agent_id: str) -> None:
        """Forget an agent: what it might still be blamed for is over."""
        self._grown.pop(agent_id, None)

    def look_at(self, agents: Iterable[AgentRecord], started_ns: int) -> dict[str, AlarmRow]:
        """See `look`; before ``started_ns`` (UTC ns) nobody could be heard."""
        return self.look(
            Watched(
                one.agent_id,
                one.asset,
                max(one.last_contact, started_ns),
                one.quiet_ns / 1e9,
                one.clock_offset_ns,
                one.heartbeat,
            )
            for one in agents
            if one.last_contact is not None
        )

    def look(self, agents: Iterable[Watched]) -> dict[str, AlarmRow]:
        """Compare what is wrong now with what was; return the alarms that are new, changed or over, by id."""
        now = self._clock_ns()
        quiet = now - int(self._config.quarantine_quiet_s * 1e9)
        self._grown = {agent: one for agent, one in self._grown.items() if one[0] >= quiet}
        conditions = {one.name: one for one in of_agents(agents, self._config, now, self.active.keys())}
        conditions |= {one.name: one for one in self._failed.values()}
        conditions |= self._seen
        for agent, (_, asset) in self._grown.items():
            one = _growing(agent, asset)
            conditions[one.name] = one
        changed = [*self._raise(conditions, now), *self._end(conditions, now)]
        return {one.alarm_id: one for one in changed}

    def news(self) -> dict[str, AlarmRow]:
        """Return the alarms that are new, changed, acknowledged or over since this was called last, by id.

        Whoever noted it: this process by `look` and `acknowledge`, or another one, of which `follow` learned.
        """
        changed = {one.alarm_id: one for name, one in self.active.items() if self._told.get(name) != one}
        now = self._clock_ns()
        for name, one in self._told.items():
            present = self.active.get(name)
            if present is None or present.alarm_id != one.alarm_id:
                changed[one.alarm_id] = one._replace(until=now)
        self._told = dict(self.active)
        return changed

    def _raise(self, conditions: Mapping[Name, Condition], now: int) -> Iterable[AlarmRow]:
        for name, one in conditions.items():
            known = self.active.get(name)
            if known is None and len(self.active) < _MAX_ACTIVE:
                alarm = AlarmRow(
                    new_id(), str(one.kind), one.subject[:100], one.asset, one.message[:1000], now
                )
            elif known is not None and known.message != one.message[:1000]:
                alarm = known._replace(message=one.message[:1000])
            else:
                continue
            self.active[name] = self._unsaved[alarm.alarm_id] = alarm
            yield alarm

    def _end(self, conditions: Mapping[Name, Condition], now: int) -> Iterable[AlarmRow]:
        for name in [name for name in self.active if name not in conditions]:
            alarm = self.active.pop(name)._replace(until=now)
            self._unsaved[alarm.alarm_id] = alarm
            yield alarm

    async def acknowledge(self, alarm: AlarmRow, by: str) -> AlarmRow:
        """Note who has seen an alarm; a gap is over with that. Raises StoreUnavailable."""
        await self.save()
        now = self._clock_ns()
        await self._plant.run(kept.acknowledge, self._plant.engine, alarm.alarm_id, by, now)
        found = await self._plant.run(kept.one, self._plant.engine, alarm.alarm_id)
        if found is not None:
            self._take_acknowledged(found)
        return found or alarm

    async def save(self) -> None:
        """Keep what changed; raises StoreUnavailable, and keeps it the next time."""
        unsaved = dict(self._unsaved)
        await self._plant.run(kept.save, self._plant.engine, unsaved.values())
        self._unsaved = {key: one for key, one in self._unsaved.items() if unsaved.get(key) is not one}

    async def follow(self, *, leads: bool) -> None:
        """Learn what other processes have noted; without the lead, all of it. Raises StoreUnavailable."""
        rows = await self._plant.run(kept.active, self._plant.engine)
        if leads:
            self._adopt(rows)
        else:
            self.active = {(Kind(one.kind), one.subject): one for one in rows}
            await self._hand_over()
        for row in rows:
            self._take_acknowledged(row)
        now = self._clock_ns()
        if leads and now - self._pruned_at > _PRUNE_EVERY_NS:
            self._pruned_at = now
            await self._plant.run(kept.prune, self._plant.engine, now - int(self._config.keep_days * _DAY_NS))

    def _adopt(self, rows: Iterable[AlarmRow]) -> None:
        """Take up what other processes, or an earlier life, raised and can't be seen from agents."""
        for row in rows:
            name = (Kind(row.kind), row.subject)
            if name[0] is Kind.GAP and row.acknowledged_at is None:
                self._seen.setdefault(name, Condition(Kind.GAP, row.subject, row.asset, row.message))
            elif name[0] is Kind.QUARANTINE_GROWING and name not in self.active:
                self._grown.setdefault(row.subject, (self._clock_ns(), row.asset))
            else:
                continue
            self.active.setdefault(name, row)

    async def _hand_over(self) -> None:
        """Without the lead, raise what only this process has met; whoever leads ends it."""
        self._unsaved.clear()
        conditions = dict(self._seen)
        for agent, (_, asset) in self._grown.items():
            one = _growing(agent, asset)
            conditions[one.name] = one
        new = list(self._raise(conditions, self._clock_ns()))
        await self.save()
        if new or conditions:
            self._seen.clear()
            self._grown.clear()

    def _take_acknowledged(self, row: AlarmRow) -> None:
        name = (Kind(row.kind), row.subject)
        known = self.active.get(name)
        if row.acknowledged_at is None or known is None or known.alarm_id != row.alarm_id:
            return
        self.active[name] = known._replace(
            acknowledged_at=row.acknowledged_at, acknowledged_by=row.acknowledged_by
        )
        self._seen.pop(name, None)
