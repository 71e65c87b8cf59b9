"""What one transaction writes: several batches without their repeats and refused rows, as joined columns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import duckdb
import numpy as np
import numpy.typing as npt

from ingest_service.stores import NOTHING_REFUSED, Admitted, Committed, Outcome
from ingest_service.stores.duckdb_rows import Rows
from shopfloor.block import Float64, Int64, UInt8, UInt32
from shopfloor.messages import Batch
from shopfloor.signal import SeriesKey

Scalar = TypeVar("Scalar", bound=np.generic)
Chosen = slice | npt.NDArray[np.int64]


class Plan(NamedTuple):
    """What to do with one batch at a given watermark."""

    batch: Batch
    rows: Chosen
    """The rows to store; a slice where nothing inside is refused, so that nothing is copied."""
    first_seq: int
    """Of what is above the watermark."""
    outcome: Outcome

    @property
    def writes(self) -> bool:
        """Whether there is anything to write: an empty batch and a whole repeat change nothing."""
        return self.first_seq <= self.batch.last_seq


def plan_batch(admitted: Admitted, watermark: int) -> Plan:
    """Decide which rows of a batch are new."""
    batch, refused = admitted
    n = len(batch.block)
    skip = min(n, max(0, watermark + 1 - batch.first_seq))
    first_seq = batch.first_seq + skip
    through = max(watermark, batch.last_seq) if n else watermark
    if skip == n:
        return Plan(batch, slice(n, n), first_seq, Outcome(through, through, 0, skip))
    refused = refused.after(skip) if len(refused) else NOTHING_REFUSED
    rows: Chosen = slice(skip, n)
    if len(refused):
        keep = np.ones(n, np.bool_)
        keep[:skip] = False
        keep[refused.rows] = False
        rows = np.flatnonzero(keep)
    missing = (watermark + 1, first_seq - 1) if first_seq > watermark + 1 else None
    stored = n - skip - len(refused)
    return Plan(batch, rows, first_seq, Outcome(through, through, stored, skip, refused, missing))


class Group:
    """The joined columns of several plans."""

    def __init__(self, plans: list[Plan], numbers_of: Callable[[tuple[SeriesKey, ...]], UInt32]) -> None:
        self._plans = plans
        series_id: list[UInt32] = []
        source: list[Int64] = []
        received: list[Int64] = []
        value: list[Float64] = []
        quality: list[UInt8] = []
        status: list[UInt32] = []
        text: dict[int, str] = {}
        offset = 0
        for plan in plans:
            block, rows = plan.batch.block, plan.rows
            if plan.outcome.stored == 0:
                continue
            index = block.series_index[rows]
            series_id.append(numbers_of(block.series)[index])
            source.append(block.source_time[rows])
            received.append(block.received_time[rows])
            value.append(block.value[rows])
            quality.append(block.quality[rows])
            status.append(block.status[rows])
            if block.text:
                _join_text(text, plan, offset)
            offset += plan.outcome.stored
        self._status = _join(status, np.uint32)
        self.committed = Committed(
            _join(series_id, np.uint32),
            _join(source, np.int64),
            _join(received, np.int64),
            _join(value, np.float64),
            _join(quality, np.uint8),
            text,
        )

    def rows(self) -> Rows:
        """Return what a hot file takes."""
        rows = self.committed
        text = None
        if rows.text:
            text = np.full(len(rows.series_id), None, object)
            text[list(rows.text)] = list(rows.text.values())
        return Rows(
            rows.series_id, rows.source_time, rows.received_time, rows.value, rows.quality, self._status, text
        )

    def insert_ledger(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Insert ledger rows; the transaction is the caller's."""
        now = time.time_ns()
        ledger = {
            "stream_id": np.array([plan.batch.stream_id for plan in self._plans], dtype=object),
            "agent_id": np.array([plan.batch.agent_id for plan in self._plans], dtype=object),
            "first_seq": np.array([plan.first_seq for plan in self._plans], dtype=np.int64),
            "last_seq": np.array([plan.batch.last_seq for plan in self._plans], dtype=np.int64),
            "stored": np.array([plan.outcome.stored for plan in self._plans], dtype=np.int64),
            "rejected": np.array([len(plan.outcome.refused) for plan in self._plans], dtype=np.int64),
            "received_at": np.full(len(self._plans), now, dtype=np.int64),
        }
        connection.execute("INSERT INTO batch SELECT * FROM ledger")
        del ledger


def _join(parts: list[npt.NDArray[Scalar]], dtype: type[Scalar]) -> npt.NDArray[Scalar]:
    if len(parts) == 1:
        return np.ascontiguousarray(parts[0])
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _join_text(text: dict[int, str], plan: Plan, offset: int) -> None:
    rows = plan.rows
    if isinstance(rows, slice):
        text.update(
            {
                offset + row - rows.start: line
                for row, line in plan.batch.block.text.items()
                if row >= rows.start
            }
        )
        return
    for row, line in plan.batch.block.text.items():
        place = int(np.searchsorted(rows, row))
        if place < len(rows) and rows[place] == row:
            text[offset + place] = line
