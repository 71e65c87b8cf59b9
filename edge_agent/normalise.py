"""From what a machine said to samples: the rules that hold for every protocol, on whole columns at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from shopfloor.block import (
    NO_TEXT,
    STATUS_CLOCK_AHEAD,
    STATUS_NO_SOURCE_TIME,
    STATUS_NOT_A_NUMBER,
    Float64,
    Int64,
    Quality,
    SampleBlock,
    UInt32,
)
from shopfloor.signal import SeriesKey

NO_TIME: Final = -(2**63)
"""In a column of source times: the machine gave none."""
CLOCK_TOLERANCE_NS: Final = 60 * 1_000_000_000
"""A machine's clock further ahead of the agent's than this makes its samples UNCERTAIN."""


class Oddities(NamedTuple):
    """How many readings were not plain good numbers with a plausible time; goes into the metrics."""

    not_a_number: int
    clock_ahead: int
    no_source_time: int


def normalise(
    series: tuple[SeriesKey, ...],
    series_index: UInt32,
    source_time: Int64,
    received_time: int | Int64,
    value: Float64,
    status: UInt32,
    text: Mapping[int, str] = NO_TEXT,
    null: npt.NDArray[np.bool_] | None = None,
) -> tuple[SampleBlock, Oddities]:
    """Return the samples that ``n`` readings make, in the same order; the arguments are not changed.

    Args:
        series: the distinct series, shared from call to call (caches hang on its identity).
        series_index: uint32[n].
        source_time: int64[n], UTC ns by the machine's clock, NO_TIME where it gave none.
        received_time: UTC ns by the agent's clock; one for all that came in one message, or int64[n].
        value: float64[n], scaled already; NaN and infinities allowed.
        status: uint32[n], OPC UA StatusCodes, 0 where the protocol has none.
        text: row to text.
        null: bool[n], the rows whose null is meant (not a NaN that the machine computed).
    """
    n = len(value)
    received = np.broadcast_to(np.asarray(received_time, dtype=np.int64), n)
    quality = np.minimum(status >> np.uint32(30), np.uint32(Quality.BAD)).astype(np.uint8)
    finite = np.isfinite(value)
    odd = ~finite
    if odd.any():
        value = np.where(finite, value, np.nan)
        if text:
            odd[np.fromiter(text, dtype=np.int64, count=len(text))] = False
        if null is not None:
            odd &= ~null
        if odd.any():
            quality[odd] = Quality.BAD
            status = np.where(
                odd & (status >> np.uint32(30) < Quality.BAD), np.uint32(STATUS_NOT_A_NUMBER), status
            )
    timeless = source_time == NO_TIME
    ahead = source_time > received + CLOCK_TOLERANCE_NS
    if timeless.any():
        source_time = np.where(timeless, received, source_time)
        status = np.where(timeless & (status == 0), np.uint32(STATUS_NO_SOURCE_TIME), status)
    if ahead.any():
        doubtful = ahead & (quality == Quality.GOOD)
        quality[doubtful] = Quality.UNCERTAIN
        status = np.where(doubtful, np.uint32(STATUS_CLOCK_AHEAD), status)
    block = SampleBlock(
        series,
        series_index,
        source_time,
        received.copy(),
        value,
        quality,
        status,
        text,
    )
    return block, Oddities(int(odd.sum()), int(ahead.sum()), int(timeless.sum()))
