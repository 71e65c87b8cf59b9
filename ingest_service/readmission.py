"""Storing quarantined samples after all, exactly once, and throwing them away so that the ledger still adds up.

A re-admitted sample gets a number in a stream of the service's own before the store takes it; whatever happens in
between, the same numbers are written again, and the stream's watermark makes repeats of them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ingest_service.admission import OWN_STREAMS, Admission
from ingest_service.auth import Identity
from ingest_service.plant import quarantine_acts
from ingest_service.plant.quarantine_acts import Decision, Key
from ingest_service.plant.quarantine_pages import Filter, page, place_of
from ingest_service.plant.store import PlantStore
from ingest_service.stores import NOTHING_REFUSED, Admitted, SampleStore
from shopfloor.asset import parse_asset
from shopfloor.block import Sample, block_of
from shopfloor.errors import InvalidName, StoreUnavailable
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey, parse_signal

_CHUNK: Final = 5000
NOT_A_SAMPLE: Final = "not_a_sample"
"""A line that no rule places, for instance: it has no series yet."""
_LINES: Final = "line_"
"""Reasons of line protocol begin so: what lies there is a line, and no sample."""
UNSETTLED: Final = "unsettled"
"""The batch that it came with is not durable: the agent will send it again."""


@dataclass(slots=True)
class Readmitted:
    """What came of an act."""

    readmitted: int = 0
    still_refused: Counter[str] = field(default_factory=Counter)
    """By the reason that keeps a sample in quarantine now."""


class Readmission:
    """Carries out what people decide on quarantined samples, one act at a time."""

    def __init__(
        self,
        store: SampleStore,
        plant: PlantStore,
        admission: Admission,
        clock_ns: Callable[[], int],
    ) -> None:
        self._store = store
        self._plant = plant
        self._admission = admission
        self._clock_ns = clock_ns
        self._acting = asyncio.Lock()
        self.has_open_claims = True
        """Whether claims may be there that an attempt before left open."""

    async def readmit(self, chosen: Filter, identity: Identity) -> Readmitted:
        """Let the samples that a filter shows go through admission again, as far as ``identity`` reaches.

        Raises:
            StoreUnavailable: some may be stored already, and the rest can be tried again: nothing is stored twice.
        """
        done = Readmitted()
        decision = Decision(identity.actor, self._clock_ns())
        async with self._acting:
            await self._resume()
            async for rows in self._chunks(replace(chosen, state="waiting")):
                settled = await self._settled(rows)
                done.still_refused[UNSETTLED] += len(rows) - len(settled)
                for agent_id in dict.fromkeys(row["agent_id"] for row in settled):
                    own = [row for row in settled if row["agent_id"] == agent_id]
                    keys = self._admissible(agent_id, own, identity, done)
                    if keys:
                        await self._store_claim(keys, decision, done)
        done.still_refused = +done.still_refused
        return done

    async def purge(self, chosen: Filter, identity: Identity) -> int:
        """Throw away the samples that a filter shows; return how many. Raises StoreUnavailable."""
        purged = 0
        decision = Decision(identity.actor, self._clock_ns())
        async with self._acting:
            async for rows in self._chunks(chosen):
                settled = [(row["stream_id"], row["seq"]) for row in await self._settled(rows)]
                count = await self._plant.run(quarantine_acts.purge, self._plant.engine, settled, decision)
                self._plant.quarantined -= count
                purged += count
        return purged

    async def resume(self) -> None:
        """Finish what an attempt before left open, unless somebody acts just now; raises StoreUnavailable."""
        if self.has_open_claims and not self._acting.locked():
            async with self._acting:
                await self._resume()

    async def _resume(self) -> None:
        if not self.has_open_claims:
            return
        for stream_id in await self._plant.run(quarantine_acts.open_claims, self._plant.engine):
            rows = await self._plant.run(quarantine_acts.claimed, self._plant.engine, stream_id)
            await self._write(stream_id, rows, Readmitted())
        self.has_open_claims = False

    async def _chunks(self, chosen: Filter) -> Any:
        after = None
        while rows := await self._plant.run(page, self._plant.engine, chosen, _CHUNK, after):
            after = place_of(rows[-1])
            yield rows

    async def _settled(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Leave out what lies above its stream's watermark: it comes again with its batch."""
        marks = {
            stream_id: (await self._store.watermark(stream_id)).received_through
            for stream_id in dict.fromkeys(row["stream_id"] for row in rows)
        }
        return [row for row in rows if row["seq"] <= marks[row["stream_id"]]]

    def _admissible(
        self, agent_id: str, rows: Sequence[Mapping[str, Any]], identity: Identity, done: Readmitted
    ) -> list[Key]:
        """Return the keys of what admission takes now, and count the rest."""
        samples = [row for row in rows if _is_sample(row)]
        done.still_refused[NOT_A_SAMPLE] += len(rows) - len(samples)
        if not samples:
            return []
        batch = _batch(agent_id, OWN_STREAMS, samples)
        refused = self._admission.examine(batch, identity.asset)
        done.still_refused.update(refused.counts())
        out = set(refused.rows.tolist())
        return [(row["stream_id"], row["seq"]) for number, row in enumerate(samples) if number not in out]

    async def _store_claim(self, keys: Sequence[Key], decision: Decision, done: Readmitted) -> None:
        stream_id = OWN_STREAMS + secrets.token_hex(12)
        self.has_open_claims = True
        rows = await self._plant.run(quarantine_acts.claim, self._plant.engine, keys, stream_id, decision)
        if rows:
            await self._write(stream_id, rows, done)
        self.has_open_claims = False

    async def _write(self, stream_id: str, rows: Sequence[Mapping[str, Any]], done: Readmitted) -> None:
        batch = _batch(rows[0]["agent_id"], stream_id, rows)
        (outcome,) = await self._store.write([Admitted(batch, NOTHING_REFUSED)])
        if isinstance(outcome, StoreUnavailable):
            raise outcome
        refused = await self._plant.run(
            quarantine_acts.settle, self._plant.engine, stream_id, self._clock_ns()
        )
        done.readmitted += len(rows) - sum(refused.values())
        done.still_refused.update(refused)


def _is_sample(row: Mapping[str, Any]) -> bool:
    if row["reason"].startswith(_LINES):
        return False
    try:
        parse_asset(row["asset"])
        parse_signal(row["signal"])
    except InvalidName:
        return False
    return True


def _batch(agent_id: str, stream_id: str, rows: Iterable[Mapping[str, Any]]) -> Batch:
    samples = [
        Sample(
            SeriesKey(parse_asset(row["asset"]), parse_signal(row["signal"])),
            row["source_time"],
            row["received_time"],
            float("nan") if row["value"] is None else row["value"],
            row["quality"],
            row["status"],
            row["text"],
        )
        for row in rows
    ]
    return Batch(agent_id, stream_id, Lane.BACKLOG, 1, block_of(samples))
