"""Every number has one fate, and the sum of all fates is the number of numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.ledger import ALWAYS, Account, Edge, Facts, Gap, account
from ingest_service.plant.discards import Discard, Fate
from ingest_service.plant.spans import Loss
from ingest_service.stores import Run, TimeSpan
from shopfloor.messages import SpanKind


def nothing(_first: int, _last: int) -> tuple[int, int]:
    return 0, 0


def run(first: int, last: int, rejected: int = 0, at: int = 10) -> Run:
    return Run("s", "a", first, last, last - first + 1 - rejected, rejected, at, at)


def facts(*runs: Run, **more: object) -> Facts:
    return replace(Facts("s", "a", runs, runs), **more)  # type: ignore[arg-type]


def settled(found: Account) -> int:
    return found.stored + found.quarantined + found.dropped.total() + found.pending + found.missing


def test_a_stream_that_came_whole() -> None:
    found = account(facts(run(1, 100), repeated=7), nothing)
    assert (found.handed_over, found.stored, found.missing, found.repeated) == (100, 100, 0, 7)
    assert found.gaps == []


def test_a_hole_is_missing_until_a_loss_record_explains_it() -> None:
    runs = (run(1, 10), run(21, 30, at=50))
    found = account(facts(*runs), nothing)
    assert (found.handed_over, found.stored, found.missing) == (30, 20, 10)
    assert found.gaps == [Gap(11, 20, 50, "never came")]
    loss = Loss(11, 18, SpanKind.DROPPED, "buffer full", 40)
    found = account(facts(*runs, losses=[loss]), nothing)
    assert (found.handed_over, found.stored, found.missing, dict(found.dropped)) == (
        30,
        20,
        2,
        {"buffer full": 8},
    )
    assert found.gaps == [Gap(19, 20, 50, "never came")]


def test_what_came_after_all_is_not_lost() -> None:
    loss = Loss(5, 25, SpanKind.DROPPED, "file damaged", 40)
    found = account(facts(run(1, 30), losses=[loss]), nothing)
    assert (found.handed_over, found.stored, found.dropped.total()) == (30, 30, 0)


def test_what_the_edge_set_aside_is_quarantined() -> None:
    loss = Loss(11, 20, SpanKind.QUARANTINED, "no batch", 40)
    found = account(facts(run(1, 10), run(21, 30), losses=[loss]), nothing)
    assert (found.quarantined, found.quarantined_at_edge, found.missing) == (10, 10, 0)


def test_rejected_samples_lie_somewhere_or_are_missing() -> None:
    discards = [
        Discard("s", "a", 1, 40, 3, Fate.FULL, "outside_scope"),
        Discard("s", "a", 1, 40, 2, Fate.PURGED, "anna"),
        Discard("s", "a", 1, 40, 1, Fate.READMITTED, ""),
    ]
    found = account(facts(run(1, 40, rejected=12), discards=discards), lambda _first, _last: (4, 1))
    assert found.handed_over == 40
    assert (found.stored, found.readmitted, found.quarantined) == (30, 2, 4)
    assert dict(found.dropped) == {"quarantine full: outside_scope": 3, "quarantine purged: anna": 2}
    assert found.missing == 1


def test_what_waits_is_pending_and_not_missing() -> None:
    edge = Edge(90, (31, 50), is_complete=True)
    found = account(facts(run(1, 30), edge=edge), nothing)
    assert (found.handed_over, found.pending, found.missing) == (50, 20, 0)
    loss = Loss(31, 35, SpanKind.DROPPED, "buffer full", 80)
    found = account(facts(run(1, 30), edge=edge, losses=[loss]), nothing)
    assert (found.handed_over, found.pending, found.dropped.total(), found.missing) == (50, 15, 5, 0)
    earlier = TimeSpan(0, 85)
    found = account(facts(run(1, 30), edge=edge, losses=[loss]), nothing, earlier, now=100)
    assert (found.handed_over, found.pending, found.dropped.total()) == (35, 0, 5)


def test_what_came_since_the_heartbeat_does_not_wait() -> None:
    found = account(facts(run(1, 40), edge=Edge(90, (31, 50), is_complete=True)), nothing)
    assert (found.handed_over, found.stored, found.pending) == (50, 40, 10)


def test_numbers_behind_the_last_batch_are_missing_only_where_the_agent_says_that_nothing_waits() -> None:
    loss = Loss(41, 50, SpanKind.DROPPED, "buffer full", 80)
    for edge, pending in (
        (Edge(90, None, is_complete=True), 0),
        (Edge(90), 10),
        (Edge(70, None, is_complete=True), 10),
    ):
        found = account(facts(run(1, 30), edge=edge, losses=[loss]), nothing)
        assert (found.handed_over, found.pending, found.missing) == (50, pending, 10 - pending)


def test_what_waited_and_vanished_is_missing() -> None:
    gone = facts(run(1, 30), edge=Edge(95, None, is_complete=True), vanished_through=45, vanished_at=90)
    found = account(gone, nothing)
    assert (found.handed_over, found.missing, found.pending) == (45, 15, 0)
    assert found.gaps == [Gap(31, 45, 90, "waited at the edge, and does not any more")]
    found = account(replace(gone, edge=Edge(95)), nothing)
    assert (found.handed_over, found.missing, found.pending) == (45, 0, 15), "a loss record is on its way"
    assert account(replace(gone, edge=None), nothing).missing == 15
    back = replace(gone, edge=Edge(95, (41, 60), is_complete=True))
    found = account(back, nothing)
    assert (found.handed_over, found.missing, found.pending) == (60, 10, 20)


FATES = ("stored", "waiting", "readmitted", "full", "dropped", "edge", "never")
Steps = list[tuple[str, int]]


class Model:
    """Batches and losses in the order of their numbers; each has a moment of its own."""

    def __init__(self, steps: Steps, pending: int, *, complete: bool) -> None:
        self.fates: list[str] = []
        self.times: list[int] = []
        runs: list[Run] = []
        losses: list[Loss] = []
        discards: list[Discard] = []
        self.lying: dict[int, str] = {}
        for moment, (fate, n) in enumerate(steps):
            first, last, at = len(self.fates) + 1, len(self.fates) + n, 10 * moment
            if fate in {"stored", "waiting", "readmitted", "full"}:
                rejected = 0 if fate == "stored" else n
                runs.append(Run("s", "a", first, last, n - rejected, rejected, at, at))
                if fate == "full":
                    discards.append(Discard("s", "a", first, last, n, Fate.FULL, "r"))
                elif rejected:
                    self.lying.update(dict.fromkeys(range(first, last + 1), fate))
            elif fate != "never":
                kind = SpanKind.QUARANTINED if fate == "edge" else SpanKind.DROPPED
                losses.append(Loss(first, last, kind, "why", at))
            self.fates += [fate] * n
            self.times += [at] * n
        self._holes(runs)
        self.now = 10 * len(steps)
        top = len(self.fates)
        edge = Edge(self.now, (top + 1, top + pending) if pending else None, is_complete=complete)
        self.fates += ["pending"] * pending
        self.times += [self.now] * pending
        self.facts = Facts("s", "a", runs, runs, losses, discards, edge)

    def _holes(self, runs: list[Run]) -> None:
        """What never came is found when the next batch does; behind the last one nobody knows of it."""
        for place, fate in enumerate(self.fates):
            if fate == "never":
                later = [one.received_from for one in runs if one.first_seq > place + 1]
                self.times[place] = later[0] if later else -1

    def account(self, span: TimeSpan = ALWAYS) -> Account:
        within = [one for one in self.facts.runs if span.from_ns <= one.received_from < span.to_ns]

        def lying(first: int, last: int) -> tuple[int, int]:
            found = [self.lying.get(seq) for seq in range(first, last + 1)]
            return found.count("waiting"), found.count("readmitted")

        return account(replace(self.facts, within=within), lying, span, self.now)

    def expected(self, span: TimeSpan = ALWAYS) -> dict[str, int]:
        inside = [
            fate
            for fate, at in zip(self.fates, self.times, strict=True)
            if at == -1 or span.from_ns <= at < span.to_ns
        ]
        return {fate: inside.count(fate) for fate in (*FATES, "pending")}


def holds(found: Account, expected: dict[str, int]) -> None:
    assert settled(found) == found.handed_over
    assert found.stored == expected["stored"] + expected["readmitted"]
    assert found.readmitted == expected["readmitted"]
    assert found.quarantined == expected["waiting"] + expected["edge"]
    assert found.dropped.total() == expected["full"] + expected["dropped"]
    assert found.pending == expected["pending"]
    assert found.missing == expected["never"] == sum(gap.last_seq - gap.first_seq + 1 for gap in found.gaps)


STEPS = st.lists(st.tuples(st.sampled_from(FATES), st.integers(1, 9)), min_size=1, max_size=12)


@given(STEPS, st.integers(0, 9), st.booleans())
def test_any_stream_adds_up(steps: Steps, pending: int, complete: bool) -> None:
    # What never came and has nothing behind it is not known to anybody.
    steps = [*steps, ("stored", 1)]
    model = Model(steps, pending, complete=complete)
    holds(model.account(), model.expected())
    assert model.account().handed_over == len(model.fates)


@given(STEPS, st.integers(0, 9), st.lists(st.integers(-5, 150), max_size=3))
def test_adjoining_spans_of_time_add_up_to_the_whole(steps: Steps, pending: int, cuts: list[int]) -> None:
    model = Model([*steps, ("stored", 1)], pending, complete=True)
    edges = [ALWAYS.from_ns, *sorted(set(cuts)), ALWAYS.to_ns]
    total = Account()
    for begin, end in pairwise(edges):
        span = TimeSpan(begin, end)
        found = model.account(span)
        holds(found, model.expected(span))
        total.add(found)
    whole = model.account()
    whole.gaps.clear()
    assert total == whole


@pytest.mark.parametrize("size", [0, 1])
def test_a_stream_of_which_nothing_is_known(size: int) -> None:
    assert account(Facts("s", "a"), nothing).handed_over == 0
    waiting = facts(edge=Edge(5, (1, size), is_complete=True) if size else None)
    assert account(waiting, nothing).pending == size


def test_the_model_itself_knows_every_fate() -> None:
    steps = [(fate, 2) for fate in FATES]
    model = Model([*steps, ("stored", 1)], 3, complete=True)
    assert [fate for fate, _ in groupby(model.fates)] == [*FATES, "stored", "pending"]
    assert all(model.expected().values())
