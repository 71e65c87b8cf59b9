"""Small rows become large ones: a long outage in small commits must fill the disk, not the memory.

Every row has an entry in memory; ten commits a second would leave 864,000 of them in a day.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from edge_agent.buffer.inventory import Inventory, Row
from edge_agent.buffer.shape import ROW_SAMPLES

_SMALL_SAMPLES: Final = 1_000
_MAX_BYTES: Final = 2**20
_FEWEST: Final = 16
"""Rows that are worth a transaction."""


def mergeable(held: Inventory, rows: int) -> list[list[Row]]:
    """Return runs of neighbours among the newest ``rows`` rows that can each become one, oldest first.

    Delivered and undelivered rows don't mix, and what is on its way stays as it is.
    """
    runs: list[list[Row]] = []
    run: list[Row] = []
    samples = size = 0
    for row in islice(held.newest_first(), rows):
        fits = run and _follows(held, row, run[-1])
        if not fits or samples + row.count > ROW_SAMPLES or size + row.size > _MAX_BYTES:
            runs.append(run)
            run, samples, size = [], 0, 0
        if _is_small(held, row):
            run.append(row)
            samples += row.count
            size += row.size
    runs.append(run)
    return [run[::-1] for run in runs if len(run) >= _FEWEST]


def _follows(held: Inventory, row: Row, newer: Row) -> bool:
    return (
        row.stream == newer.stream
        and row.last_seq + 1 == newer.first_seq
        and _is_small(held, row)
        and _is_delivered(held, row) == _is_delivered(held, newer)
    )


def _is_small(held: Inventory, row: Row) -> bool:
    stream = held.streams[row.stream]
    untouched = _is_delivered(held, row) or row.first_seq > max(stream.committed, stream.in_flight)
    return row.count < _SMALL_SAMPLES and untouched


def _is_delivered(held: Inventory, row: Row) -> bool:
    return row.last_seq <= held.streams[row.stream].committed
