"""The demo's proof: what it calls missing, duplicated and wrong."""

from __future__ import annotations

import math

import numpy as np

from shopfloor.asset import parse_asset
from shopfloor.block import Sample, SampleBlock, block_of, make_block
from shopfloor.signal import SeriesKey
from simulators.demo.contact import BAD_NO_COMMUNICATION, GOOD_COMMUNICATION_EVENT
from simulators.demo.verify import compare

TEMPERATURE = SeriesKey(parse_asset("acme/hk01/moulding/cell-a/imm-01"), "barrel.zone_1.temperature")
JOB = SeriesKey(parse_asset("acme/hk01/moulding/cell-a/imm-01"), "job.name")
START = 1_763_778_000_000_000_000


def block(*rows: tuple[SeriesKey, int, float | str]) -> SampleBlock:
    return block_of(
        Sample(key, START + time, 0, math.nan, 0, 0, value)
        if isinstance(value, str)
        else Sample(key, START + time, 0, value, 0, 0)
        for key, time, value in rows
    )


def counts(emitted: SampleBlock, stored: SampleBlock) -> tuple[int, int, int]:
    found = compare(emitted, stored)
    assert found.clean == (found.missing == found.duplicated == found.wrong == 0)
    return found.missing, found.duplicated, found.wrong


def test_the_same_rows_in_any_order_are_clean() -> None:
    emitted = block((TEMPERATURE, 0, 1.0), (JOB, 0, "A"), (TEMPERATURE, 1000, 2.0), (JOB, 1000, "B"))
    stored = block((JOB, 1000, "B"), (TEMPERATURE, 1000, 2.0), (TEMPERATURE, 0, 1.0), (JOB, 0, "A"))
    found = compare(emitted, stored)
    assert found.clean
    assert (found.emitted, found.stored, found.repeated, found.examples) == (4, 4, 0, ())


def test_nothing_emitted_and_nothing_stored_is_clean() -> None:
    assert counts(block(), block()) == (0, 0, 0)


def test_everything_is_missing_from_an_empty_store_and_wrong_without_an_emission() -> None:
    rows = block((TEMPERATURE, 0, 1.0), (JOB, 0, "A"))
    assert counts(rows, block()) == (2, 0, 0)
    assert counts(block(), rows) == (0, 0, 2)


def test_a_missing_value_is_counted_and_named() -> None:
    emitted = block((TEMPERATURE, 0, 1.0), (TEMPERATURE, 1000, 2.5))
    found = compare(emitted, block((TEMPERATURE, 0, 1.0)))
    assert (found.missing, found.duplicated, found.wrong) == (1, 0, 0)
    assert found.examples == (f"missing: {TEMPERATURE} at {START + 1000} ns: 2.5",)


def test_a_row_twice_is_duplicated_once() -> None:
    emitted = block((TEMPERATURE, 0, 1.0), (TEMPERATURE, 1000, 2.0))
    stored = block((TEMPERATURE, 0, 1.0), (TEMPERATURE, 1000, 2.0), (TEMPERATURE, 1000, 2.0))
    assert counts(emitted, stored) == (0, 1, 0)


def test_a_row_three_times_is_duplicated_twice() -> None:
    assert counts(block((JOB, 0, "A")), block((JOB, 0, "A"), (JOB, 0, "A"), (JOB, 0, "A"))) == (0, 2, 0)


def test_another_value_at_its_time_is_wrong_and_the_emission_missing() -> None:
    assert counts(block((TEMPERATURE, 0, 1.0)), block((TEMPERATURE, 0, np.nextafter(1.0, 2.0)))) == (1, 0, 1)


def test_a_time_that_was_never_emitted_is_wrong() -> None:
    emitted = block((TEMPERATURE, 0, 1.0))
    assert counts(emitted, block((TEMPERATURE, 0, 1.0), (TEMPERATURE, 5_000_000, 1.0))) == (0, 0, 1)
    assert counts(emitted, block((TEMPERATURE, 0, 1.0), (TEMPERATURE, -1, 1.0))) == (0, 0, 1)


def test_the_right_value_of_another_series_is_wrong() -> None:
    other = SeriesKey(TEMPERATURE.asset, "barrel.zone_2.temperature")
    assert counts(block((TEMPERATURE, 0, 1.0)), block((other, 0, 1.0))) == (1, 0, 1)


def test_a_repeated_time_moves_by_one_nanosecond_for_each_further_value() -> None:
    emitted = block((TEMPERATURE, 0, 1.0), (TEMPERATURE, 0, 2.0), (TEMPERATURE, 0, 3.0))
    stored = block((TEMPERATURE, 0, 1.0), (TEMPERATURE, 1, 2.0), (TEMPERATURE, 2, 3.0))
    assert counts(emitted, stored) == (0, 0, 0)
    # After a gap the edge may meet the values in another order: each is still stored once.
    shuffled = block((TEMPERATURE, 0, 3.0), (TEMPERATURE, 1, 1.0), (TEMPERATURE, 2, 2.0))
    assert counts(emitted, shuffled) == (0, 0, 0)


def test_a_moved_time_without_a_repetition_is_wrong() -> None:
    assert counts(block((TEMPERATURE, 0, 1.0)), block((TEMPERATURE, 1, 1.0))) == (1, 0, 1)


def test_a_move_further_than_the_repetitions_explain_is_wrong() -> None:
    emitted = block((TEMPERATURE, 0, 1.0), (TEMPERATURE, 0, 2.0))
    assert counts(emitted, block((TEMPERATURE, 0, 1.0), (TEMPERATURE, 2, 2.0))) == (1, 0, 1)


def test_a_second_copy_at_a_moved_time_is_duplicated() -> None:
    emitted = block((TEMPERATURE, 0, 1.0))
    found = compare(emitted, block((TEMPERATURE, 0, 1.0), (TEMPERATURE, 1, 1.0)))
    assert (found.missing, found.duplicated, found.wrong) == (0, 1, 0)
    assert found.examples == (f"duplicated: {TEMPERATURE} at {START + 1} ns: 1.0",)


def test_a_repeated_time_stored_twice_over_is_duplicated() -> None:
    emitted = block((TEMPERATURE, 0, 1.0), (TEMPERATURE, 0, 2.0))
    stored = block((TEMPERATURE, 0, 1.0), (TEMPERATURE, 1, 2.0), (TEMPERATURE, 2, 1.0), (TEMPERATURE, 3, 2.0))
    assert counts(emitted, stored) == (0, 2, 0)


def test_times_one_nanosecond_apart_are_two_emissions() -> None:
    rows = block((TEMPERATURE, 0, 1.0), (TEMPERATURE, 1, 1.0))
    assert counts(rows, rows) == (0, 0, 0)
    assert counts(rows, block((TEMPERATURE, 1, 1.0))) == (1, 0, 0)


def test_a_value_said_twice_at_one_time_is_stored_once() -> None:
    emitted = block((TEMPERATURE, 0, 1.0), (TEMPERATURE, 0, 1.0))
    found = compare(emitted, block((TEMPERATURE, 0, 1.0)))
    assert found.clean
    assert (found.emitted, found.repeated) == (1, 1)


def test_texts_are_compared_as_texts() -> None:
    emitted = block((JOB, 0, "A"), (JOB, 1000, "B"))
    found = compare(emitted, block((JOB, 0, "A"), (JOB, 1000, "b")))
    assert (found.missing, found.duplicated, found.wrong) == (1, 0, 1)
    assert found.examples == (
        f"missing: {JOB} at {START + 1000} ns: 'B'",
        f"wrong: {JOB} at {START + 1000} ns: 'b'",
    )


def test_nulls_equal_each_other_and_nothing_else() -> None:
    null = block((TEMPERATURE, 0, math.nan))
    assert counts(null, null) == (0, 0, 0)
    assert counts(null, block((TEMPERATURE, 0, 0.0))) == (1, 0, 1)
    assert counts(null, block((TEMPERATURE, 0, "nan"))) == (1, 0, 1)


def test_every_nan_is_the_same_null() -> None:
    other_nan = block((TEMPERATURE, 0, np.uint64(0xFFF8_0000_0000_0001).view(np.float64)))
    assert counts(block((TEMPERATURE, 0, math.nan)), other_nan) == (0, 0, 0)


def test_examples_are_few_and_ordered_by_time() -> None:
    emitted = block(*((TEMPERATURE, time * 1000, float(time)) for time in reversed(range(100))))
    found = compare(emitted, block())
    assert found.missing == 100
    assert [line.rsplit(" ", 1)[1] for line in found.first_examples(3)] == ["0.0", "1.0", "2.0"]
    assert len(found.examples) == 100


def test_faults_scattered_over_many_rows_are_all_found() -> None:
    random = np.random.default_rng(7)
    keys = [SeriesKey(TEMPERATURE.asset, f"signal_{number}") for number in range(50)]
    rows = [(keys[number % 50], number // 50 * 1_000_000, float(random.random())) for number in range(20_000)]
    lost, doubled, changed = random.choice(20_000, 30, replace=False).reshape(3, 10)
    kept = [row for number, row in enumerate(rows) if number not in {*lost, *changed}]
    kept += [rows[number] for number in doubled]
    kept += [(rows[number][0], rows[number][1], 2.0) for number in changed]
    stored = block(*kept)
    assert counts(block(*rows), stored.take(random.permutation(len(stored)))) == (20, 10, 10)


def test_what_a_host_writes_about_contact_is_no_difference() -> None:
    said = make_block((TEMPERATURE,), [0, 0, 0], [1_000, 2_000, 3_000], 0, [1.0, 2.0, 3.0])
    stored = make_block(
        (TEMPERATURE,),
        np.zeros(6, np.uint32),
        np.array([1_000, 2_000, 2_500, 2_600, 2_600, 3_000]),
        0,
        np.array([1.0, 2.0, np.nan, 2.0, 9.0, 3.0]),
        0,
        np.array(
            [0, 0, BAD_NO_COMMUNICATION, GOOD_COMMUNICATION_EVENT, 0, GOOD_COMMUNICATION_EVENT], np.uint32
        ),
    )
    comparison = compare(said, stored)
    # The value that stood already and nobody said is left out; a value that nobody said is still wrong.
    assert (comparison.missing, comparison.duplicated, comparison.wrong) == (0, 0, 1)
    assert (comparison.emitted, comparison.stored) == (3, 4)
