"""Overwrites a page of a buffer file while its agent is dead, and says what lay there undelivered."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from edge_agent.buffer.reading import BufferReader, PendingRow
from edge_agent.buffer.sqlite import FILE_NAME
from shopfloor.signal import SeriesKey
from tests.faults.evidence import Damaged

_NEEDLE = 48


def damage(folder: Path, dice: random.Random, position: Callable[[SeriesKey], int]) -> tuple[Damaged, str]:
    """Overwrite a page that holds samples which are not delivered; nothing happens where none are.

    A page may hold what was delivered as well, and what was on its way: of that it costs the memory of repeats, but for
    the second copy (docs/specs/delivery.md).

    Args:
        folder: the agent's data folder; the agent must not run.
        dice: chooses the page, and whether a part of it or all of it.
        position: of a series among the machines' series, -1 for another one.

    Returns:
        All samples that were undelivered, and a description of what was done.
    """
    path = folder / FILE_NAME
    # What the write-ahead log holds counts before what the file holds: it has to be in the file.
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        page_size = int(database.execute("PRAGMA page_size").fetchone()[0])
    with BufferReader(path) as reader:
        pending = list(reader.pending())
    found = _columns(pending, position)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT b.payload FROM block b JOIN stream s ON s.number = b.stream "
            "WHERE b.first_seq > s.committed ORDER BY b.number"
        ).fetchall()
    data = bytearray(path.read_bytes())
    # The newest half: older rows may share their page with delivered ones.
    places = [data.find(payload[-_NEEDLE:]) for (payload,) in rows[len(rows) // 2 :]]
    places = [place for place in places if place >= page_size]
    if not places:
        return found, "nothing undelivered to damage"
    place = dice.choice(places)
    page = place // page_size
    if dice.random() < 0.5:
        begin, end = page * page_size, (page + 1) * page_size
    else:
        begin, end = place, min(place + _NEEDLE // 2, (page + 1) * page_size)
    data[begin:end] = dice.randbytes(end - begin)
    path.write_bytes(data)
    return found, f"{end - begin} bytes of page {page + 1}; {len(found.seq)} samples undelivered"


def _columns(pending: list[PendingRow], position: Callable[[SeriesKey], int]) -> Damaged:
    streams: list[str] = []
    seqs: list[np.ndarray] = []
    series: list[np.ndarray] = []
    numbers: list[np.ndarray] = []
    for row in pending:
        if row.block is None:
            continue
        value = row.block.value
        good = np.isfinite(value)
        places = np.array([position(key) for key in row.block.series], np.int64)
        streams += [row.stream_id] * int(good.sum())
        seqs.append((row.first_seq + np.arange(row.count))[good])
        series.append(places[row.block.series_index][good])
        numbers.append(value[good].astype(np.int64))
    empty = np.empty(0, np.int64)
    return Damaged(streams, *(np.concatenate([empty, *each]) for each in (seqs, series, numbers)))
