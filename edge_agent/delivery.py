"""From the buffer to the ingestion service: one batch in flight a stream, live first, nothing given up.

The live lane sends the current stream. After an outage it would have to send all that piled up before anything
new; so when it is behind, a new stream begins, and the old one drains in the backlog lane at a share of the link.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Never

from edge_agent.backoff import Backoff
from edge_agent.buffer import Buffer
from edge_agent.intake import BufferThread, Intake
from edge_agent.trouble import Trouble
from edge_agent.uplink import BatchTooLarge, NotAuthorised, Uplink
from shopfloor.errors import BatchRefused, StoreUnavailable, UplinkUnavailable
from shopfloor.messages import Batch, Lane, Receipt

log = logging.getLogger(__name__)

_SPANS_AT_ONCE: Final = 500
_BACKLOG_POLL_S: Final = 0.5
_MAX_STREAMS: Final = 16
"""Waiting streams, beyond which the live one is sent in order, however far behind it is."""
_GROWTH_SHARE: Final = 32
"""After a 413 each full batch that is taken lets the next one be larger by this fraction."""
_OVER_AFTER_S: Final = 20.0
"""Longer than a lane waits before it tries again: one lane may work while the other fails."""
_REJECTIONS_OVER_AFTER_S: Final = 60.0
"""Batches with rejected samples and others alternate: after so long without any, they are over."""


@dataclass(slots=True)
class DeliveryReport:
    """What the status page and the metrics say of the uplink."""

    connected: bool = False
    message: str = "nothing sent yet"
    last_receipt_ns: int | None = None
    batches_total: int = 0
    samples_total: int = 0
    rejected_total: int = 0
    refused_total: int = 0
    failures_total: int = 0
    too_large_total: int = 0
    unauthorised: bool = False
    """The alarm: somebody has to look after the token."""
    heartbeat_message: str = ""
    """Why the last heartbeat or declaration failed, which may be while batches are taken; empty if it did not."""
    heartbeat_unauthorised: bool = False
    heartbeat_failures_total: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryLimits:
    """How delivery uses the link."""

    batch_samples: int = 10_000
    linger_s: float = 0.1
    """Pause between live batches that are not full: fewer, larger requests for a little latency."""
    backlog_share: float = 0.5
    retry_first_s: float = 0.25
    retry_limit_s: float = 15.0


@dataclass(slots=True)
class Delivery:
    """Both lanes of one agent."""

    buffer: BufferThread
    intake: Intake
    uplink: Uplink
    limits: DeliveryLimits = field(default_factory=DeliveryLimits)
    report: DeliveryReport = field(default_factory=DeliveryReport)
    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _lane_limit: dict[Lane, int] = field(default_factory=dict)
    _down: Trouble = field(init=False)
    _heartbeats: Trouble = field(init=False)
    _rejections: Trouble = field(init=False)
    _size: Trouble = field(init=False)
    _reading: Trouble = field(init=False)

    def __post_init__(self) -> None:
        self._down, self._heartbeats, self._rejections, self._size, self._reading = (
            Trouble(log, what, now_s=self.now_s)
            for what in ("uplink", "heartbeats", "the service", "request size", "the buffer")
        )

    async def run_live(self) -> Never:
        """Send what is new, and span records before everything else."""
        backoff = Backoff(self.limits.retry_first_s, self.limits.retry_limit_s)
        while True:
            self.intake.arrived.clear()
            sent = await self._attempt(Lane.LIVE, backoff)
            if sent is None:
                continue
            if sent >= self._limit(Lane.LIVE):
                await self._stay_live()
                continue
            if not sent:
                # Woken by new samples; the time-out looks after span records that came without any.
                # (Not wait_for: before Python 3.12 it loses a cancellation that comes with an arrival.)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self.intake.arrived.wait()
                continue
            await self.sleep(self.limits.linger_s)

    async def run_backlog(self) -> Never:
        """Send what an outage or an earlier life of the process left, beside the live lane."""
        backoff = Backoff(self.limits.retry_first_s, self.limits.retry_limit_s)
        while True:
            share = self.limits.backlog_share
            started = self.now_s()
            sent = await self._attempt(Lane.BACKLOG, backoff)
            took_s = self.now_s() - started
            await self.sleep(took_s * (1.0 - share) / share if sent else _BACKLOG_POLL_S)

    async def _attempt(self, lane: Lane, backoff: Backoff) -> int | None:
        """Send one batch of a lane; return its samples, 0 where nothing waits, None after a failure, waited out."""
        try:
            if lane is Lane.LIVE:
                await self._send_spans()
            batch = await self.buffer.call(lambda buffer: buffer.peek(self._limit(lane), lane))
            self._reading.over("can be read again", well_s=_OVER_AFTER_S)
            if batch is None:
                return 0
            settled = await self._deliver(batch, lane)
        except NotAuthorised as error:
            self._failed(str(error), unauthorised=True)
            await self.sleep(backoff.next_s() + (error.retry_after_s or 0.0))
            return None
        except UplinkUnavailable as error:
            self._failed(str(error))
            await self.sleep(max(backoff.next_s(), error.retry_after_s or 0.0))
            return None
        except StoreUnavailable as error:
            self._reading.met(f"can't be read: {error}", level=logging.ERROR)
            await self.sleep(backoff.next_s())
            return None
        if not settled:
            # Received but not durable yet: sent again until it is, at the pace of a failure.
            await self.sleep(backoff.next_s())
            return None
        backoff.reset()
        return len(batch.block)

    async def _send_spans(self) -> None:
        while True:
            spans = await self.buffer.call(lambda buffer: buffer.spans(_SPANS_AT_ONCE))
            if not spans:
                return
            await self.uplink.send_spans(spans)
            sent = [span.record_id for span in spans]
            await self.buffer.call(partial(_commit_spans, record_ids=sent))

    async def _deliver(self, batch: Batch, lane: Lane) -> bool:
        """Send a batch; return whether anything of it is settled, or a smaller one has to be tried at once."""
        samples = len(batch.block)
        try:
            receipt = await self.uplink.send(batch)
        except BatchTooLarge as error:
            if samples > 1:
                self._lane_limit[lane] = max(1, samples // 2)
                self.report.too_large_total += 1
                self._size.met(f"{error}; sending at most {self._lane_limit[lane]} samples at once")
                return True
            await self._quarantine(batch, f"a single sample is too large: {error}")
            return True
        except BatchRefused as error:
            await self._quarantine(batch, str(error))
            return True
        self.connected()
        self.report.last_receipt_ns = time.time_ns()
        self.report.batches_total += 1
        self.report.samples_total += samples
        if receipt.rejected:
            self.report.rejected_total += receipt.rejected
            reasons = {one.reason for one in receipt.rejections}
            self._rejections.met(
                f"quarantined {receipt.rejected} samples: {_named(batch, receipt)}",
                kind=" ".join(sorted(reasons)),
            )
        else:
            self._rejections.over("takes all samples again", well_s=_REJECTIONS_OVER_AFTER_S)
        through = min(receipt.durable_through, batch.last_seq)
        await self.buffer.call(lambda buffer: buffer.commit(batch.stream_id, through))
        if samples >= self._limit(lane):
            # Slowly: doubling would run into the service's limit with every second request.
            grown = samples + max(1, samples // _GROWTH_SHARE)
            self._lane_limit[lane] = min(self.limits.batch_samples, grown)
        return through >= batch.first_seq

    async def _quarantine(self, batch: Batch, reason: str) -> None:
        which = f"batch {batch.stream_id} {batch.first_seq}-{batch.last_seq}"
        self._rejections.met(f"{which} refused: {reason}", kind=reason, level=logging.ERROR)
        self.report.refused_total += 1
        await self.buffer.call(lambda buffer: buffer.quarantine(batch, reason))

    async def _stay_live(self) -> None:
        """Begin a new stream when the live one is far behind: also after a second outage, while the first still drains."""
        stats = await self.buffer.call(lambda buffer: buffer.stats())
        if stats.streams < _MAX_STREAMS and stats.live_samples > 2 * self.limits.batch_samples:
            log.info(
                "%d samples behind: they drain as backlog, new ones are sent at once", stats.live_samples
            )
            await self.buffer.call(lambda buffer: buffer.begin_stream())

    def _limit(self, lane: Lane) -> int:
        return min(self.limits.batch_samples, self._lane_limit.get(lane, self.limits.batch_samples))

    def connected(self) -> None:
        """Note that the service answered as it should."""
        if not self.report.connected and not self._down.times:
            log.info("uplink: connected")
        self._down.over("connected again", well_s=_OVER_AFTER_S)
        self.report.connected, self.report.unauthorised, self.report.message = True, False, ""

    def heartbeat_sent(self) -> None:
        """Note that the service took a heartbeat."""
        self._heartbeats.over("taken again", well_s=_OVER_AFTER_S)
        self.report.heartbeat_message, self.report.heartbeat_unauthorised = "", False

    def heartbeat_failed(self, error: UplinkUnavailable) -> None:
        """Note why the service did not take a heartbeat: without them it reports "no contact"."""
        message = str(error)
        if message != self.report.message:
            # What batches met already is no news.
            self._heartbeats.met(message)
        self.report.heartbeat_failures_total += 1
        self.report.heartbeat_message = message
        self.report.heartbeat_unauthorised = isinstance(error, NotAuthorised)
        if not self.report.connected and not self.report.failures_total:
            self.report.message = message

    def _failed(self, message: str, *, unauthorised: bool = False) -> None:
        self.report.failures_total += 1
        # Both lanes and the span records fail side by side, each in its own words.
        self._down.met(message)
        self.report.connected, self.report.unauthorised, self.report.message = False, unauthorised, message


def _named(batch: Batch, receipt: Receipt) -> str:
    """Name the series of the first rejections."""
    block = batch.block
    rows = [(one, one.seq - batch.first_seq) for one in receipt.rejections[:3]]
    return ", ".join(
        f"{block.series[block.series_index[row]]} ({one.reason})"
        for one, row in rows
        if 0 <= row < len(block)
    )


def _commit_spans(buffer: Buffer, record_ids: list[str]) -> None:
    buffer.commit_spans(record_ids)
