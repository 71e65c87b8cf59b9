"""What is true of a stretch that is not over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simulators.physics.unit import Column, Facts
from simulators.truth import SAME


def so_far(facts: Sequence[Facts], now_ms: int) -> list[Facts]:
    """Return what of a stretch's facts is true at a time within it, UTC ms.

    States, downtime, energy and faults are cut off there (energy in proportion), of the rest stays what is over.
    """
    found = []
    for fact in facts:
        begins = np.atleast_1d(np.asarray(fact.columns["begin_ms"]))
        ends = np.atleast_1d(np.asarray(fact.columns["end_ms"]))
        cut = fact.table in SAME
        keep = begins < now_ms if cut else ends <= now_ms
        if not keep.any():
            continue
        columns = {name: _kept(column, keep) for name, column in fact.columns.items()}
        if cut:
            columns["end_ms"] = np.minimum(ends[keep], now_ms)
        if fact.table == "energy":
            lasted = np.maximum(ends - begins, 1)[keep]
            share = (np.minimum(ends[keep], now_ms) - begins[keep]) / lasted
            columns["kwh"] = np.asarray(columns["kwh"], dtype=np.float64) * share
        found.append(Facts(fact.table, columns))
    return found


def _kept(column: Column, keep: npt.NDArray[np.bool_]) -> Column:
    if isinstance(column, np.ndarray) and column.ndim:
        return column[keep]
    if isinstance(column, list | tuple):
        return [value for value, stays in zip(column, keep.tolist(), strict=True) if stays]
    return column
