"""Fewer samples that draw the same line."""

from __future__ import annotations

from typing import Final

import numpy as np
from tsdownsample import LTTBDownsampler

from ingest_service.stores import Raw
from shopfloor.block import Quality

_FEWEST: Final = 3
"""LTTB keeps the first and the last, and needs one between them."""


def thinned(raw: Raw, points: int) -> Raw:
    """Return at most ``points`` samples of each series: those that shape its line (largest triangle three buckets).

    Nulls, texts and BAD samples draw no line and are left out. Largest triangle three buckets: S. Steinarsson,
    Downsampling Time Series for Visual Representation, University of Iceland 2013, §4.2.
    """
    block = raw.block
    usable = np.flatnonzero(~np.isnan(block.value) & (block.quality < Quality.BAD))
    edges = np.searchsorted(block.series_index[usable], np.arange(len(raw.series) + 1))
    kept = []
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        rows = usable[start:stop]
        if len(rows) > points:
            if points < _FEWEST:
                rows = rows[[0, -1][:points]]
            else:
                picked = LTTBDownsampler().downsample(
                    block.source_time[rows], np.ascontiguousarray(block.value[rows]), n_out=points
                )
                rows = rows[picked.astype(np.int64)]
        kept.append(rows)
    return Raw(raw.series, block.take(np.concatenate(kept) if kept else usable), raw.truncated)


__all__ = ["thinned"]
