"""Span records for numbered samples that will not come: how they are made, and how they grow together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from edge_agent.buffer.inventory import Row, Stream
from shopfloor.messages import SpanKind, SpanRecord, new_id

_MAX_REASON = 1_000


def span_of(
    kind: SpanKind, reason: str, stream_id: str, first_seq: int, last_seq: int, times: tuple[int, int]
) -> SpanRecord:
    """Return a record of the samples from ``first_seq`` to ``last_seq``; ``times`` are UTC ns."""
    return SpanRecord(
        record_id=new_id(),
        stream_id=stream_id,
        first_seq=first_seq,
        last_seq=last_seq,
        kind=kind,
        reason=reason[:_MAX_REASON],
        from_time=times[0],
        to_time=times[1],
        count=last_seq - first_seq + 1,
    )


def unknown_loss(reason: str, now_ns: int) -> SpanRecord:
    """Return the record of a loss that can't be counted: "at least none"."""
    return SpanRecord(
        record_id=new_id(),
        stream_id="",
        kind=SpanKind.DROPPED,
        reason=reason[:_MAX_REASON],
        from_time=now_ns,
        to_time=now_ns,
        count=0,
        at_least=True,
    )


def dropped(rows: Sequence[Row], streams: Mapping[int, Stream], reason: str) -> list[SpanRecord]:
    """Return a record for each run of rows whose numbers follow one another, delivered samples left out."""
    runs: list[list[Row]] = []
    for row in rows:
        if runs and runs[-1][-1].stream == row.stream and runs[-1][-1].last_seq + 1 == row.first_seq:
            runs[-1].append(row)
        else:
            runs.append([row])
    records = []
    for run in runs:
        stream = streams[run[0].stream]
        first_seq = max(run[0].first_seq, stream.committed + 1)
        times = (run[0].oldest_time, run[-1].oldest_time)
        records.append(
            span_of(SpanKind.DROPPED, reason, stream.stream_id, first_seq, run[-1].last_seq, times)
        )
    return records


def extended(before: SpanRecord | None, records: list[SpanRecord]) -> list[SpanRecord]:
    """Let the first record continue ``before`` where it can: a full buffer drops all the time."""
    if before is None or not records:
        return records
    first = records[0]
    end = (before.stream_id, before.reason, before.last_seq + 1)
    if end != (first.stream_id, first.reason, first.first_seq):
        return records
    longer = msgspec.structs.replace(
        before, last_seq=first.last_seq, to_time=first.to_time, count=before.count + first.count
    )
    return [longer, *records[1:]]
