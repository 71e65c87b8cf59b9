"""What is known of a move, in the PlantStore that it goes to: which chunks are there, and which were compared."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from ingest_service.moving.source import Chunk
from ingest_service.plant import rollups
from ingest_service.plant.engine import insert_new, insert_or_replace
from ingest_service.plant.server_schema import kept_sample, ledger, move, moved_chunk, stream
from shopfloor.block import Int64, SampleBlock

_MOVE: Final = 1
_ROWS: Final = 2000


class Moved(NamedTuple):
    """A chunk that is there."""

    samples: int
    kept: int
    checksum: str
    is_compared: bool


def finished_at(engine: sa.Engine) -> int | None:
    """Return when the move ended, UTC ns; None where it has not."""
    with engine.connect() as connection:
        return connection.execute(sa.select(move.c.finished_at)).scalar()


def begin(engine: sa.Engine) -> None:
    """Note that a move has begun."""
    with engine.begin() as connection:
        connection.execute(insert_new(engine, move), {"move_id": _MOVE, "begun_at": time.time_ns()})


def is_used(engine: sa.Engine) -> bool:
    """Tell whether agents have been answered from here."""
    with engine.connect() as connection:
        return any(
            connection.execute(sa.select(sa.literal(1)).select_from(table).where(condition).limit(1)).first()
            for table, condition in ((ledger, sa.true()), (stream, stream.c.through > 0))
        )


def load(engine: sa.Engine) -> dict[tuple[int, int], Moved]:
    """Return the chunks that are there, by (day, number)."""
    column = moved_chunk.c
    query = sa.select(
        column.day, column.number, column.samples, column.kept, column.checksum, column.compared_at
    )
    with engine.connect() as connection:
        return {
            (row.day, row.number): Moved(row.samples, row.kept, row.checksum, row.compared_at is not None)
            for row in connection.execute(query)
        }


def note_moved(
    engine: sa.Engine, chunk: Chunk, checksum: str, samples: int, ids: Int64, kept: SampleBlock
) -> None:
    """Note that a chunk is there, and keep the rows that the server can't hold, in place of those of an earlier attempt.

    Args:
        engine: the PlantStore's.
        chunk: which.
        checksum: of all its samples.
        samples: how many they are.
        ids: int64[k], numbers of the kept rows' series.
        kept: k rows.
    """
    stream_id = _stream_of(chunk.day, chunk.number)
    with engine.begin() as connection:
        connection.execute(sa.delete(kept_sample).where(kept_sample.c.stream_id == stream_id))
        rows = _records(stream_id, ids, kept)
        for first in range(0, len(rows), _ROWS):
            connection.execute(sa.insert(kept_sample), rows[first : first + _ROWS])
        record = {
            "day": chunk.day,
            "number": chunk.number,
            "samples": samples,
            "kept": len(rows),
            "checksum": checksum,
            "moved_at": time.time_ns(),
            "compared_at": None,
        }
        connection.execute(insert_or_replace(engine, moved_chunk, ("day", "number"), record), record)


def note_compared(engine: sa.Engine, chunk: Chunk) -> None:
    """Note that a chunk was read back, and is what it was."""
    _update(engine, chunk, compared_at=time.time_ns())


def forget(engine: sa.Engine, chunks: Sequence[tuple[int, int]]) -> None:
    """Take chunks for not moved, and remove what was kept of them."""
    with engine.begin() as connection:
        for day, number in chunks:
            here = (moved_chunk.c.day == day) & (moved_chunk.c.number == number)
            connection.execute(sa.delete(moved_chunk).where(here))
            connection.execute(
                sa.delete(kept_sample).where(kept_sample.c.stream_id == _stream_of(day, number))
            )


def finish(connection: sa.Connection) -> None:
    """Note that the move has ended, in the caller's transaction."""
    # Its samples did not say which hours they lie in.
    rollups.restart(connection)
    connection.execute(sa.update(move).values(finished_at=time.time_ns()))


def _update(engine: sa.Engine, chunk: Chunk, **values: Any) -> None:
    here = (moved_chunk.c.day == chunk.day) & (moved_chunk.c.number == chunk.number)
    with engine.begin() as connection:
        connection.execute(sa.update(moved_chunk).where(here).values(**values))


def _stream_of(day: int, number: int) -> str:
    """Return what stands for a stream where kept rows are told apart: these have none any more."""
    return f"moved {day}/{number}"


def _records(stream_id: str, ids: Int64, block: SampleBlock) -> list[dict[str, Any]]:
    columns = (
        ids, block.source_time, block.received_time, block.value, block.quality, block.status
    )  # fmt: skip
    return [
        {
            "stream_id": stream_id,
            "seq": row + 1,
            "series_id": series_id,
            "source_time": source,
            "received_time": received,
            "value": None if value != value else value,  # noqa: PLR0124 - NaN is null
            "quality": quality,
            "status": status,
            "text": block.text.get(row),
        }
        for row, (series_id, source, received, value, quality, status) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        )
    ]
