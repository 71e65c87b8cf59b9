"""Readings that wait for what follows them, as the buffer keeps them: pages of series, rewritten where they change."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from edge_agent.processing.records import Records
from edge_agent.processing.step import NOTHING
from shopfloor.asset import parse_asset
from shopfloor.block import Int64, SampleBlock, make_block
from shopfloor.errors import InvalidName
from shopfloor.signal import SeriesKey, parse_signal

_log = logging.getLogger(__name__)

PREFIX: Final = "processing."
"""What the keys of this stage begin with, in the state of the source whose readings they are."""
PAGE: Final = 32
"""Series of a page: a lone change writes a kilobyte, not all that is held."""
_SERIES: Final = PREFIX + "series."
_HELD: Final = PREFIX + "held."
_RECORD: Final = np.dtype(
    [("slot", "u1"), ("time", "<i8"), ("received", "<i8"), ("value", "<f8"), ("status", "<u4")]
)


def held_pages(memory: Records, pages: Int64) -> dict[str, bytes]:
    """Return state to save: what is held of pages' series; empty where nothing is.

    Args:
        memory: MEMORY[n] of all series.
        pages: int64, ascending.
    """
    held = memory["held"]
    numbers = np.flatnonzero(held)
    numbers = numbers[np.isin(numbers // PAGE, pages)]
    rows = np.empty(len(numbers), dtype=_RECORD)
    rows["slot"] = numbers % PAGE
    for name in ("time", "received", "value", "status"):
        rows[name] = memory[f"seen_{name}"][numbers]
    content, size = rows.tobytes(), _RECORD.itemsize
    starts = (np.searchsorted(numbers, pages * PAGE) * size).tolist()
    ends = (np.searchsorted(numbers, (pages + 1) * PAGE) * size).tolist()
    return {
        f"{_HELD}{page}": content[start:end]
        for page, start, end in zip(pages.tolist(), starts, ends, strict=True)
    }


def series_key(page: int) -> str:
    """Return the key of the names that belong to a page."""
    return f"{_SERIES}{page}"


def series_names(series: Sequence[SeriesKey]) -> bytes:
    """Return the names of a page's series."""
    return "\n".join(f"{key.asset}\t{key.signal}" for key in series).encode()


def restore(saved: Mapping[str, bytes]) -> SampleBlock:
    """Return the samples that an earlier life of the process held; what can't be read is named and left out."""
    keys: list[SeriesKey] = []
    found: list[np.ndarray[tuple[int], np.dtype[np.void]]] = []
    for name, content in saved.items():
        if not name.startswith(_HELD):
            continue
        try:
            page = np.frombuffer(content, dtype=_RECORD)
            lines = saved[_SERIES + name.removeprefix(_HELD)].decode().split("\n")
            for slot in page["slot"].tolist():
                asset, _, signal = lines[slot].partition("\t")
                keys.append(SeriesKey(parse_asset(asset), parse_signal(signal)))
            found.append(page)
        except (ValueError, LookupError, InvalidName) as error:
            del keys[sum(map(len, found)) :]
            _log.error("readings that waited can't be read again: %s: %s", name, error)
    if not found:
        return NOTHING
    rows = np.concatenate(found)
    positions = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return make_block(
        tuple(positions),
        [positions[key] for key in keys],
        rows["time"],
        rows["received"],
        rows["value"],
        status=rows["status"],
    )
