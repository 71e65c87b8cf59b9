"""Checksums of samples, and how a day is cut into chunks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ingest_service.moving.checksum import sums_of
from ingest_service.moving.decimals import digits_of, survey
from ingest_service.moving.source import Chunk, _cut, _earliest_first
from ingest_service.stores import TimeSpan
from ingest_service.stores.duckdb_catalog import DAY_NS
from ingest_service.stores.duckdb_rows import Rows
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.signal import SeriesKey

MACHINE = parse_asset("acme/hk01/moulding/cell-a/imm-01")
KEYS = [SeriesKey(MACHINE, name) for name in ("a", "b", "c")]
NAN = float("nan")


def block() -> SampleBlock:
    return make_block(
        (),
        [0, 0, 1, 1],
        [5, 6, -7, 2**62],
        [9, 9, 9, 9],
        [0.0, 1.5, NAN, NAN],
        [0, 1, 2, 0],
        [0, 2**32 - 1, 7, 0],
        {3: ""},
    )


def test_order_means_nothing_and_missing_series_are_zero() -> None:
    whole = sums_of(KEYS, block())
    assert whole.samples.tolist() == [2, 2, 0]
    assert (whole.first[2], whole.second[2]) == (0, 0)
    turned = sums_of(KEYS, block().take(np.array([3, 0, 2, 1])))
    assert len(whole.differing(turned)) == 0
    assert whole.whole() == turned.whole()
    assert len(whole.whole()) == 32
    assert sums_of(KEYS, block().take(np.empty(0, np.int64))).samples.tolist() == [0, 0, 0]


@pytest.mark.parametrize("signed_zeros", [True, False])
@pytest.mark.parametrize(
    ("column", "row", "to", "place"),
    [
        ("source_time", 0, 4, 0),
        ("received_time", 1, 8, 0),
        ("value", 1, np.nextafter(1.5, 2), 0),
        ("value", 2, 0.0, 1),
        ("quality", 3, 1, 1),
        ("status", 2, 6, 1),
        ("series_index", 1, 2, 0),
    ],
)
def test_every_bit_counts(column: str, row: int, to: float, place: int, *, signed_zeros: bool) -> None:
    changed = getattr(block(), column).copy()
    changed[row] = to
    other = replace(block(), **{column: changed})
    before = sums_of(KEYS, block(), signed_zeros=signed_zeros)
    differing = before.differing(sums_of(KEYS, other, signed_zeros=signed_zeros))
    assert place in differing
    assert before.whole() != sums_of(KEYS, other, signed_zeros=signed_zeros).whole()


def test_texts_nulls_and_zeros_are_told_apart() -> None:
    one = sums_of(KEYS, block())
    for text in ({}, {3: "x"}, {2: ""}):
        assert one.differing(sums_of(KEYS, replace(block(), text=text))).tolist() == [1]
    negative = replace(block(), value=np.array([-0.0, 1.5, NAN, NAN]))
    assert one.differing(sums_of(KEYS, negative)).tolist() == [0]
    alike = sums_of(KEYS, block(), signed_zeros=False)
    assert len(alike.differing(sums_of(KEYS, negative, signed_zeros=False))) == 0
    # What is no number has many spellings, and none of them means anything.
    odd_nan = np.array([0, 0, 0x7FF8_0000_0000_0001, 0xFFF8 << 48], np.uint64).view(np.float64)
    odd_nan[:2] = [0.0, 1.5]
    assert len(one.differing(sums_of(KEYS, replace(block(), value=odd_nan)))) == 0
    # The same samples of another series are others.
    other = [SeriesKey(MACHINE, "z"), *KEYS[1:]]
    assert one.differing(sums_of(other, block())).tolist() == [0]


@pytest.mark.parametrize("day", [0, -1, 20_000])
def test_a_day_is_cut_into_series_and_a_long_series_by_seconds(day: int) -> None:
    order = np.array([3, 1, 0, 2, 4], np.uint32)
    chunks = list(_cut(day, order, np.array([40, 0, 60, 1001, 30]), 100))
    whole = TimeSpan(day * DAY_NS, (day + 1) * DAY_NS)
    assert [one[0].tolist() for one in (chunks[0], chunks[-1])] == [[3, 0], [4]]
    assert (chunks[0][1], chunks[-1][1]) == (whole, whole)
    pieces = chunks[1:-1]
    assert {tuple(one[0].tolist()) for one in pieces} == {(2,)}
    assert [one[1].from_ns for one in pieces] == [whole.from_ns, *(one[1].to_ns for one in pieces[:-1])]
    assert pieces[-1][1].to_ns == whole.to_ns
    assert all(one[1].from_ns % 10**9 == 0 for one in pieces)
    assert sum(one[2] for one in chunks) == 40 + 60 + 1001 + 30
    assert list(_cut(day, order, np.zeros(5, np.int64), 100)) == []
    assert [one[0].tolist() for one in _cut(day, order, np.array([5, 5, 5, 5, 5]), 1000)] == [[3, 1, 0, 2, 4]]


def test_of_samples_of_one_time_the_earliest_received_comes_first() -> None:
    def rows(received: list[int]) -> Rows:
        n = len(received)
        ids = np.ones(n, np.uint32)
        time = np.array([1, 2, 2, 2, 3][:n], np.int64)
        return Rows(
            ids, time, np.array(received), np.arange(n) / 2, np.zeros(n, np.uint8), np.zeros(n, np.uint32)
        )

    tied = rows([9, 7, 5, 6, 1])
    order = _earliest_first(tied.series_id, tied)
    assert order is not None
    assert order.tolist() == [0, 2, 3, 1, 4]
    assert _earliest_first(np.array([1, 1], np.uint32), rows([9, 7])) is None


def test_digits_of_numbers() -> None:
    cases = {
        200.37: (2, -2),
        -1500.0: (3, 2),
        0.001: (-3, -3),
        51.18216247902567: (1, -9),
        1e-12: (-12, -12),
        123456789012.0: (11, 0),
        1 / 3: (-1, -11),
    }
    found = digits_of(np.array(list(cases)))
    assert found.counts.all()
    assert not found.misfit.any()
    assert list(zip(found.first.tolist(), found.last.tolist(), strict=True)) == list(cases.values())
    odd = digits_of(np.array([0.0, -0.0, NAN, 2.0**53, 1e11 + 0.5, 1e-13, 1e300, 5e-324]))
    assert odd.counts.tolist() == [False] * 8
    assert odd.misfit.tolist() == [False] * 3 + [True] * 5


class _Read:
    """A source whose only chunk is this block."""

    def __init__(self, block: SampleBlock) -> None:
        self.keys = KEYS
        self.chunk = Chunk(0, 0, np.arange(len(KEYS), dtype=np.uint32), TimeSpan(0, DAY_NS), len(block))
        self._block = block

    def read(self, chunk: Chunk) -> SampleBlock:
        assert chunk is self.chunk
        return self._block


def test_of_a_series_that_spans_too_many_digits_most_numbers_go_to_the_server() -> None:
    values = [200.25, 1e10, 3.0, *[51.18216247002567] * 5, 1e12, 2e12, 0.5, 7.0]
    index = [0, 0, 0, *[1] * 8, 2]
    one = make_block((), index, np.arange(12), np.arange(12), values)
    source: Any = _Read(one)
    looked: list[Chunk] = []
    misfits = survey(source, [source.chunk], looked.append)
    assert looked == [source.chunk]
    assert misfits(one.series_index, one).tolist() == [False] * 8 + [True] * 2 + [False] * 2
    late = replace(one, received_time=np.full(12, 2 * 10**14))
    assert misfits(one.series_index, late).all()
