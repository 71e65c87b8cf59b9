"""What passed a balancer on its way to several processes, held against their ledger and against the points that are there.

It tells apart what a server makes one of, and knows nothing but bytes on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from shopfloor.signal import SeriesKey
from shopfloor.wire import decode_batch
from tests.faults.balancer import Balancer
from tests.faults.books import Books
from tests.faults.evidence import Held
from tests.faults.holdings import Columns

Point = tuple[str, str, int]
"""Asset, signal, source time."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The samples that a service says it has stored, as they were sent, each number of each stream once."""

    held: Held
    points: frozenset[Point]
    """Theirs: a server keeps one sample of each."""
    amiss: tuple[str, ...]
    """Numbers that were sent with two contents, and ledger rows whose numbers were never sent."""


def taken(
    bodies: Sequence[bytes],
    ledger: Sequence[tuple[str, int, int]],
    aside: Collection[tuple[str, int]],
    position: Callable[[SeriesKey], int],
) -> Taken:
    """Return what the ledger says is stored.

    Args:
        bodies: the batches that passed, in any order and as often as they did.
        ledger: (stream id, first, last seq) of each row.
        aside: (stream id, seq) of what lies in quarantine.
        position: of a series among the machines' series, -1 for another one.
    """
    sent: dict[tuple[str, int], tuple[SeriesKey, int, float, int]] = {}
    amiss: list[str] = []
    for body in bodies:
        batch = decode_batch(body)
        block = batch.block
        keys = [block.series[place] for place in block.series_index.tolist()]
        columns = (block.source_time.tolist(), block.value.tolist(), block.quality.tolist())
        for seq, one in enumerate(zip(keys, *columns, strict=True), batch.first_seq):
            before = sent.setdefault((batch.stream_id, seq), one)
            # NaN differs from itself.
            if repr(before) != repr(one):
                amiss.append(f"{batch.stream_id} {seq} was sent as {before} and as {one}")
    rows = []
    for stream, first, last in ledger:
        for seq in range(first, last + 1):
            found = sent.pop((stream, seq), None)
            if (stream, seq) in aside:
                continue
            if found is None:
                amiss.append(f"{stream} {seq} stands in the ledger again, or was never sent")
            else:
                rows.append(found)
    held = Held(
        np.array([position(row[0]) for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.int64),
    )
    points = frozenset((str(key.asset), key.signal, at) for key, at, _, _ in rows)
    return Taken(held, points, tuple(amiss))


@dataclass(frozen=True, slots=True)
class Balanced:
    """What several processes behind a balancer have to answer for beside every value."""

    sent_twice: int
    """Batches that went to both processes at once."""
    answered_twice: int
    """Those of them that both acknowledged."""
    passed_over: int
    """Requests that one process left without an answer, so that the other one got them."""
    handed_over: int
    """Samples that the ledger says are stored, as they passed the balancer."""
    merged: int
    """How many fewer samples the databases hold: of those with equal series and time a server keeps one."""
    points_missing: int
    """(series, time) of samples handed over that are not in the databases."""
    points_strange: int
    """(series, time) in the databases that nobody handed over."""
    amiss: tuple[str, ...]
    """Numbers with two contents, and ledger rows that cover a number again or one that never passed."""

    def adds_up(self, books: Books) -> bool:
        """Whether ledger, databases and what passed the balancer say the same."""
        return (
            not (self.amiss or self.points_missing or self.points_strange)
            and self.handed_over == books.stored
        )


def balanced(balancer: Balancer, came: Taken, samples: Columns) -> Balanced:
    """Hold what came against what the databases hold."""
    found = set(zip(samples.asset, samples.signal, samples.source_time, strict=True))
    return Balanced(
        balancer.sent_twice,
        balancer.answered_twice,
        balancer.passed_over,
        len(came.held),
        len(came.held) - len(samples.asset),
        len(came.points - found),
        len(found - came.points),
        came.amiss,
    )
