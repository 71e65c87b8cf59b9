"""The demo's proof for messages without a time: each value once, and in which order."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.asset import parse_asset
from shopfloor.block import Sample, SampleBlock, block_of
from shopfloor.signal import SeriesKey
from simulators.demo.untimed import EARLY_NS, LATE_NS, align
from simulators.demo.verify import Comparison, compare

ASSET = parse_asset("acme/dg01/moulding/cell-b/imm-05")
STATE, TEMPERATURE, TIMED = (SeriesKey(ASSET, name) for name in ("status.state", "t1", "timed"))
START = 1_763_778_000_000_000_000
S = 1_000_000_000


def block(*rows: tuple[SeriesKey, float, float | str]) -> SampleBlock:
    """Rows of (series, seconds after the start, value)."""
    return block_of(
        Sample(key, START + round(time_s * S), 0, math.nan, 0, 0, value)
        if isinstance(value, str)
        else Sample(key, START + round(time_s * S), 0, value, 0, 0)
        for key, time_s, value in rows
    )


def words(text: str, delay_s: float = 0.0) -> SampleBlock:
    """A state a letter, one a second."""
    return block(*((STATE, number + delay_s, letter) for number, letter in enumerate(text)))


def compared(said: str, kept: str, delay_s: float = 0.3) -> Comparison:
    return compare(words(said), words(kept, delay_s), {STATE})


def counts(found: Comparison) -> tuple[int, int, int, int]:
    assert found.clean == (found.missing == found.duplicated == found.wrong == 0)
    return found.missing, found.duplicated, found.wrong, found.reordered


def test_the_time_of_receipt_is_no_difference() -> None:
    for delay_s in (-0.5, 0.0, 0.3, 3600.0):
        found = compared("aabbaab", "aabbaab", delay_s)
        assert counts(found) == (0, 0, 0, 0)
        assert (found.emitted, found.stored, found.repeated) == (7, 7, 0)
        assert found.examples == ()


def test_with_a_time_the_same_rows_are_wrong() -> None:
    found = compare(words("aabb"), words("aabb", 0.3))
    assert (found.missing, found.duplicated, found.wrong) == (4, 0, 4)


def test_one_of_many_equal_values_is_missing() -> None:
    assert counts(compared("aaaaabbbbbaaaaa", "aaaabbbbbaaaaa")) == (1, 0, 0, 0)
    assert counts(compared("aaaaabbbbbaaaaa", "aaaaabbbbaaaaa")) == (1, 0, 0, 0)
    assert counts(compared("abababab", "bababab", 1.3)) == (1, 0, 0, 0)


def test_a_value_twice_is_duplicated_and_a_strange_one_wrong() -> None:
    assert counts(compared("abc", "abbc")) == (0, 1, 0, 0)
    assert counts(compared("abc", "axbc")) == (0, 0, 1, 0)
    assert counts(compared("abc", "axc")) == (1, 0, 1, 0)
    found = compare(words("abc"), words("abbc", 0.5), {STATE})
    assert found.examples == (f"duplicated: {STATE} at {START + 2_500_000_000} ns: 'b'",)


def test_what_was_published_twice_is_two_emissions() -> None:
    twice = block((STATE, 0, "a"), (STATE, 0, "a"), (STATE, 10, "b"))
    both = block((STATE, 0.1, "a"), (STATE, 0.2, "a"), (STATE, 10.1, "b"))
    assert counts(compare(twice, both, {STATE})) == (0, 0, 0, 0)
    assert counts(compare(twice, both.take(np.array([0, 2])), {STATE})) == (1, 0, 0, 0)


def test_an_order_that_differs_is_counted_and_is_no_loss() -> None:
    found = compared("abcdef", "defabc", 10.0)
    assert counts(found) == (0, 0, 0, 3)
    assert len(found.examples) == 3
    assert all(line.startswith("reordered: ") for line in found.first_examples())
    assert counts(compared("abcdef", "acbdef")) == (0, 0, 0, 1)


def test_a_loss_and_a_copy_long_after_it_are_not_taken_for_a_late_arrival() -> None:
    said = block(
        *((STATE, 10 * number, letter) for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz"))
    )
    kept = block(
        *(
            (STATE, 10 * number + 1, letter)
            for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz")
            if number
        ),
        (STATE, 125, "a"),
        (STATE, 135, "a"),
    )
    assert counts(compare(said, kept, {STATE})) == (0, 1, 0, 1)
    assert counts(compare(said, kept.take(np.arange(len(kept)) != 25), {STATE})) == (1, 1, 0, 0)
    # Over an outage, late is measured by when the neighbours came.
    after = block(
        *((STATE, 1000 + number, letter) for number, letter in enumerate("bcdefghijklmnopqrstuvwxyza"))
    )
    assert counts(compare(said, after, {STATE})) == (0, 0, 0, 1)


def test_a_value_received_before_it_was_published_is_not_that_value() -> None:
    early = -EARLY_NS / S - 0.5
    assert counts(compared("abc", "abc", early)) == (3, 0, 3, 0)
    assert counts(compared("abc", "abc", LATE_NS / S + 1.0)) == (3, 0, 3, 0)
    # The first one is lost; the second one is stored in its own time and is not taken for the first.
    said = block((STATE, 0, "a"), (STATE, 8 * 3600, "a"))
    found = compare(said, block((STATE, 8 * 3600 + 1, "a")), {STATE})
    assert found.examples == (f"missing: {STATE} at {START} ns: 'a'",)


def test_everything_is_missing_or_wrong_where_a_side_is_empty() -> None:
    assert counts(compare(words("abc"), block(), {STATE})) == (3, 0, 0, 0)
    assert counts(compare(block(), words("abc"), {STATE})) == (0, 0, 3, 0)
    assert counts(compare(block(), block(), {STATE})) == (0, 0, 0, 0)


def test_nulls_and_numbers_are_values_as_well() -> None:
    said = block((TEMPERATURE, 0, 221.4), (TEMPERATURE, 1, math.nan), (TEMPERATURE, 2, 221.4))
    kept = block((TEMPERATURE, 0.1, 221.4), (TEMPERATURE, 1.1, math.nan), (TEMPERATURE, 2.1, 221.4))
    assert counts(compare(said, kept, {TEMPERATURE})) == (0, 0, 0, 0)
    other = block((TEMPERATURE, 0.1, 221.4), (TEMPERATURE, 1.1, 0.0), (TEMPERATURE, 2.1, 221.4))
    assert counts(compare(said, other, {TEMPERATURE})) == (1, 0, 1, 0)


def test_series_with_and_without_time_are_judged_side_by_side() -> None:
    said = block((TIMED, 0, 1.0), (STATE, 0, "a"), (TEMPERATURE, 0, 5.0), (TIMED, 1, 2.0), (STATE, 1, "b"))
    kept = block(
        (STATE, 0.5, "a"), (TIMED, 0, 1.0), (TEMPERATURE, 0.5, 5.0), (STATE, 1.5, "b"), (TIMED, 1, 2.5)
    )
    found = compare(said, kept, {STATE, TEMPERATURE})
    assert counts(found) == (1, 0, 1, 0)
    assert found.examples == (
        f"missing: {TIMED} at {START + S} ns: 2.0",
        f"wrong: {TIMED} at {START + S} ns: 2.5",
    )
    assert (found.emitted, found.stored) == (5, 5)


def test_what_was_said_before_the_window_may_explain_what_came_within_it() -> None:
    said = block((STATE, -30, "a"), (STATE, -20, "b"), (STATE, 5, "c"), (TIMED, -1, 1.0), (TIMED, 1, 2.0))
    kept = block((STATE, -25, "a"), (STATE, 2, "b"), (STATE, 6, "c"), (TIMED, -1, 7.0), (TIMED, 1, 2.0))
    found = compare(said, kept, {STATE}, since_ns=START)
    assert counts(found) == (0, 0, 0, 0)
    assert (found.emitted, found.stored) == (2, 3)
    assert counts(compare(said, kept.take(np.array([1, 4])), {STATE}, since_ns=START)) == (1, 0, 0, 0)


def test_a_long_run_with_few_faults_is_aligned() -> None:
    random = np.random.default_rng(3)
    letters = np.array(list("aaaaaabbcd"))
    said = "".join(random.choice(letters, 20_000))
    lost, doubled, changed = np.sort(random.choice(20_000, 30, replace=False)).reshape(3, 10)
    kept = [
        (STATE, number + 0.2, "x" if number in changed else letter)
        for number, letter in enumerate(said)
        if number not in lost
    ]
    kept += [(STATE, number + 0.3, said[number]) for number in doubled.tolist()]
    assert counts(compare(words(said), block(*kept), {STATE})) == (20, 10, 10, 0)


def test_sides_too_different_to_be_aligned_are_still_counted() -> None:
    said = "".join("ab" for _ in range(3_000))
    kept = "".join("ba" for _ in range(1_000))
    found = compared(said, kept)
    assert (found.missing, found.duplicated, found.wrong) == (4_000, 0, 0)


def test_a_store_that_is_behind_is_missing_the_rest() -> None:
    said = words("a" * 50_000)
    assert counts(compare(said, words("a" * 30_000, 0.1), {STATE})) == (20_000, 0, 0, 0)


def _longest_common(one: str, other: str) -> int:
    row = [0] * (len(other) + 1)
    for letter in one:
        before = 0
        for at, same in enumerate(other):
            before, row[at + 1] = row[at + 1], before + 1 if letter == same else max(row[at + 1], row[at])
    return row[-1]


@given(st.text("abc", max_size=25), st.text("abcx", max_size=25))
def test_the_alignment_is_the_longest_there_is(said: str, kept: str) -> None:
    def columns(text: str) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(len(text), dtype=np.int64), np.array([ord(each) for each in text], dtype=np.uint64)

    found = align(*columns(said), *columns(kept))
    stored_once = len(said) - len(found.missing)
    shared = sum(min(said.count(each), kept.count(each)) for each in "abc")
    assert stored_once == shared
    assert stored_once - len(found.reordered) == _longest_common(said, kept)
    assert len(kept) == stored_once + len(found.duplicated) + len(found.wrong)
    assert {kept[at] for at in found.duplicated.tolist()} <= set(said)
    assert {kept[at] for at in found.wrong.tolist()}.isdisjoint(said)
