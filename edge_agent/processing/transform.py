"""Renaming, scaling and mapping: what a rule makes of every reading, without memory."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from edge_agent.processing.config import RuleConfig
from edge_agent.processing.records import Mask
from shopfloor.block import (
    NO_TEXT,
    STATUS_NOT_A_NUMBER,
    STATUS_NOT_CONVERTIBLE,
    Float64,
    Quality,
    SampleBlock,
    UInt32,
)
from shopfloor.signal import SeriesKey

_log = logging.getLogger(__name__)

_MAX_COMPLAINTS: Final = 200


class Conversion(NamedTuple):
    """What is done to the values of one tuple of series; arrays are by position in that tuple."""

    scale: Float64
    offset: Float64
    to_text: Mapping[int, Mapping[int, str]]
    to_number: Mapping[int, Mapping[str, float]]


def conversion_of(rules: list[RuleConfig | None]) -> Conversion | None:
    """Return what the rules of a tuple of series do to values, None for nothing."""
    made = Conversion(
        np.array([rule.scale if rule else 1.0 for rule in rules]),
        np.array([rule.offset if rule else 0.0 for rule in rules]),
        {number: rule.to_text for number, rule in enumerate(rules) if rule and rule.to_text},
        {number: rule.to_number for number, rule in enumerate(rules) if rule and rule.to_number},
    )
    scales = (made.scale != 1.0).any() or (made.offset != 0.0).any()
    return made if scales or made.to_text or made.to_number else None


def renamed(series: tuple[SeriesKey, ...], rules: list[RuleConfig | None]) -> tuple[SeriesKey, ...]:
    """Return the names that series have further on; the same tuple where no rule renames."""
    if not any(rule and rule.rename for rule in rules):
        return series
    return tuple(
        SeriesKey(key.asset, rule.rename) if rule and rule.rename else key
        for key, rule in zip(series, rules, strict=True)
    )


class Converter:
    """Applies conversions, and says once a series which of its values is in no mapping."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._complained: set[SeriesKey] = set()

    def convert(self, block: SampleBlock, conversion: Conversion) -> tuple[SampleBlock, int]:
        """Return the converted block, and how many readings are in no mapping (null and BAD from here on)."""
        columns = _Columns(block)
        scale, offset = conversion.scale[block.series_index], conversion.offset[block.series_index]
        if (scale != 1.0).any() or (offset != 0.0).any():
            with np.errstate(over="ignore", invalid="ignore"):
                columns.value = block.value * scale + offset
            columns.spoil(np.isfinite(block.value) & ~np.isfinite(columns.value), STATUS_NOT_A_NUMBER)
        unmapped = np.zeros(len(block), dtype=np.bool_)
        for position, texts in conversion.to_text.items():
            for row in np.flatnonzero((block.series_index == position) & ~np.isnan(block.value)).tolist():
                text = texts.get(block.value[row])
                columns.value[row] = np.nan
                if text is None:
                    unmapped[row] = True
                    self._complain(block, position, f"{block.value[row]:g} is not in to_text")
                else:
                    columns.text[row] = text
        for position, numbers in conversion.to_number.items():
            for row in np.flatnonzero(block.series_index == position).tolist():
                said = columns.text.pop(row, None)
                if said is None:
                    continue
                number = numbers.get(said)
                if number is None:
                    unmapped[row] = True
                    self._complain(block, position, f"{said[:100]!r} is not in to_number")
                else:
                    columns.value[row] = number
        columns.spoil(unmapped, STATUS_NOT_CONVERTIBLE)
        return columns.block(block), int(unmapped.sum())

    def _complain(self, block: SampleBlock, position: int, why: str) -> None:
        key = block.series[position]
        if key not in self._complained and len(self._complained) < _MAX_COMPLAINTS:
            self._complained.add(key)
            _log.warning("source %s: %s: %s (said once)", self._source, key, why)


@dataclass(slots=True)
class _Columns:
    """Those columns of a block that a conversion may change, copied."""

    value: Float64
    quality: np.ndarray[tuple[int], np.dtype[np.uint8]]
    status: UInt32
    text: dict[int, str]

    def __init__(self, block: SampleBlock) -> None:
        self.value, self.quality, self.status = block.value.copy(), block.quality.copy(), block.status.copy()
        self.text = dict(block.text)

    def spoil(self, rows: Mask, status: int) -> None:
        """Make rows null and BAD; what was BAD already keeps its own status."""
        if rows.any():
            self.value[rows] = np.nan
            self.status[rows & (self.quality != Quality.BAD)] = status
            self.quality[rows] = Quality.BAD

    def block(self, old: SampleBlock) -> SampleBlock:
        return SampleBlock(
            old.series,
            old.series_index,
            old.source_time,
            old.received_time,
            self.value,
            self.quality,
            self.status,
            self.text or NO_TEXT,
        )
