"""Values and times as files hold them come back as the very same bits."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.stores import duckdb_part_index, duckdb_part_reader
from ingest_service.stores.buckets import run_starts
from ingest_service.stores.duckdb_part import POWERS, PartWriter, scales_of, slices_of, units_of
from ingest_service.stores.duckdb_part_reader import PartReader
from ingest_service.stores.duckdb_rows import Rows, order_of, repeats_in
from ingest_service.stores.labels import Labels
from ingest_service.stores.shapes import TimeSpan
from shopfloor.asset import parse_asset
from shopfloor.signal import SeriesKey

KEYS = [SeriesKey(parse_asset(f"acme/hk01/a/b/m-{number}"), "x") for number in range(5)]
VALUES = st.one_of(
    st.just(float("nan")),
    st.sampled_from([-0.0, 0.0, 0.1, 1e-7, 2.0**53, 1e300, -5e-324, 123.456]),
    st.integers(-1000, 1000).map(lambda number: number / 10),
    st.floats(allow_nan=False, allow_infinity=False),
)
TIMES = st.one_of(
    st.integers(0, 50).map(lambda number: number * 1_000_000),
    st.integers(-(2**62), 2**62),
)
ROWS = st.lists(
    st.tuples(
        st.integers(1, 5),
        TIMES,
        TIMES,
        VALUES,
        st.integers(0, 2),
        st.sampled_from([0, 0, 2**32 - 1]),
        st.sampled_from([None, None, "", "text"]),
    ),
    min_size=1,
    max_size=40,
)


def rows_of(samples: list[tuple[int, int, int, float, int, int, str | None]]) -> Rows:
    columns = list(zip(*samples, strict=True))
    dtypes = (np.uint32, np.int64, np.int64, np.float64, np.uint8, np.uint32)
    text = np.array(columns[6], object)
    return Rows._make(
        [
            *(np.array(column, dtype) for column, dtype in zip(columns, dtypes, strict=False)),
            None if all(one is None for one in text) else text,
        ]
    )


def bits(rows: Rows) -> list[tuple[object, ...]]:
    text = rows.text.tolist() if rows.text is not None else [None] * rows.n
    value = np.where(np.isnan(rows.value), np.nan, rows.value).view(np.int64)
    return list(zip(*(column.tolist() for column in (*rows[:3], value, *rows[4:6])), text, strict=True))


@given(ROWS, st.sets(st.integers(1, 5)), st.integers(1, 50))
def test_rows_come_back_from_a_file(
    samples: list[tuple[int, int, int, float, int, int, str | None]], wanted: set[int], at_once: int
) -> None:
    rows = rows_of(samples)
    order = order_of(rows.series_id, rows)
    rows = rows if order is None else rows.take(order)
    with (
        tempfile.TemporaryDirectory() as name,
        mock.patch.object(duckdb_part_reader, "_LOT_ROWS", at_once),
        mock.patch.object(duckdb_part_index, "_INDEXED_ROWS", at_once),
    ):
        folder = Path(name)
        with PartWriter(folder / "d" / "1.parquet", units_of(rows), Labels(KEYS)) as writer:
            for piece in slices_of(rows, 7):
                writer.write(piece)
            info = writer.finish()
        assert (info.samples, info.first_time) == (rows.n, int(rows.source_time.min()))
        reader = PartReader(folder)
        assert bits(reader.read("d/1.parquet", np.arange(1, 6, dtype=np.uint32))) == bits(rows)
        chosen = np.isin(rows.series_id, list(wanted))
        found = reader.read("d/1.parquet", np.array(sorted(wanted, reverse=True), np.uint32))
        assert bits(found) == bits(rows.take(np.flatnonzero(chosen)))
        span = TimeSpan(0, 20_000_000)
        chosen &= (rows.source_time >= 0) & (rows.source_time < span.to_ns)
        found = reader.read("d/1.parquet", np.array(sorted(wanted), np.uint32), span)
        assert bits(found) == bits(rows.take(np.flatnonzero(chosen)))


@given(st.lists(VALUES, min_size=1, max_size=30))
def test_a_scale_gives_back_the_very_values(values: list[float]) -> None:
    value = np.array(values)
    (scale,) = scales_of(value, run_starts(np.zeros(len(value)))).tolist()
    if scale >= 0:
        number = value[~np.isnan(value)]
        again = np.rint(number * POWERS[scale]).astype(np.int64) / POWERS[scale]
        assert again.view(np.int64).tolist() == number.view(np.int64).tolist()


def test_scales_are_as_small_as_can_be() -> None:
    value = np.array([1.0, 2.0, 0.1, 0.25, np.nan, np.nan, 1 / 3, -0.0])
    starts = np.array([0, 2, 4, 6, 7])
    assert scales_of(value, starts).tolist() == [0, 2, -1, -1, -1]


def test_ties_have_an_order_of_their_own_and_repeats_are_neighbours() -> None:
    samples = [(1, 5, 9, 2.0, 0, 0, None), (1, 5, 3, 1.0, 0, 0, None), (1, 5, 7, 2.0, 0, 0, None)]
    for turned in (samples, samples[::-1], samples[1:] + samples[:1]):
        rows = rows_of(list(turned))
        order = order_of(rows.series_id, rows)
        rows = rows if order is None else rows.take(order)
        assert rows.received_time.tolist() == [3, 7, 9]
        assert repeats_in(rows).tolist() == [False, False, True]


def test_many_series_are_sorted_digit_by_digit() -> None:
    random = np.random.default_rng(1)
    place = random.integers(0, 200_000, 5000).astype(np.uint32)
    time = random.integers(0, 10, 5000)
    rows = Rows(place, time, time, time.astype(float), time.astype(np.uint8), place)
    order = order_of(place, rows)
    assert order is not None
    pairs = list(zip(place[order].tolist(), time[order].tolist(), strict=True))
    assert pairs == sorted(pairs)
