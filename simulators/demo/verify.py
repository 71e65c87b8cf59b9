"""Compares what the machines said with what the store holds, value by value, on whole columns at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from shopfloor.block import Int64, SampleBlock, concat
from shopfloor.signal import SeriesKey
from simulators.demo import untimed as untimed_series
from simulators.demo.contact import without_contact

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
    """How a store differs from what was emitted; the first three counts are zero where nothing went wrong."""

    emitted: int
    """Distinct emissions: a machine that repeats a value at the same time said nothing new."""
    repeated: int
    """Emissions that said nothing new; the edge drops them."""
    stored: int
    missing: int
    duplicated: int
    wrong: int
    reordered: int = 0
    """Values without a machine's time that are stored once, but in another order than they were said in."""
    examples: tuple[str, ...] = ()
    """A line about each difference, at most ten thousand of a kind, ordered by kind and time."""

    def first_examples(self, each: int = 5) -> list[str]:
        """Return the first lines of each kind."""
        kinds = ("missing:", "duplicated:", "wrong:", "reordered:")
        return [
            line
            for kind in kinds
            for line in [line for line in self.examples if line.startswith(kind)][:each]
        ]

    @property
    def clean(self) -> bool:
        """Whether every emission is stored exactly once and nothing else is, be it in another order."""
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

    def joined(self, *others: _Rows) -> _Rows:
        return _Rows(
            np.concatenate([self.series, *(other.series for other in others)]),
            np.concatenate([self.time, *(other.time for other in others)]),
            np.concatenate([self.token, *(other.token for other in others)]),
        )


_NONE: Final = _Rows(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64))


class _Differences(NamedTuple):
    """The rows at fault, each at the time at which it stands on its side."""

    missing: _Rows
    duplicated: _Rows
    wrong: _Rows
    reordered: _Rows


def compare(
    emitted: SampleBlock,
    stored: SampleBlock,
    untimed: Collection[SeriesKey] = (),
    since_ns: int | None = None,
) -> Comparison:
    """Compare two blocks of any order; ``source_time`` is exact in nanoseconds, values to the last bit.

    An emission is missing where the store lacks it, a row is duplicated where the store holds an emission once
    more, and wrong where nothing was emitted at its time or another value was. Where a machine gives several
    values for one time, the edge stores the later ones up to as many nanoseconds later: that is no difference.
    A clock that is put back may be the reason.

    Of series whose messages carry no time, the emissions have the publisher's clock and the rows that of receipt.
    Each value must be stored once, at most `untimed_series.EARLY_NS` before it was published and `LATE_NS` after it;
    equal values of one series are told apart by their order alone. A message that was published twice is two
    emissions. That a value is stored out of order is counted apart: brokers put what they send again behind newer
    messages.

    Qualities and status codes are not compared. What a host writes about contact, and no machine said, is left out:
    see `without_contact`.

    Args:
        emitted: what was said; without a time in the order of publishing, where times are equal.
        stored: what the store holds.
        untimed: the series whose messages carry no time.
        since_ns: rows before this time (UTC ns) are left out, but emissions without a time may explain rows that
            were received after it: give some hours of them.
    """
    stored = without_contact(emitted, stored)
    joined = concat([emitted, stored])
    tokens, texts = _tokens(joined)
    rows = _Rows(joined.series_index.astype(np.int64), joined.source_time, tokens)
    is_said = np.arange(len(rows)) < len(emitted)
    loose = np.isin(rows.series, [number for number, key in enumerate(joined.series) if key in untimed])
    late = np.ones(len(rows), dtype=np.bool_) if since_ns is None else rows.time >= since_ns

    said = _distinct(rows.take(is_said & ~loose & late))
    exact = _compare_timed(said, rows.take(~is_said & ~loose & late))
    loosely = _compare_untimed(rows.take(is_said & loose), rows.take(~is_said & loose & late), since_ns)
    found = _Differences(*(one.joined(other) for one, other in zip(exact, loosely, strict=True)))
    describe = _Describer(joined.series, texts)
    emitted_rows = int((is_said & late).sum())
    repeated = int((is_said & ~loose & late).sum()) - len(said)
    return Comparison(
        emitted=emitted_rows - repeated,
        repeated=repeated,
        stored=int((~is_said & late).sum()),
        missing=len(found.missing),
        duplicated=len(found.duplicated),
        wrong=len(found.wrong),
        reordered=len(found.reordered),
        examples=tuple(
            line for kind, which in found._asdict().items() for line in describe.lines(kind, which)
        ),
    )


def _compare_timed(said: _Rows, stored: _Rows) -> _Differences:
    """Compare by series, time and value; ``said`` is distinct."""
    kept = _undo_moves(said, stored)

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
    return _Differences(
        missing=said.take(missing),
        duplicated=stored.take(np.concatenate([surplus, unknown[copies]])),
        wrong=stored.take(unknown[~copies]),
        reordered=_NONE,
    )


def _compare_untimed(said: _Rows, stored: _Rows, since_ns: int | None) -> _Differences:
    """Compare the order of values, series by series."""
    found = _Differences(_NONE, _NONE, _NONE, _NONE)
    for series in np.unique(np.concatenate([said.series, stored.series])):
        one, other = _in_order(said, series), _in_order(stored, series)
        aligned = untimed_series.align(one.time, one.token, other.time, other.token)
        missing = one.take(aligned.missing)
        if since_ns is not None:
            missing = missing.take(missing.time >= since_ns)
        found = _Differences(
            found.missing.joined(missing),
            found.duplicated.joined(other.take(aligned.duplicated)),
            found.wrong.joined(other.take(aligned.wrong)),
            found.reordered.joined(other.take(aligned.reordered)),
        )
    return found


def _in_order(rows: _Rows, series: np.int64) -> _Rows:
    own = rows.take(rows.series == series)
    return own.take(np.argsort(own.time, kind="stable"))


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


def _undo_moves(said: _Rows, kept: _Rows) -> _Rows:
    """Return the rows moved back to the emission's time, where that time was given for several values."""
    starts = np.flatnonzero(_starts(said, by_token=False))
    values_at = np.repeat(np.diff(np.r_[starts, len(said)]), np.diff(np.r_[starts, len(said)]))
    found, at = _latest_before(said, kept)
    distance = kept.time[found] - said.time[at]
    moved = np.zeros(len(kept), dtype=np.int64)
    moved[found] = np.where(distance < values_at[at], distance, 0)
    return _Rows(kept.series, kept.time - moved, kept.token)


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

    def lines(self, kind: str, rows: _Rows) -> list[str]:
        shown = rows.take(np.lexsort((rows.series, rows.time))[:_EXAMPLES])
        return [
            f"{kind}: {self.series[series]} at {time} ns: {self.value(token)}"
            for series, time, token in zip(
                shown.series.tolist(), shown.time.tolist(), shown.token.tolist(), strict=True
            )
        ]

    def value(self, token: int) -> str:
        if token == _NULL:
            return "null"
        if 0 <= token - _FIRST_TEXT < len(self.texts):
            return repr(self.texts[token - _FIRST_TEXT])
        return repr(float(np.uint64(token).view(np.float64)))
