"""The books of what is in the buffer: whenever the agent dies, nothing that it lacks may be called complete."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_agent.sources.opcua.coverage import Coverage, Mark, series_id

SECOND = 1_000_000_000
OVERLAP = 2 * SECOND
BACKFILL = 20 * SECOND
IDS = [series_id("acme/hk01", f"v{number}") for number in range(5)]


def books(state: dict[str, bytes], source: str = "imm", ids: list[str] = IDS) -> Coverage:
    return Coverage(source, ids, state, overlap_ns=OVERLAP, batch=2)


def at(second: float) -> Mark:
    return Mark(round(second * SECOND), round(second * SECOND))


class Memory(dict[str, bytes]):
    """A durable state."""

    def put(self, change: Any) -> Any:
        state = change if isinstance(change, dict) else change.state
        for key, value in state.items():
            if value:
                self[key] = value
            else:
                self.pop(key, None)
        return change


def spans(coverage: Coverage) -> list[tuple[tuple[int, ...], float, float]]:
    return sorted((hole.nodes, hole.start / SECOND, hole.end / SECOND) for hole in coverage.holes.values())


def test_a_first_start_reads_back_as_far_as_configured() -> None:
    coverage = books({})
    change = coverage.join("live", range(3), at(100), readable={0, 1, 2}, backfill_ns=BACKFILL)
    assert spans(coverage) == [((0, 1), 80, 102), ((2,), 80, 102)]
    assert change.lost == ()


def test_without_a_history_a_first_start_loses_nothing_and_an_interruption_does() -> None:
    memory = Memory()
    coverage = books(memory)
    first = memory.put(coverage.join("live", [0], at(100), readable=set(), backfill_ns=BACKFILL))
    assert first.lost == ()
    memory.put(coverage.advance("live", at(150)))
    again = books(memory).join("live", [0], at(160), readable=set(), backfill_ns=BACKFILL)
    assert [(span.nodes, span.start, span.end) for span in again.lost] == [((0,), 148 * SECOND, 160 * SECOND)]


def test_an_interruption_is_a_hole_from_the_live_mark() -> None:
    memory = Memory()
    coverage = books(memory)
    memory.put(coverage.join("live", [0], at(100), readable={0}, backfill_ns=0))
    for hole in list(coverage.holes.values()):
        memory.put(coverage.progress(hole, hole.end))
    memory.put(coverage.advance("live", at(150)))
    again = books(memory)
    memory.put(again.join("live", [0], at(160), readable={0}, backfill_ns=BACKFILL))
    assert spans(again) == [((0,), 148, 162)]
    assert spans(books(memory)) == [((0,), 148, 162)]


def test_a_half_filled_hole_goes_on_where_it_was() -> None:
    memory = Memory()
    coverage = books(memory)
    memory.put(coverage.join("live", [0], at(100), readable={0}, backfill_ns=BACKFILL))
    [hole] = coverage.holes.values()
    memory.put(coverage.progress(hole, 90 * SECOND))
    assert spans(books(memory)) == [((0,), 90, 102)]


def test_a_server_whose_clock_was_set_back_is_read_from_before() -> None:
    memory = Memory()
    coverage = books(memory)
    memory.put(coverage.join("live", [0], Mark(100 * SECOND, 100 * SECOND), readable={0}, backfill_ns=0))
    memory.put(coverage.advance("live", Mark(1000 * SECOND, 1000 * SECOND)))
    again = books(memory)
    # Ten seconds later by the agent's clock, the server's says 950.
    again.join("live", [0], Mark(950 * SECOND, 1010 * SECOND), readable={0}, backfill_ns=0)
    assert min(hole.start for hole in again.holes.values()) <= 938 * SECOND
    # What it wrote between the interruption and the step lies ahead of its present time.
    assert max(hole.end for hole in again.holes.values()) >= 1012 * SECOND


def test_a_gap_in_which_a_clock_was_set_back_covers_both_of_its_times() -> None:
    memory = Memory()
    coverage = books(memory)
    memory.put(coverage.join("live", [0], at(1000), readable=set(), backfill_ns=0))
    [lost] = (
        books(memory).join("live", [0], Mark(950 * SECOND, 1010 * SECOND), readable=set(), backfill_ns=0).lost
    )
    assert (lost.start, lost.end) == (938 * SECOND, 1010 * SECOND)


def test_an_overflow_while_the_clock_was_set_back_is_a_hole_over_both_times() -> None:
    coverage = books({})
    coverage.join("live", [0, 1], at(1000), readable={0}, backfill_ns=0)
    for hole in list(coverage.holes.values()):
        coverage.forget(hole)
    change = coverage.interrupted("live", [0, 1], 980 * SECOND, readable={0})
    assert spans(coverage) == [((0,), 978, 1002)]
    assert [(span.nodes, span.start, span.end) for span in change.lost] == [
        ((1,), 980 * SECOND, 1000 * SECOND)
    ]


def test_an_agent_whose_clock_was_set_forward_waits_for_an_hour_of_the_servers_time_at_most() -> None:
    memory = Memory()
    coverage = books(memory)
    memory.put(coverage.join("live", [0], at(1000), readable={0}, backfill_ns=0))
    again = books(memory)
    again.join("live", [0], Mark(1010 * SECOND, 10**6 * SECOND), readable={0}, backfill_ns=0)
    assert max(hole.end for hole in again.holes.values()) <= (1000 + 3600) * SECOND + OVERLAP


def test_a_renamed_source_goes_on_and_a_new_node_is_backfilled() -> None:
    memory = Memory()
    coverage = books(memory, "old", IDS[:1])
    memory.put(coverage.join("live", [0], at(100), readable={0}, backfill_ns=BACKFILL))
    memory.put(coverage.advance("live", at(150)))
    renamed = books(memory, "new", IDS[:2])
    memory.put(renamed.join("live", [0, 1], at(160), readable={0, 1}, backfill_ns=BACKFILL))
    assert spans(renamed) == [((0,), 80, 102), ((0,), 148, 162), ((1,), 140, 162)]
    assert spans(books(memory, "new", IDS[:2])) == spans(renamed)


def test_two_sources_of_one_server_do_not_disturb_each_other() -> None:
    memory = Memory()
    first, second = books(memory, "a", IDS[:1]), books(memory, "b", IDS[1:2])
    memory.put(first.join("live", [0], at(100), readable={0}, backfill_ns=0))
    memory.put(second.join("live", [0], at(100), readable={0}, backfill_ns=0))
    memory.put(second.advance("live", at(500)))
    mark = books(memory, "a", IDS[:1]).covered_to(0)
    assert mark == at(100)


def test_a_node_that_is_gone_keeps_its_mark() -> None:
    memory = Memory()
    coverage = books(memory)
    memory.put(coverage.join("live", [0, 1], at(100), readable={0, 1}, backfill_ns=0))
    memory.put(coverage.advance("live", at(150)))
    memory.put(coverage.leave([1]))
    memory.put(coverage.advance("live", at(300)))
    again = books(memory)
    assert (again.covered_to(0), again.covered_to(1)) == (at(300), at(150))


class Crashes(RuleBasedStateMachine):
    """An agent that dies at any moment, on a server where something changes every second.

    ``stored`` is what the buffer has, second by second and node by node; it changes only together with the state.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 100
        self.began = 100 - BACKFILL // SECOND
        self.memory = Memory()
        self.stored: list[set[int]] = [set() for _ in IDS]
        self.seen: set[int] = set()
        self.connect(set(range(len(IDS))))

    def connect(self, working: set[int]) -> None:
        self.coverage = books(self.memory)
        self.working = working
        self.live_from = self.now
        self.last_live = self.now
        if working:
            self.memory.put(
                self.coverage.join(
                    "live", sorted(working), at(self.now), readable=working, backfill_ns=BACKFILL
                )
            )
            self.seen |= working

    @rule(seconds=st.integers(1, 30))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def live_data_arrives(self) -> None:
        self.memory.put(self.coverage.advance("live", at(self.now)))
        for node in self.working:
            self.stored[node].update(range(self.last_live, self.now + 1))
        self.last_live = self.now

    @rule(share=st.floats(0, 1), pick=st.randoms(use_true_random=False))
    def history_is_read(self, share: float, pick: Any) -> None:
        holes = [hole for hole in self.coverage.holes.values() if set(hole.nodes) <= self.working]
        if holes:
            hole = pick.choice(sorted(holes, key=lambda hole: hole.number))
            upto = min(round(hole.start + share * (hole.end - hole.start)), self.now * SECOND)
            for node in hole.nodes:
                self.stored[node].update(range(-(-hole.start // SECOND), upto // SECOND + 1))
            self.memory.put(self.coverage.progress(hole, upto))

    @rule(working=st.sets(st.integers(0, len(IDS) - 1)))
    def dies_and_returns(self, working: set[int]) -> None:
        self.connect(working)

    @precondition(lambda self: len(self.working) > 1)
    @rule()
    def a_node_disappears(self) -> None:
        node = min(self.working)
        self.live_data_arrives()
        self.memory.put(self.coverage.leave([node]))
        self.working.discard(node)

    @rule(node=st.integers(0, len(IDS) - 1))
    def a_node_appears(self, node: int) -> None:
        if node not in self.working and self.working:
            self.live_data_arrives()
            self.memory.put(
                self.coverage.join("live", [node], at(self.now), readable={node}, backfill_ns=BACKFILL)
            )
            self.working.add(node)
            self.seen.add(node)

    @invariant()
    def what_is_called_complete_is_stored(self) -> None:
        found = books(self.memory)
        for node in self.seen:
            mark = found.covered_to(node)
            assert mark is not None
            holes = [hole for hole in found.holes.values() if node in hole.nodes]
            first = min((hole.start for hole in holes), default=mark.server)
            for second in range(-(-first // SECOND), mark.server // SECOND):
                excused = any(hole.start <= second * SECOND <= hole.end for hole in holes)
                assert excused or second in self.stored[node], (node, second)


Crashes.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCrashes = Crashes.TestCase
