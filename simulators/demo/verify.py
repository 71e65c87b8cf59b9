"""Compares what the machines said with what the store holds, value by value, on whole columns at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from shopfloor.block import Int64, SampleBlock, concat
from shopfloor.signal import SeriesKey

_NULL: Final = 0x7FF8_0000_0000_0000
_FIRST_TEXT: Final = 0x7FF8_0000_0000_0001
_MOVED_LIMIT_NS: Final = 1_000
"""An unexplained row this close behind an emission is taken for a second copy of it, else for an invention."""
_EXAMPLES: Final = 10_000

Tokens: TypeAlias = npt.NDArray[np.uint64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Numbers: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a store differs from what was emitted; all three counts are zero where nothing went wrong."""

    emitted: int
    """Distinct emissions: a machine that repeats a value at the same time said nothing new."""
    repeated: int
    """Emissions that said nothing new; the edge drops them."""
    stored: int
    missing: int
    duplicated: int
    wrong: int
    examples: tuple[str, ...] = ()
    """A line about each difference, at most ten thousand of a kind, ordered by kind and time."""

    def first_examples(self, each: int = 5) -> list[str]:
        """Return the first lines of each kind."""
        kinds = ("missing:", "duplicated:", "wrong:")
        return [
            line
            for kind in kinds
            for line in [line for line in self.examples if line.startswith(kind)][:each]
        ]

    @property
    def clean(self) -> bool:
        """Whether every emission is stored exactly once and nothing else is."""
        return not (self.missing or self.duplicated or self.wrong)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of both sides over one numbering of the series and one coding of the values."""

    series: Int64
    time: Int64
    token: Tokens

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: Mask | Numbers) -> _Rows:
        return _Rows(self.series[rows], self.time[rows], self.token[rows])

    def joined(self, other: _Rows) -> _Rows:
        return _Rows(
            np.concatenate([self.series, other.series]),
            np.concatenate([self.time, other.time]),
            np.concatenate([self.token, other.token]),
        )


def compare(emitted: SampleBlock, stored: SampleBlock) -> Comparison:
    """Compare two blocks of any order; ``source_time`` is exact in nanoseconds, values to the last bit.

    An emission is missing where the store lacks it, a row is duplicated where the store holds an emission once
    more, and wrong where nothing was emitted at its time or another value was. Where a machine gives several
    values for one time, the edge stores the later ones up to as many nanoseconds later: that is no difference.
    Qualities and status codes are not compared.
    """
    joined = concat([emitted, stored])
    tokens, texts = _tokens(joined)
    rows = _Rows(joined.series_index.astype(np.int64), joined.source_time, tokens)
    side = np.arange(len(rows)) < len(emitted)
    said, kept = _distinct(rows.take(side)), rows.take(~side)
    kept, moved = _undo_moves(said, kept)

    # Equal rows of both sides side by side, the emission (there is at most one) before its stored copies.
    both = said.joined(kept)
    order = np.lexsort((both.token, both.time, both.series))
    starts = np.flatnonzero(_starts(both.take(order)))
    sizes = np.diff(np.r_[starts, len(order)])
    said_here = np.repeat(order[starts] < len(said), sizes)
    place = np.arange(len(order)) - np.repeat(starts, sizes)
    is_said = order < len(said)
    missing = order[is_said & (np.repeat(sizes, sizes) == 1)]
    surplus = order[said_here & (place >= 2)] - len(said)
    unknown = order[~said_here] - len(said)

    copies = _copies(said, kept.take(unknown), missing)
    duplicated = np.concatenate([surplus, unknown[copies]])
    wrong = unknown[~copies]
    describe = _Describer(joined.series, texts)
    examples = (
        *describe.lines("missing", said, missing),
        *describe.lines("duplicated", kept, duplicated, moved),
        *describe.lines("wrong", kept, wrong, moved),
    )
    return Comparison(
        emitted=len(said),
        repeated=len(emitted) - len(said),
        stored=len(stored),
        missing=len(missing),
        duplicated=len(duplicated),
        wrong=len(wrong),
        examples=examples,
    )


def _tokens(block: SampleBlock) -> tuple[Tokens, tuple[str, ...]]:
    """Code each value as 64 bits: a number as itself, null as one NaN, each distinct text as another NaN."""
    tokens: Tokens = np.where(np.isnan(block.value), np.uint64(_NULL), block.value.view(np.uint64))
    codes: dict[str, int] = {}
    if block.text:
        for row, text in block.text.items():
            tokens[row] = codes.setdefault(text, _FIRST_TEXT + len(codes))
    return tokens, tuple(codes)


def _distinct(rows: _Rows) -> _Rows:
    """Drop what a machine said twice: same series, same time, same value. The result is sorted."""
    ordered = rows.take(np.lexsort((rows.token, rows.time, rows.series)))
    return ordered.take(_starts(ordered))


def _starts(ordered: _Rows, *, by_token: bool = True) -> Mask:
    """Mark the rows that differ from the one before (in the value as well, unless told otherwise)."""
    marks = np.ones(len(ordered), dtype=np.bool_)
    marks[1:] = np.diff(ordered.series).astype(np.bool_) | np.diff(ordered.time).astype(np.bool_)
    if by_token:
        marks[1:] |= ordered.token[1:] != ordered.token[:-1]
    return marks


def _undo_moves(said: _Rows, kept: _Rows) -> tuple[_Rows, Int64]:
    """Move rows back to the emission's time, where that time was given for several values.

    Returns the rows, and for each of them how many nanoseconds it was moved.
    """
    starts = np.flatnonzero(_starts(said, by_token=False))
    values_at = np.repeat(np.diff(np.r_[starts, len(said)]), np.diff(np.r_[starts, len(said)]))
    found, at = _latest_before(said, kept)
    distance = kept.time[found] - said.time[at]
    moved = np.zeros(len(kept), dtype=np.int64)
    moved[found] = np.where(distance < values_at[at], distance, 0)
    return _Rows(kept.series, kept.time - moved, kept.token), moved


def _latest_before(said: _Rows, kept: _Rows, *, by_token: bool = False) -> tuple[Numbers, Numbers]:
    """Find for each kept row the latest emission of its series (and value) at or before its time.

    Returns the numbers of the kept rows that have one, and the numbers of those emissions.
    """
    both = said.joined(kept)
    is_kept = np.arange(len(both)) >= len(said)
    keys = (is_kept, both.time, both.token, both.series) if by_token else (is_kept, both.time, both.series)
    order = np.lexsort(keys)
    last_said = np.maximum.accumulate(np.where(is_kept[order], -1, np.arange(len(order))))
    here = np.flatnonzero(is_kept[order] & (last_said >= 0))
    rows, emission = order[here] - len(said), order[last_said[here]]
    same = said.series[emission] == kept.series[rows]
    if by_token:
        same &= said.token[emission] == kept.token[rows]
    return rows[same], emission[same]


def _copies(said: _Rows, unknown: _Rows, missing: Numbers) -> Mask:
    """Tell which unexplained rows repeat, a little later, an emission that is stored at its own time as well."""
    copies = np.zeros(len(unknown), dtype=np.bool_)
    rows, emission = _latest_before(said, unknown, by_token=True)
    near = unknown.time[rows] - said.time[emission] <= _MOVED_LIMIT_NS
    copies[rows] = near & ~np.isin(emission, missing)
    return copies


@dataclass(frozen=True, slots=True)
class _Describer:
    series: Sequence[SeriesKey]
    texts: Sequence[str]

    def lines(self, kind: str, rows: _Rows, numbers: Numbers, moved: Int64 | None = None) -> list[str]:
        time = rows.time if moved is None else rows.time + moved
        shown = numbers[np.lexsort((rows.series[numbers], time[numbers]))][:_EXAMPLES]
        return [
            f"{kind}: {self.series[rows.series[row]]} at {time[row]} ns: {self.value(int(rows.token[row]))}"
            for row in shown.tolist()
        ]

    def value(self, token: int) -> str:
        if token == _NULL:
            return "null"
        if 0 <= token - _FIRST_TEXT < len(self.texts):
            return repr(self.texts[token - _FIRST_TEXT])
        return repr(float(np.uint64(token).view(np.float64)))
