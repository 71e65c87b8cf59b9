"""Who may write what, what is a repeat, and whose turn it is. Knows no web framework.

Each sample of a batch that is taken here ends stored, repeated or quarantined with a reason; the quarantine is
durable before the store moves the stream's watermark past it, so that a repeat changes nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from ingest_service.auth import Identity
from ingest_service.examination import REFUSED_BEFORE, Verdicts, also_refused, examine, uncovered
from ingest_service.fairness import FairGate
from ingest_service.metrics import Metrics
from ingest_service.plant import discards, quarantine
from ingest_service.plant.store import PlantStore
from ingest_service.stores import NOTHING_REFUSED, Admitted, Outcome, Refused, SampleStore
from shopfloor.block import Int64
from shopfloor.errors import Permanent, StoreUnavailable
from shopfloor.messages import Batch, Receipt
from shopfloor.signal import SeriesKey

OWN_STREAMS: Final = "readmit."
"""Streams whose id begins so are the service's own: what was re-admitted from quarantine."""
_REMEMBERED_STREAMS: Final = 100_000


class NotYours(Permanent):
    """The token's asset path does not cover the batch's agent or stream."""


class Agents(Protocol):
    """What admission asks about agents."""

    def asset_of(self, agent_id: str) -> str | None:
        """Return the asset that an agent serves, None for an unknown one."""
        ...

    def has_reported(self, agent_id: str) -> bool:
        """Tell whether a heartbeat of an agent was ever taken: its asset lay in its token's reach."""
        ...

    def stream_agent(self, stream_id: str) -> str | None:
        """Return the agent that first wrote a stream."""
        ...


class Observer(Protocol):
    """Who wants to know what admission meets; called on the event loop, must be quick and must not raise."""

    def gap(self, batch: Batch, missing: tuple[int, int], count: int) -> None:
        """Numbers of a stream were skipped, ``count`` of them unexplained."""
        ...

    def quarantined(self, batch: Batch, count: int) -> None:
        """Samples went to quarantine."""
        ...

    def store(self, error: StoreUnavailable | None) -> None:
        """A write failed, or, with None, one was durable."""
        ...


def _left_behind(engine: sa.Engine, stream_id: str, mark: int) -> Int64:
    discards.forget_above(engine, stream_id, mark)
    return quarantine.seqs_above(engine, stream_id, mark)


class Admission:
    """Takes batches of authenticated agents into the store."""

    def __init__(
        self,
        store: SampleStore,
        plant: PlantStore,
        agents: Agents,
        metrics: Metrics,
        *,
        series_limit: int,
        series_known: Callable[[Sequence[SeriesKey]], tuple[list[SeriesKey], int]],
        quarantine_limit: int,
        clock_ns: Callable[[], int] = time.time_ns,
        gate: FairGate | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._store = store
        self._plant = plant
        self._agents = agents
        self._metrics = metrics
        self._series_limit = series_limit
        self._series_known = series_known
        self._quarantine_limit = quarantine_limit
        self._clock_ns = clock_ns
        self.gate = gate or FairGate()
        # One at a time: whoever sends nothing but rubbish takes one thread of the plant's, and the others their turns.
        self._aside = FairGate(open_rows=1)
        self._observer = observer
        self._verdicts = Verdicts()
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._left_over: dict[str, Int64] = {}
        self._repeated: dict[str, tuple[str, int]] = {}

    async def admit(self, batch: Batch, identity: Identity, refused: Refused = NOTHING_REFUSED) -> Receipt:
        """Make a batch durable and return what the agent may forget.

        Args:
            batch: samples.
            identity: who sends it.
            refused: rows that whoever read it found to be no samples; they go to quarantine with its reasons.

        Raises:
            NotYours: the token does not reach the batch's agent or stream.
            StoreUnavailable: nothing was acknowledged.
        """
        outside = self._verdicts.outside(identity.asset, batch.block.series)
        if self._agents.stream_agent(batch.stream_id) is None:
            # It may have come to another process so far: the store looks it up.
            await self._store.watermark(batch.stream_id)
        self._check_owner(batch, identity, outside)
        try:
            outcome = await self._write(batch, identity, outside, refused)
        except StoreUnavailable as error:
            # What lies in quarantine of it was not passed by the watermark: the next attempt has to look.
            self._settled.pop(batch.stream_id, None)
            if self._observer:
                self._observer.store(error)
            raise
        if self._observer:
            self._observer.store(None)
        await self._count(batch, outcome)
        return Receipt(
            outcome.received_through,
            outcome.durable_through,
            outcome.refused.rejections(batch.first_seq),
            len(outcome.refused),
        )

    def take_repeated(self) -> dict[str, tuple[str, int]]:
        """Return stream -> (agent, rows that came again) since the last call."""
        repeated, self._repeated = self._repeated, {}
        return repeated

    def examine(self, batch: Batch, reach: str, outside: npt.NDArray[np.bool_] | None = None) -> Refused:
        """Return the rows that must not be stored by somebody who reaches ``reach``."""
        series = batch.block.series
        if outside is None:
            outside = self._verdicts.outside(reach, series)
        return examine(batch.block, self._clock_ns(), outside, self._too_many(series, outside))

    async def _write(
        self, batch: Batch, identity: Identity, outside: npt.NDArray[np.bool_] | None, refused: Refused
    ) -> Outcome:
        found = self.examine(batch, identity.asset, outside)
        for reason, name in enumerate(found.reasons):
            refused = also_refused(refused, found.rows[found.reason_index == reason], name)
        mark = (await self._store.watermark(batch.stream_id)).received_through
        if batch.stream_id not in self._settled:
            await self._settle(batch.stream_id, mark)
        if batch.stream_id in self._left_over:
            refused = self._with_left_over(batch, refused, mark)
        token, agent, rows = identity.token_id, batch.agent_id, len(batch.block)
        if len(refused):
            async with self._aside.turn(token, agent, rows):
                await self._put_aside(batch, refused.after(max(0, mark + 1 - batch.first_seq)))
        async with self.gate.turn(token, agent, rows):
            (outcome,) = await self._store.write([Admitted(batch, refused)])
        if isinstance(outcome, StoreUnavailable):
            raise outcome
        return outcome

    def _check_owner(self, batch: Batch, identity: Identity, outside: npt.NDArray[np.bool_] | None) -> None:
        if batch.stream_id.startswith(OWN_STREAMS):
            raise NotYours(f"streams {OWN_STREAMS}* are the service's own")
        owners = {batch.agent_id, self._agents.stream_agent(batch.stream_id) or batch.agent_id}
        for owner in owners:
            asset = self._agents.asset_of(owner)
            if asset is not None and not identity.covers(asset):
                raise NotYours(
                    f"the token reaches {identity.asset}; agent {owner} serves {asset}, which is outside of it"
                )
        if outside is None or self._agents.has_reported(batch.agent_id) or not len(batch.block):
            return
        if outside[batch.block.series_index].all():
            # A token of another site: its heartbeats are refused too. In quarantine the agent would lose all it has.
            raise NotYours(
                f"the token reaches {identity.asset}; nothing that agent {batch.agent_id} sends lies in it"
            )

    async def _settle(self, stream_id: str, mark: int) -> None:
        """Find what an attempt that failed, maybe of an earlier life, left behind above the watermark.

        A row that lies in quarantine stays refused when it comes again, whatever is thought of it now: it must not be
        stored as well.
        """
        found = await self._plant.run(_left_behind, self._plant.engine, stream_id, mark)
        if len(found):
            self._left_over[stream_id] = found
        self._settled[stream_id] = None
        while len(self._settled) > _REMEMBERED_STREAMS:
            self._settled.popitem(last=False)

    def _with_left_over(self, batch: Batch, refused: Refused, mark: int) -> Refused:
        seqs = self._left_over[batch.stream_id]
        if seqs[-1] <= mark:
            del self._left_over[batch.stream_id]
            return refused
        inside = seqs[(seqs >= batch.first_seq) & (seqs <= batch.last_seq)]
        return also_refused(refused, inside - batch.first_seq, REFUSED_BEFORE)

    def _too_many(
        self, series: tuple[SeriesKey, ...], outside: npt.NDArray[np.bool_] | None
    ) -> npt.NDArray[np.bool_] | None:
        unknown, known = self._series_known(series)
        if not unknown:
            return None
        if outside is not None:
            allowed = {key for key, out in zip(series, outside.tolist(), strict=True) if not out}
            unknown = [key for key in unknown if key in allowed]
        beyond = set(unknown[max(0, self._series_limit - known) :])
        if not beyond:
            return None
        return np.array([key in beyond for key in series], np.bool_)

    async def _put_aside(self, batch: Batch, refused: Refused) -> None:
        if not len(refused):
            return
        if self._plant.quarantined + len(refused) <= self._quarantine_limit:
            await self._plant.run(self._plant.put_quarantine, batch, refused)
        else:
            await self._plant.run(discards.put_full, self._plant.engine, batch, refused)

    async def _count(self, batch: Batch, outcome: Outcome) -> None:
        metrics = self._metrics
        metrics.batches.inc()
        metrics.stored.inc(outcome.stored)
        if outcome.repeated:
            metrics.repeated.inc(outcome.repeated)
            before = self._repeated.get(batch.stream_id, ("", 0))[1]
            self._repeated[batch.stream_id] = (batch.agent_id, before + outcome.repeated)
        for reason, count in outcome.refused.counts().items():
            metrics.rejected.labels(reason).inc(count)
        if len(outcome.refused) and self._observer:
            self._observer.quarantined(batch, len(outcome.refused))
        if outcome.missing:
            try:
                spans = await self._plant.run(self._plant.spans_of, batch.stream_id)
            except StoreUnavailable:
                spans = []  # the batch is durable: a counter must not make the agent send it again
            left = uncovered(outcome.missing, [(first, last) for first, last, _, _ in spans])
            if left:
                metrics.gaps.inc()
                metrics.missing.inc(left)
                if self._observer:
                    self._observer.gap(batch, outcome.missing, left)
