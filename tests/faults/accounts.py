"""Holds what numbered machines said against what is stored, in quarantine, or recorded as lost: pure functions of columns.

Every number that a machine logged must be stored exactly once, with its value and its time, or lie in quarantine, or in a
recorded loss that the harness's own fault log permits. This module knows no process and no file: it must be able to fail,
and `test_accounts.py` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from shopfloor.block import Int64, Quality
from shopfloor.messages import SpanKind
from tests.faults.evidence import EVER, STRIDE, Held, Ledger, Loss, Permits, Said, Window

Mask = npt.NDArray[np.bool_]
_EXAMPLES: Final = 20
_BAD: Final = int(Quality.BAD)


@dataclass(frozen=True, slots=True)
class Accounts:
    """The verdict."""

    produced: int
    stored: int
    quarantined: int
    dropped_recorded: int
    """Samples that span records say are lost."""
    gaps_recorded: int
    gaps_unexplained: int
    """Recorded gaps without a fault that permits them, and holes in a stream's numbers without a record."""
    missing: int
    duplicated: int
    wrong: int
    permitted: int
    """Numbers that are nowhere, as the fault log permits and a record (not for QoS 0) says."""
    permitted_by: Mapping[str, int] = field(default_factory=dict)
    """The same by reason: ``gap``, ``qos_0``, ``damage``; one may have several."""
    examples: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing is amiss."""
        return not (self.missing or self.duplicated or self.wrong or self.gaps_unexplained)


def account(
    said: Said,
    stored: Held,
    quarantined: Held,
    losses: Sequence[Loss],
    permits: Permits,
    ledger: Ledger | None = None,
    names: Sequence[str] = (),
    sent: Held | None = None,
) -> Accounts:
    """Return the verdict.

    Args:
        said: what the machines logged.
        stored: what the store holds of all series.
        quarantined: what the service's quarantine holds.
        losses: all span records.
        permits: what the fault log permits.
        ledger: what the service took of each stream; None while that can't be read.
        names: of the series, for the examples.
        sent: what the service stored as it was sent, each number of each stream once. It tells what was stored twice where
            the store itself makes one sample of two.
    """
    say = _Examples(said, names)
    keys = said.key
    order = np.argsort(keys)
    sorted_keys = keys[order]
    found, wrong = _identify(said, stored, sorted_keys, order)
    say.rows("wrong", stored, wrong)
    aside, wrong_aside = _identify(said, quarantined, sorted_keys, order)
    say.rows("wrong in quarantine", quarantined, wrong_aside)
    times = np.bincount(found, minlength=len(keys)) + np.bincount(aside, minlength=len(keys))
    more = np.maximum(times - 1, 0)
    if sent is not None:
        came, wrong_sent = _identify(said, sent, sorted_keys, order)
        say.rows("wrong as it was sent", sent, wrong_sent)
        more = np.maximum(more, np.bincount(came, minlength=len(keys)) - 1)
    say.said("duplicated", more > 0)

    holes = ledger.holes if ledger is not None else ()
    gaps = [loss for loss in losses if loss.kind is SpanKind.SOURCE_GAP]
    explained = [_is_explained(gap, permits) for gap in gaps]
    for gap, ok in zip(gaps, explained, strict=True):
        if not ok:
            say.lines.append(
                f"unexplained gap of {gap.source}: {gap.from_time} to {gap.to_time}: {gap.reason}"
            )
    say.lines += [f"unexplained hole in stream {stream}: {first} to {last}" for stream, first, last in holes]
    twice = ledger.twice if ledger is not None else ()
    say.lines += [f"stored twice of stream {stream}: {first} to {last}" for stream, first, last in twice]
    nowhere = times == 0
    permits_by = {
        "gap": _in_gaps(said, [gap for gap, ok in zip(gaps, explained, strict=True) if ok], permits),
        "qos_0": _by_source(said, "lossy") & _within(said.real_time, permits.windows.get("lossy", ())),
        "damage": _in_damage(keys, losses, permits, ledger),
    }
    permitted = nowhere & np.logical_or.reduce(list(permits_by.values()))
    missing = nowhere & ~permitted
    say.said("missing", missing)
    return Accounts(
        produced=len(keys),
        stored=len(np.unique(found)),
        quarantined=len(quarantined),
        dropped_recorded=sum(loss.samples for loss in losses if loss.kind is SpanKind.DROPPED),
        gaps_recorded=len(gaps),
        gaps_unexplained=explained.count(False) + len(holes),
        missing=int(missing.sum()),
        duplicated=int(more.sum()) + sum(last - first + 1 for _, first, last in twice),
        wrong=int(wrong.sum() + wrong_aside.sum()),
        permitted=int(permitted.sum()),
        permitted_by={reason: int((nowhere & mask).sum()) for reason, mask in permits_by.items()},
        examples=tuple(say.lines),
    )


def _identify(said: Said, held: Held, sorted_keys: Int64, order: Int64) -> tuple[Int64, Mask]:
    """Return the positions in ``said`` of the samples that are right, and which samples are wrong.

    A sample without a value says something of a node or a contact, not of a machine: it only must not call itself good.
    """
    whole = np.isfinite(held.value) & (held.value == np.floor(held.value)) & (held.series >= 0)
    known = whole & (held.value > 0) & (held.value < STRIDE)
    key = np.where(known, held.series * STRIDE + np.where(known, held.value, 0).astype(np.int64), -1)
    at = np.minimum(np.searchsorted(sorted_keys, key), max(len(sorted_keys) - 1, 0))
    if not len(sorted_keys):
        return np.empty(0, np.int64), np.isfinite(held.value)
    known &= sorted_keys[at] == key
    position = order[at]
    right = known & (said.source_time[position] == held.source_time) & (held.quality != _BAD)
    marker = np.isnan(held.value) & (held.quality == _BAD)
    return position[right], ~right & ~marker


def _by_source(said: Said, source: str) -> Mask:
    return np.array([each == source for each in said.source_of], np.bool_)[said.series]


def _within(times: Int64, windows: Sequence[Window]) -> Mask:
    mask = np.zeros(len(times), np.bool_)
    for window in windows:
        mask |= (times >= window.begin) & (times <= window.end)
    return mask


def _is_explained(gap: Loss, permits: Permits) -> bool:
    """Tell whether a gap begins where a fault broke the way from a machine that keeps nothing."""
    if gap.source != "plain":
        return False
    windows = permits.windows.get("plain", ())
    if EVER in windows:
        return True
    steps = list(permits.clock_steps) or [(0, 0)]
    for number, (since, ahead_ns) in enumerate(steps):
        until = steps[number + 1][0] + _STEP_SETTLES_NS if number + 1 < len(steps) else 2**62
        real = gap.from_time - ahead_ns
        if since - _STEP_SETTLES_NS <= real <= until and any(
            w.begin - permits.overlap_ns <= real <= w.end for w in windows
        ):
            return True
    return False


_STEP_SETTLES_NS: Final = 5_000_000_000
"""A step shows a second later in the machine, and a gap begins some seconds before what it is about."""


def _in_gaps(said: Said, gaps: Sequence[Loss], permits: Permits) -> Mask:
    """Mark what a gap's record covers by the machine's clock, and the fault log by the true one.

    A clock that was put forth or back while nobody listened has written times that no record can know: so much longer.
    """
    windows = permits.windows.get("plain", ())
    before, unheard_ns = 0, 0
    for since, ahead_ns in permits.clock_steps:
        if any(window.begin <= since <= window.end for window in windows):
            unheard_ns = max(unheard_ns, abs(ahead_ns - before))
        before = ahead_ns
    spans = [Window(gap.from_time - unheard_ns, gap.to_time + unheard_ns) for gap in gaps]
    recorded = _within(said.source_time, spans)
    broken = _within(said.real_time, windows)
    return _by_source(said, "plain") & recorded & broken


def _in_damage(keys: Int64, losses: Sequence[Loss], permits: Permits, ledger: Ledger | None) -> Mask:
    """Mark what was in a damaged buffer and is recorded as lost.

    By its number; or, where a record says that at least something is lost, behind all that came of its stream: what the
    end of a file held can't be known.
    """
    dropped: dict[str, list[tuple[int, int]]] = {}
    for loss in losses:
        if loss.kind is SpanKind.DROPPED and loss.stream_id:
            dropped.setdefault(loss.stream_id, []).append((loss.first_seq, loss.last_seq))
    vague = any(loss.kind is SpanKind.DROPPED and not loss.stream_id and loss.at_least for loss in losses)
    mask = np.zeros(len(keys), np.bool_)
    for damaged in permits.damaged:
        covered = np.zeros(len(damaged.seq), np.bool_)
        for stream in set(damaged.stream_id):
            own = np.array([each == stream for each in damaged.stream_id], np.bool_)
            for first, last in dropped.get(stream, ()):
                covered |= own & (damaged.seq >= first) & (damaged.seq <= last)
            if vague:
                covered |= own & (ledger is None or damaged.seq > ledger.last_seq.get(stream, 0))
        mask |= np.isin(keys, (damaged.series * STRIDE + damaged.number)[covered])
    return mask


def uncovered(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the runs of numbers from 1 to the highest that no (first, last) covers."""
    left: list[tuple[int, int]] = []
    expected = 1
    for first, last in sorted(spans):
        if first > expected:
            left.append((expected, first - 1))
        expected = max(expected, last + 1)
    return left


def overlaps(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the runs of numbers that more than one (first, last) covers."""
    found: list[tuple[int, int]] = []
    through = 0
    for first, last in sorted(spans):
        if first <= through:
            found.append((first, min(last, through)))
        through = max(through, last)
    return found


@dataclass(slots=True)
class _Examples:
    said_: Said
    names: Sequence[str]
    lines: list[str] = field(default_factory=list)

    def _name(self, series: int) -> str:
        if 0 <= series < len(self.names):
            return self.names[series]
        return f"series {series}"

    def said(self, what: str, mask: Mask) -> None:
        rows = np.flatnonzero(mask)
        rows = rows[np.argsort(self.said_.real_time[rows], kind="stable")]
        for row in [*rows[:_EXAMPLES].tolist(), *rows[_EXAMPLES:][-_EXAMPLES:].tolist()]:
            self.lines.append(
                f"{what}: {self._name(int(self.said_.series[row]))} number {self.said_.number[row]}, "
                f"source time {self.said_.source_time[row]}, said at {self.said_.real_time[row]}"
            )

    def rows(self, what: str, held: Held, mask: Mask) -> None:
        self.lines.extend(
            f"{what}: {self._name(int(held.series[row]))} holds {held.value[row]} of quality {held.quality[row]} "
            f"at source time {held.source_time[row]}"
            for row in np.flatnonzero(mask)[:_EXAMPLES].tolist()
        )
