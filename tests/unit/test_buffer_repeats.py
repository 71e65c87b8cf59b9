"""The repeat index against a plain one: whatever comes twice, out of order or at one time, both say the same."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.buffer.repeats import RepeatIndex
from shopfloor.block import Sample, SampleBlock, block_of, make_block
from tests.contract.buffer_contract import SERIES

Reading = tuple[int, int, float]
"""Series, time, value."""

readings = st.tuples(st.integers(0, 2), st.integers(0, 12), st.sampled_from([1.0, 2.0, 3.0, math.nan]))
blocks = st.lists(st.lists(readings, min_size=1, max_size=12), min_size=1, max_size=8)


def _block(rows: list[Reading]) -> SampleBlock:
    return block_of(Sample(SERIES[series], time, 0, value, 0, 0) for series, time, value in rows)


class PlainIndex:
    """One reading after the other; a time that another value holds is left to it, and the next free one taken."""

    def __init__(self) -> None:
        self.taken: dict[tuple[int, int], str] = {}

    def admit(self, rows: list[Reading]) -> tuple[set[tuple[int, int, str]], int]:
        # Readings whose time nobody disputes are settled before those that have to give way.
        settled = {
            (series, time)
            for series, time, _ in rows
            if (series, time) not in self.taken
            and len({str(v) for s, t, v in rows if (s, t) == (series, time)}) == 1
        }
        admitted, repeats = set(), 0
        held = dict(self.taken)
        for series, time, value in rows:
            place, digest = time, str(value)
            while True:
                owner = held.get((series, place))
                if place != time and (series, place) in settled:
                    place += 1
                elif owner is None:
                    held[series, place] = digest
                    admitted.add((series, place, digest))
                    break
                elif owner == digest:
                    repeats += 1
                    break
                else:
                    place += 1
        self.taken = held
        return admitted, repeats


@given(blocks)
@settings(max_examples=300)
def test_both_admit_the_same_readings_at_the_same_times(history: list[list[Reading]]) -> None:
    index, plain = RepeatIndex(100_000), PlainIndex()
    for rows in history:
        got = index.admit(_block(rows))
        expected, repeats = plain.admit(rows)
        admitted = {(SERIES.index(row.series), row.source_time, str(row.value)) for row in got.block.rows()}
        assert admitted == expected
        assert got.repeats == repeats
        assert len(got.block) + got.repeats == len(rows)


@given(blocks, blocks, blocks)
@settings(max_examples=100)
def test_what_is_undone_leaves_the_index_as_it_was(
    before: list[list[Reading]], refused: list[list[Reading]], after: list[list[Reading]]
) -> None:
    index, other = RepeatIndex(30), RepeatIndex(30)
    for rows in before:
        for each in (index, other):
            each.admit(_block(rows))
            each.settle()
    for rows in refused:
        index.admit(_block(rows))
    index.undo()
    mine, its = index.newest(), other.newest()
    assert mine[0] == its[0]
    assert [each.tolist() for each in mine[1:]] == [each.tolist() for each in its[1:]]
    for rows in after:
        got, expected = index.admit(_block(rows)), other.admit(_block(rows))
        assert [*got.block.rows()] == [*expected.block.rows()] or _has_nan(rows)
        assert got[1:] == expected[1:]
        assert got.block.source_time.tolist() == expected.block.source_time.tolist()
        index.settle()
        other.settle()


def _has_nan(rows: list[Reading]) -> bool:
    return any(math.isnan(value) for *_, value in rows)


def test_a_history_read_again_is_recognised_whole() -> None:
    index = RepeatIndex(200_000)
    count = 50_000
    block = make_block(SERIES, np.arange(count) % 4, np.arange(count), 0, np.arange(count))
    assert index.admit(block).repeats == 0
    again = index.admit(block)
    assert (len(again.block), again.repeats, again.moved) == (0, count, 0)
    shuffled = block.take(np.random.default_rng(1).permutation(count))
    assert index.admit(shuffled).repeats == count


def test_what_lies_beyond_the_window_counts_as_new_except_the_newest() -> None:
    index = RepeatIndex(1_000)
    for time in range(5_000):
        index.admit(_block([(0, time, 1.0)]))
        index.settle()
    index.admit(_block([(1, 7, 1.0)]))
    for time in range(5_000, 7_000):
        index.admit(_block([(0, time, 1.0)]))
        index.settle()
    assert index.admit(_block([(1, 7, 1.0)])).repeats == 1, "the newest of a series is known for ever"
    assert index.admit(_block([(0, 6_600, 1.0)])).repeats == 1
    assert index.admit(_block([(0, 10, 1.0)])).repeats == 0


def test_many_tuples_of_series_do_not_pile_up() -> None:
    index = RepeatIndex(1_000)
    for number in range(30):
        series = tuple(SERIES) * 1  # the same names in another tuple each time
        wide = make_block([*series], [number % 4], [number], 0, [1.0])
        index.admit(wide)
    assert index._lookup_entries == 4 * len(index._lookups)
    assert len(index._ids) == 4
