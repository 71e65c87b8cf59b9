"""The order in which samples are rewritten and read."""

from __future__ import annotations

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.stores import duckdb_pieces
from ingest_service.stores.duckdb_pieces import Held, interleaved
from ingest_service.stores.duckdb_rows import Rows, concat_rows, order_of

_TIMES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([-(2**63), 2**63 - 1, 0, -1]),
    st.integers(0, 40).map(lambda ms: 1_760_000_000_000_000_000 + ms * 1_000_000),
    st.integers(0, 40).map(lambda us: us * 1_000),
)


def _rows(drawn: list[tuple[int, int]], first: int = 0, *, texts: bool = False) -> Rows:
    n = len(drawn)
    return Rows(
        np.array([one for one, _ in drawn], np.uint32),
        np.array([one for _, one in drawn], np.int64),
        np.arange(first, first + n),
        np.arange(first, first + n) / 2,
        np.zeros(n, np.uint8),
        np.zeros(n, np.uint32),
        np.array([f"t{row}" for row in range(n)], object) if texts else None,
    )


@given(st.lists(st.tuples(st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1)), _TIMES), max_size=30))
def test_rows_are_sorted_by_series_and_time_whatever_the_times(drawn: list[tuple[int, int]]) -> None:
    place = np.array([one for one, _ in drawn], np.uint32)
    time = np.array([one for _, one in drawn], np.int64)
    n = len(drawn)
    rows = Rows(place, time, np.arange(n), np.zeros(n), np.zeros(n, np.uint8), np.zeros(n, np.uint32), None)
    order = order_of(place, rows)
    chosen = list(range(n)) if order is None else order.tolist()
    assert chosen == sorted(range(n), key=lambda row: (place[row], time[row], row))


@given(
    st.lists(
        st.tuples(st.lists(st.tuples(st.integers(5, 12), st.integers(0, 9)), min_size=1), st.booleans()),
        max_size=5,
    ),
    st.integers(1, 3),
)
def test_pieces_that_follow_one_another_are_joined_as_if_they_were_sorted(
    drawn: list[tuple[list[tuple[int, int]], bool]],
    long_run: int,
) -> None:
    pieces: list[Rows] = []
    for number, (rows, texts) in enumerate(drawn):
        moved = sorted((place, 10 * number + time) for place, time in rows)
        pieces.append(_rows(moved, sum(piece.n for piece in pieces), texts=texts))
    ids = np.arange(5, 13, dtype=np.uint32)
    held = [Held(piece) for piece in pieces]
    with mock.patch.object(duckdb_pieces, "_LONG_RUN", long_run):
        counts, joined = interleaved(held, [piece.ids.astype(np.intp) - 5 for piece in held], ids)
    together = concat_rows(pieces)
    expected = together.take(np.lexsort((together.source_time, together.series_id)))
    assert counts.tolist() == np.bincount(expected.series_id, minlength=13)[5:].tolist()
    for column, wanted in zip(joined, expected, strict=True):
        assert (column is None and wanted is None) or np.asarray(column).tolist() == np.asarray(
            wanted
        ).tolist()
