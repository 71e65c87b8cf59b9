"""Who may write what, what is well-formed, what is a repeat. Knows no web framework.

Each sample of a batch that is taken here ends stored, repeated or quarantined with a reason; the quarantine is
durable before the store moves the stream's watermark past it, so that a repeat changes nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from ingest_service.auth import Identity
from ingest_service.metrics import Metrics
from ingest_service.plant.store import PlantStore
from ingest_service.stores import NOTHING_REFUSED, Admitted, Outcome, Refused, SampleStore
from shopfloor.block import SampleBlock
from shopfloor.errors import Permanent, StoreUnavailable
from shopfloor.messages import Batch, Receipt, SpanKind, SpanRecord
from shopfloor.signal import SeriesKey

EARLIEST_NS: Final = 631_152_000_000_000_000
"""1990-01-01: no machine that we read has measured before."""
LATEST_AHEAD_NS: Final = 10 * 366 * 86_400 * 1_000_000_000
"""Further ahead is a broken clock beyond use; less is kept, and the edge marked it UNCERTAIN."""
_REMEMBERED_VERDICTS: Final = 4096

# In the order of precedence: a row has one reason.
OUTSIDE_SCOPE: Final = "outside_scope"
TOO_MANY_SERIES: Final = "too_many_series"
IMPLAUSIBLE_TIME: Final = "implausible_time"
INFINITE: Final = "infinite"
REASONS: Final = (OUTSIDE_SCOPE, TOO_MANY_SERIES, IMPLAUSIBLE_TIME, INFINITE)


class NotYours(Permanent):
    """The token's asset path does not cover the batch's agent or stream."""


class Agents(Protocol):
    """What admission asks about agents."""

    def asset_of(self, agent_id: str) -> str | None:
        """Return the asset that an agent serves, None for an unknown one."""
        ...

    def stream_agent(self, stream_id: str) -> str | None:
        """Return the agent that first wrote a stream."""
        ...


class Verdicts:
    """Which series of a table a token may write, remembered by the table's identity."""

    def __init__(self) -> None:
        self._known: OrderedDict[
            tuple[str, int], tuple[tuple[SeriesKey, ...], npt.NDArray[np.bool_] | None]
        ] = OrderedDict()

    def outside(self, asset: str, series: tuple[SeriesKey, ...]) -> npt.NDArray[np.bool_] | None:
        """Return bool[len(series)], True for a series outside of ``asset``; None where all are inside."""
        place = (asset, id(series))
        known = self._known.get(place)
        if known is not None:
            return known[1]
        inside = asset + "/"
        mask = np.array([key.asset != asset and not key.asset.startswith(inside) for key in series], np.bool_)
        verdict = mask if mask.any() and asset else None
        # The tuple is kept beside the verdict: its identity must not be used again for another one.
        self._known[place] = (series, verdict)
        while len(self._known) > _REMEMBERED_VERDICTS:
            self._known.popitem(last=False)
        return verdict


def examine(
    block: SampleBlock,
    now_ns: int,
    outside: npt.NDArray[np.bool_] | None = None,
    too_many: npt.NDArray[np.bool_] | None = None,
) -> Refused:
    """Return the rows that must not be stored, each with the first reason that applies.

    Args:
        block: what an agent sent.
        now_ns: UTC ns.
        outside: bool[series], True where the token may not write.
        too_many: bool[series], True where the store takes no further series.
    """
    source = block.source_time
    n = len(source)
    if n == 0:
        return NOTHING_REFUSED
    verdict = np.full(n, len(REASONS), np.uint8)
    # Least important first: what comes later overwrites.
    masks = (
        None if not np.isinf(block.value).any() else np.isinf(block.value),
        _implausible(source, now_ns),
        None if too_many is None else too_many[block.series_index],
        None if outside is None else outside[block.series_index],
    )
    found = False
    for number, mask in zip(reversed(range(len(REASONS))), masks, strict=True):
        if mask is not None:
            verdict[mask] = number
            found = True
    if not found:
        return NOTHING_REFUSED
    rows = np.flatnonzero(verdict < len(REASONS))
    return Refused(rows, verdict[rows], REASONS) if len(rows) else NOTHING_REFUSED


def _implausible(source: npt.NDArray[np.int64], now_ns: int) -> npt.NDArray[np.bool_] | None:
    latest = now_ns + LATEST_AHEAD_NS
    if source.min() >= EARLIEST_NS and source.max() <= latest:
        return None
    return (source < EARLIEST_NS) | (source > latest)


def uncovered(missing: tuple[int, int], spans: Iterable[tuple[int, int]]) -> int:
    """Return how many of the numbers from ``missing[0]`` to ``missing[1]`` no span (first, last) covers.

    ``spans`` ascend by their first number; they may overlap.
    """
    at, last = missing
    left = 0
    for first, through in spans:
        if through < at:
            continue
        if first > last:
            break
        left += max(0, first - at)
        at = max(at, through + 1)
    return left + max(0, last - at + 1)


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
    ) -> None:
        self._store = store
        self._plant = plant
        self._agents = agents
        self._metrics = metrics
        self._series_limit = series_limit
        self._series_known = series_known
        self._quarantine_limit = quarantine_limit
        self._clock_ns = clock_ns
        self._verdicts = Verdicts()

    async def admit(self, batch: Batch, identity: Identity) -> Receipt:
        """Make a batch durable and return what the agent may forget.

        Raises:
            NotYours: the token does not reach the batch's agent or stream.
            StoreUnavailable: nothing was acknowledged.
        """
        self._check_owner(batch, identity)
        block = batch.block
        outside = self._verdicts.outside(identity.asset, block.series)
        refused = examine(block, self._clock_ns(), outside, self._too_many(block.series, outside))
        mark = await self._store.watermark(batch.stream_id)
        if len(refused):
            await self._put_aside(batch, refused.after(max(0, mark.received_through + 1 - batch.first_seq)))
        (outcome,) = await self._store.write([Admitted(batch, refused)])
        if isinstance(outcome, StoreUnavailable):
            raise outcome
        await self._count(batch, outcome)
        return Receipt(
            outcome.received_through,
            outcome.durable_through,
            outcome.refused.rejections(batch.first_seq),
            len(outcome.refused),
        )

    def _check_owner(self, batch: Batch, identity: Identity) -> None:
        owners = {batch.agent_id, self._agents.stream_agent(batch.stream_id) or batch.agent_id}
        for owner in owners:
            asset = self._agents.asset_of(owner)
            if asset is not None and not identity.covers(asset):
                raise NotYours(
                    f"the token reaches {identity.asset}; agent {owner} serves {asset}, which is outside of it"
                )

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
            return
        spans = [
            SpanRecord(
                # One id a row run and reason: a repeat of the batch makes the same ones.
                record_id=f"{batch.stream_id[:32]}.{batch.first_seq + int(refused.rows[0])}",
                stream_id=batch.stream_id,
                first_seq=batch.first_seq + int(refused.rows[0]),
                last_seq=batch.first_seq + int(refused.rows[-1]),
                kind=SpanKind.DROPPED,
                reason=f"quarantine full: {', '.join(refused.counts())}",
                from_time=int(batch.block.source_time[refused.rows].min()),
                to_time=int(batch.block.source_time[refused.rows].max()),
                count=len(refused),
            )
        ]
        await self._plant.run(self._plant.put_spans, batch.agent_id, spans)

    async def _count(self, batch: Batch, outcome: Outcome) -> None:
        metrics = self._metrics
        metrics.batches.inc()
        metrics.stored.inc(outcome.stored)
        if outcome.repeated:
            metrics.repeated.inc(outcome.repeated)
        for reason, count in outcome.refused.counts().items():
            metrics.rejected.labels(reason).inc(count)
        if outcome.missing:
            try:
                spans = await self._plant.run(self._plant.spans_of, batch.stream_id)
            except StoreUnavailable:
                spans = []  # the batch is durable: a counter must not make the agent send it again
            left = uncovered(outcome.missing, [(first, last) for first, last, _, _ in spans])
            if left:
                metrics.gaps.inc()
                metrics.missing.inc(left)
