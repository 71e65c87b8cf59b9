"""What one transaction writes: several batches without their repeats and refused rows, as joined columns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import duckdb
import numpy as np
import numpy.typing as npt

from ingest_service.stores import NOTHING_REFUSED, Admitted, Committed, Outcome
from shopfloor.block import Float64, Int64, UInt8, UInt32
from shopfloor.messages import Batch
from shopfloor.signal import SeriesKey

Scalar = TypeVar("Scalar", bound=np.generic)
Rows = slice | npt.NDArray[np.int64]


class Plan(NamedTuple):
    """What to do with one batch at a given watermark."""

    batch: Batch
    rows: Rows
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
    rows: Rows = slice(skip, n)
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

    def insert(self, connection: duckdb.DuckDBPyConnection, table: str) -> None:
        """Insert samples into a hot table and ledger rows; the transaction is the caller's."""
        rows = self.committed
        # DuckDB reads the local dictionaries by their names.
        columns: dict[str, npt.NDArray[Any]] = {
            "series_id": rows.series_id,
            "source_time": rows.source_time,
            "received_time": rows.received_time,
            "value": rows.value,
            "quality": rows.quality,
            "status": self._status,
        }
        if rows.text:
            is_text = np.zeros(len(rows.series_id), np.bool_)
            is_text[list(rows.text)] = True
            texts: dict[str, npt.NDArray[Any]] = {name: column[is_text] for name, column in columns.items()}
            texts["text"] = np.array([rows.text[row] for row in sorted(rows.text)], dtype=object)
            columns = {name: column[~is_text] for name, column in columns.items()}
            connection.execute(f"INSERT INTO {table} SELECT * FROM texts")  # noqa: S608 - a name of ours
            del texts
        if len(columns["series_id"]):
            connection.execute(f"INSERT INTO {table} SELECT *, NULL FROM columns")  # noqa: S608
        del columns
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
