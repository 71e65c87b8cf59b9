"""How many series are read for a page."""

from __future__ import annotations

import numpy as np
import pytest

from ingest_service.stores.duckdb_reader import enough


@pytest.mark.parametrize(
    ("estimate", "rows", "count"),
    [
        ([10, 10, 10], 20, 2),
        ([10, 10, 10], 29, 3),
        ([10, 10, 10], 1000, 3),
        ([1000, 10], 20, 1),
        # Most of a long series would not be wanted: it comes first in what is read next.
        ([10, 1000], 20, 1),
        ([10, 3, 1000], 20, 2),
        ([10, 10, 10], 15, 1),
        ([0, 0, 0], 20, 3),
    ],
)
def test_no_more_series_are_read_than_a_page_needs(estimate: list[float], rows: float, count: int) -> None:
    assert enough(np.array(estimate, float), rows) == count
