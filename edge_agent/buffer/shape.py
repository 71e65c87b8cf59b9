"""What becomes one row of the file: small enough to be read back, and naming only the series that it holds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from shopfloor.block import STATUS_NOT_CONVERTIBLE, Quality, SampleBlock, concat
from shopfloor.wire import DEFAULT_LIMITS

log = logging.getLogger(__name__)

ROW_SAMPLES: Final = 20_000
"""Samples of one row, at most: what a damaged page costs, and what is decoded to send the first of them."""
ROW_TEXT_BYTES: Final = 4 * 2**20
"""UTF-8 bytes of all texts of one row, at most (one text may be longer than its share, never than the wire's)."""
_OWN_ROW_SAMPLES: Final = 2_000
_SPARSE: Final = 4


def gathered(blocks: Sequence[SampleBlock]) -> Iterator[SampleBlock]:
    """Yield what waited together in few blocks; those of one source in order.

    What shares a tuple of series is joined without a look at its names; only small rests become one mixed block.
    """
    shared: dict[int, list[SampleBlock]] = {}
    for block in blocks:
        shared.setdefault(id(block.series), []).append(block)
    rest: list[SampleBlock] = []
    for group in shared.values():
        if sum(map(len, group)) >= _OWN_ROW_SAMPLES:
            yield concat(group)
        else:
            rest += group
    if rest:
        yield concat(rest)


def storable(block: SampleBlock) -> SampleBlock:
    """Return the block with every text that no decoder would take back as null with Quality.BAD.

    Sources refuse such texts themselves; here one would make its whole row unreadable.
    """
    wrong = [row for row, text in block.text.items() if not _fits(text)]
    if not wrong:
        return block
    log.error(
        "%s: a text is not Unicode or too long; kept as bad", block.series[block.series_index[wrong[0]]]
    )
    quality, status = block.quality.copy(), block.status.copy()
    quality[wrong], status[wrong] = Quality.BAD, STATUS_NOT_CONVERTIBLE
    gone = set(wrong)
    return SampleBlock(
        block.series,
        block.series_index,
        block.source_time,
        block.received_time,
        block.value,
        quality,
        status,
        {row: text for row, text in block.text.items() if row not in gone},
    )


def row_blocks(block: SampleBlock) -> Iterator[SampleBlock]:
    """Yield the block in pieces that can each be one row, in order; nothing for an empty one."""
    if not len(block):
        return
    cuts = set(range(0, len(block), ROW_SAMPLES))
    used = 0
    for row in sorted(block.text):
        size = text_bytes(block.text[row])
        if used + size > ROW_TEXT_BYTES and used:
            cuts.add(row)
            used = 0
        used += size
    ends = [*sorted(cuts)[1:], len(block)]
    for first, end in zip(sorted(cuts), ends, strict=True):
        yield named_only(block if end - first == len(block) else block.take(np.arange(first, end)))


def named_only(block: SampleBlock) -> SampleBlock:
    """Return the block without the series that it does not use, where most are not.

    Sources share one tuple of all their series between blocks: ten changed values would carry 10,000 names to disk.
    """
    if len(block.series) <= _SPARSE * len(block):
        return block
    used, index = np.unique(block.series_index, return_inverse=True)
    return SampleBlock(
        tuple(block.series[number] for number in used.tolist()),
        index.astype(np.uint32),
        block.source_time,
        block.received_time,
        block.value,
        block.quality,
        block.status,
        block.text,
    )


def text_bytes(text: str) -> int:
    """Return a bound of the UTF-8 bytes of a text."""
    return len(text) if text.isascii() else 4 * len(text)


def _fits(text: str) -> bool:
    if text_bytes(text) <= DEFAULT_LIMITS.text_bytes and text.isascii():
        return True
    try:
        return len(text.encode()) <= DEFAULT_LIMITS.text_bytes
    except UnicodeEncodeError:
        return False
