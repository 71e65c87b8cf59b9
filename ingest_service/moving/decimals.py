"""Which numbers VictoriaMetrics gives back bit by bit, so that the others can lie in the PlantStore.

It stores the numbers of a block as decimals with one exponent for all (lib/decimal), in 64 bits: those of a series whose
digits lie too far apart lose the last ones. `victoriametrics_lines.split` hands it eleven digits of a number, and the rest apart.
Whoever writes live can't know what a series will say; here all of it is known before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ingest_service.moving.source import Chunk, EmbeddedSource
from shopfloor.block import Float64, SampleBlock, UInt32

Bools: TypeAlias = npt.NDArray[np.bool_]
Places: TypeAlias = npt.NDArray[np.int64]
Misfits: TypeAlias = Callable[[UInt32, SampleBlock], Bools]
"""Series (as the source counts them) and rows -> bool[n]: rows that would not come back as they are."""

SPAN: Final = 17
"""The first and the last digit of a series are at most so many places apart: 18 digits fit into 64 bits."""
_DIGITS: Final = 11
_LEAST: Final = 1e-12
_SPLIT_BELOW: Final = 1e11
_WHOLE_BELOW: Final = 1e14
"""Whole numbers of up to 14 digits come back; of 15 and more not all do (1.79.5)."""
_DELAY_BELOW_NS: Final = 10**14
_LOWEST: Final = -24
_HIGHEST: Final = 16


class Digits(NamedTuple):
    """Of ``n`` numbers the powers of ten of their first and last decimal digit."""

    first: Places
    last: Places
    counts: Bools
    """False for 0, for what is no number, and for misfits: these have no digits."""
    misfit: Bools
    """True for numbers that don't come back whatever stands beside them."""


def digits_of(value: Float64) -> Digits:
    """Return where the digits of numbers lie, as far as they are handed to the server in one piece."""
    size = np.abs(np.where(np.isfinite(value), value, 0.0))
    whole = (size < _WHOLE_BELOW) & (size == np.floor(size))
    counts = (size > 0) & (whole | ((size >= _LEAST) & (size < _SPLIT_BELOW)))
    sized = np.where(counts, size, 1.0)
    first = np.floor(np.log10(sized)).astype(np.int64)
    last = np.where(whole, 0, first - (_DIGITS - 1))
    mantissa = np.where(whole, sized, np.rint(sized * 10.0 ** np.clip(-last, 0, 22))).astype(np.int64)
    while (round_ := mantissa % 10 == 0).any():
        mantissa = np.where(round_, mantissa // 10, mantissa)
        last = last + round_
    return Digits(first, last, counts, (size > 0) & ~counts)


def survey(source: EmbeddedSource, chunks: Sequence[Chunk], look: Callable[[Chunk], None]) -> Misfits:
    """Read everything once, and return what tells the misfits; ``look`` is told of every chunk."""
    first = np.full(len(source.keys), _LOWEST, np.int64)
    last = np.full(len(source.keys), _HIGHEST, np.int64)
    for chunk in chunks:
        look(chunk)
        block = source.read(chunk)
        digits = digits_of(block.value)
        places = chunk.places[block.series_index][digits.counts]
        np.maximum.at(first, places, digits.first[digits.counts])
        np.minimum.at(last, places, digits.last[digits.counts])
    wide = first - last > SPAN
    top = first
    if wide.any():
        top = _best_tops(source, [one for one in chunks if wide[one.places].any()], wide)

    def misfits(places: UInt32, block: SampleBlock) -> Bools:
        digits = digits_of(block.value)
        outside = (digits.first > top[places]) | (digits.last < top[places] - SPAN)
        with np.errstate(over="ignore"):
            delay = np.abs(block.received_time.astype(np.float64) - block.source_time)
        return digits.misfit | (digits.counts & wide[places] & outside) | (delay > _DELAY_BELOW_NS)

    return misfits


def _best_tops(source: EmbeddedSource, chunks: Sequence[Chunk], wide: Bools) -> Places:
    """Return for each wide series the power of ten at which to begin, so that most of its numbers fit."""
    numbers = np.full(len(wide), -1, np.int64)
    numbers[wide] = np.arange(np.count_nonzero(wide))
    powers = _HIGHEST - _LOWEST
    seen = np.zeros((np.count_nonzero(wide), powers, powers), np.int64)
    for chunk in chunks:
        block = source.read(chunk)
        digits = digits_of(block.value)
        number = numbers[chunk.places[block.series_index]]
        rows = np.flatnonzero(digits.counts & (number >= 0))
        np.add.at(seen, (number[rows], digits.first[rows] - _LOWEST, digits.last[rows] - _LOWEST), 1)
    fitting = np.stack(
        [seen[:, : top + 1, max(0, top - SPAN) :].sum(axis=(1, 2)) for top in range(powers)], axis=1
    )
    tops = np.full(len(wide), _HIGHEST, np.int64)
    tops[wide] = np.argmax(fitting, axis=1) + _LOWEST
    return tops
