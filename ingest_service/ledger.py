"""What became of every number of a stream: pure functions of what stores, agents and loss records say.

Each number from 1 to the highest one known has one fate and one moment at which the service learned of it; so the sum
over all fates is the number of numbers, and the sums of adjoining spans of time add up to that of the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ingest_service.plant.discards import Discard, Fate
from ingest_service.plant.spans import Loss
from ingest_service.stores import Run, TimeSpan
from shopfloor.messages import SpanKind

ALWAYS: Final = TimeSpan(-(2**63), 2**63 - 1)
NEVER_CAME: Final = "never came"
VANISHED: Final = "waited at the edge, and does not any more"


class Edge(NamedTuple):
    """What the newest heartbeat of a stream's agent says of the stream."""

    said_at: int
    """UTC ns by our clock."""
    pending: tuple[int, int] | None = None
    """First and last number that wait; None where none do."""
    is_complete: bool = False
    """Whether what it does not name is not there: it names streams, and no loss record is on its way."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one stream."""

    stream_id: str
    agent_id: str
    runs: Sequence[Run] = ()
    """The store's ledger, all of it."""
    within: Sequence[Run] = ()
    """The part that was received in the span of time that is asked for."""
    losses: Sequence[Loss] = ()
    discards: Sequence[Discard] = ()
    edge: Edge | None = None
    vanished_through: int = 0
    """Highest number that the agent once said was waiting, and later not any more."""
    vanished_at: int | None = None
    repeated: int = 0


class Gap(NamedTuple):
    """Numbers that nobody has explained."""

    first_seq: int
    last_seq: int
    found_at: int
    """UTC ns."""
    reason: str


@dataclass(slots=True)
class Account:
    """``handed_over = stored + quarantined + dropped + pending + missing``, samples of one stream or of several."""

    handed_over: int = 0
    stored: int = 0
    """In the store, re-admitted ones included."""
    readmitted: int = 0
    """Of the stored ones: those that had lain in quarantine."""
    quarantined: int = 0
    """In quarantine, here or at the edge."""
    quarantined_at_edge: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason."""
    pending: int = 0
    """Still at the edge, as its agent last said."""
    missing: int = 0
    """What none of this explains: 0 unless something is wrong."""
    repeated: int = 0
    """Came again; counted beside."""
    gaps: list[Gap] = field(default_factory=list)

    def add(self, other: Account) -> None:
        """Add the figures of another stream; its gaps stay its own."""
        for name in (
            "handed_over", "stored", "readmitted", "quarantined", "quarantined_at_edge", "pending", "missing", "repeated",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.dropped.update(other.dropped)


Lying = Callable[[int, int], tuple[int, int]]
"""First and last number -> how many of them wait in quarantine, and how many were re-admitted from it."""


def account(facts: Facts, lying: Lying, span: TimeSpan = ALWAYS, now: int | None = None) -> Account:
    """Return what became of the numbers of a stream whose fate was learned of in a span of time.

    Args:
        facts: what is known of the stream.
        lying: looks into the quarantine; asked only for runs of which something was rejected.
        span: UTC ns; what waits at the edge belongs to the present moment.
        now: UTC ns; None for a moment inside every span.
    """
    found = Account(repeated=facts.repeated)
    for run in facts.within:
        found.handed_over += run.last_seq - run.first_seq + 1
        found.stored += run.stored
        if run.rejected:
            _rejected(found, run, facts.discards, lying)
    _outside_runs(found, facts, span, now)
    settled = found.stored + found.quarantined + found.dropped.total() + found.pending
    found.missing = found.handed_over - settled
    return found


def _rejected(found: Account, run: Run, discards: Iterable[Discard], lying: Lying) -> None:
    waiting, readmitted = lying(run.first_seq, run.last_seq)
    found.quarantined += waiting
    left = run.rejected - waiting - readmitted
    for one in discards:
        if one.first_seq > run.last_seq or one.last_seq < run.first_seq:
            continue
        is_inside = run.first_seq <= one.first_seq and one.last_seq <= run.last_seq
        # A batch that was cut in two after a failed attempt may lie in two runs.
        taken = one.samples if is_inside else max(0, min(left, one.samples))
        left -= taken
        if one.fate is Fate.READMITTED:
            readmitted += taken
        elif taken:
            found.dropped[f"quarantine {one.fate}: {one.reason}"] += taken
    found.readmitted += readmitted
    found.stored += readmitted


def _outside_runs(found: Account, facts: Facts, span: TimeSpan, now: int | None) -> None:
    """Count the numbers that never came: holes between the runs, and what lies behind the last one."""

    def counts(at: int | None) -> bool:
        return at is None or span.from_ns <= at < span.to_ns

    losses = sorted(facts.losses)
    expected = 1
    for run in facts.runs:
        for first, last, loss in _pieces(expected, run.first_seq - 1, losses):
            if loss is not None:
                _lost(found, first, last, loss, counts)
            elif counts(run.received_from):
                found.handed_over += last - first + 1
                found.gaps.append(Gap(first, last, run.received_from, NEVER_CAME))
        expected = run.last_seq + 1
    edge = facts.edge or Edge(0)
    known = max(
        [edge.pending[1] if edge.pending else 0, facts.vanished_through, *(one.last_seq for one in losses)]
    )
    # A loss record that is newer than the heartbeat may tell of numbers that this one did not know yet.
    final = edge.is_complete and all(one.recorded_at <= edge.said_at for one in losses)
    vanished = min(known, facts.vanished_through)
    for begin, end, gone_at in (
        # While loss records are on their way, one of them may explain what has vanished.
        (expected, vanished, facts.vanished_at if facts.edge is None or edge.is_complete else None),
        (max(expected, vanished + 1), known, edge.said_at if final else None),
    ):
        for first, last, loss in _pieces(begin, end, losses):
            if loss is not None:
                _lost(found, first, last, loss, counts)
                continue
            for low, high, waits in _split(first, last, edge.pending):
                samples = high - low + 1
                if waits or gone_at is None:
                    found.handed_over += samples if counts(now) else 0
                    found.pending += samples if counts(now) else 0
                elif counts(gone_at):
                    found.handed_over += samples
                    found.gaps.append(Gap(low, high, gone_at, VANISHED))


def _lost(found: Account, first: int, last: int, loss: Loss, counts: Callable[[int], bool]) -> None:
    if not counts(loss.recorded_at):
        return
    samples = last - first + 1
    found.handed_over += samples
    if loss.kind is SpanKind.QUARANTINED:
        found.quarantined += samples
        found.quarantined_at_edge += samples
    else:
        found.dropped[loss.reason] += samples


def _pieces(first: int, last: int, losses: Sequence[Loss]) -> Iterator[tuple[int, int, Loss | None]]:
    """Cut the numbers from ``first`` to ``last`` into those that a loss record explains (the first one that does) and the rest."""
    at = first
    for loss in losses:
        if at > last:
            return
        if loss.last_seq < at or loss.first_seq > last:
            continue
        if loss.first_seq > at:
            yield at, loss.first_seq - 1, None
            at = loss.first_seq
        end = min(last, loss.last_seq)
        yield at, end, loss
        at = end + 1
    if at <= last:
        yield at, last, None


def _split(first: int, last: int, inside: tuple[int, int] | None) -> Iterator[tuple[int, int, bool]]:
    """Cut the numbers from ``first`` to ``last`` into those inside of a range and the others."""
    if inside is None or inside[0] > last or inside[1] < first:
        yield first, last, False
        return
    if inside[0] > first:
        yield first, inside[0] - 1, False
    yield max(first, inside[0]), min(last, inside[1]), True
    if inside[1] < last:
        yield inside[1] + 1, last, False
