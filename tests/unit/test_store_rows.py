"""The order in which samples are rewritten."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.stores.duckdb_rows import Rows, order_of

_TIMES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([-(2**63), 2**63 - 1, 0, -1]),
    st.integers(0, 40).map(lambda ms: 1_760_000_000_000_000_000 + ms * 1_000_000),
    st.integers(0, 40).map(lambda us: us * 1_000),
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
