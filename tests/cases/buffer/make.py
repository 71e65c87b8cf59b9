"""Writes schema-N.sqlite3: a file of the present schema, for later code to open. Never replace one that is committed.

python -m tests.cases.buffer.make tests/cases/buffer/schema-1.sqlite3
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from edge_agent.buffer import Parcel
from edge_agent.buffer.sqlite import FILE_NAME, BufferLimits, SqliteBuffer
from shopfloor.messages import SpanKind, SpanRecord
from tests.contract.buffer_contract import samples, texts


def make(path: Path) -> None:
    """Write a file with two streams, a delivered part, state, a span record and a checkpoint."""
    if path.exists():
        raise FileExistsError(path)
    gap = SpanRecord(
        record_id="gap-1", stream_id="", kind=SpanKind.SOURCE_GAP, reason="no history", source="press",
        from_time=1, to_time=2, count=0, at_least=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        buffer = SqliteBuffer(
            Path(name), BufferLimits(disk_reserve_bytes=0, repeat_window_samples=100), "agent"
        )
        for time in range(300):
            buffer.append([Parcel(samples([time], series=time % 2))])
        while (batch := buffer.peek(100)) is not None:
            buffer.commit(batch.stream_id, batch.last_seq)
        # Rows beyond the window go, and a checkpoint takes their place.
        buffer._bounds.trim()
        buffer.append([Parcel(samples([1000, 1001, 1002]), "opcua press", {"read_through": b"1002"}, (gap,))])
        batch = buffer.peek(1)
        assert batch is not None
        buffer.commit(batch.stream_id, batch.last_seq)
        buffer.begin_stream()
        buffer.append([Parcel(texts({2000: "Werkzeugwechsel", 2001: "läuft"}))])
        buffer.close()
        path.write_bytes((Path(name) / FILE_NAME).read_bytes())


if __name__ == "__main__":
    make(Path(sys.argv[1]))
