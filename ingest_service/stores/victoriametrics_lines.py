"""Samples as VictoriaMetrics takes them: line protocol in milliseconds, each field a metric of numbers.

``sample_value`` (absent for null), and where they are not 0 ``sample_quality`` (always for null), ``sample_status``, ``sample_ns``
(what the millisecond leaves of the source time), ``sample_delay`` (received time minus source time, ns) and ``sample_rest``
(what eleven decimal digits leave of the value: of a fraction the server keeps twelve, and not always). ``sample_sign`` is -1
for a negative zero.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest_service.stores.influxdb_lines import few, value_field
from shopfloor.block import Float64, Int64, SampleBlock

FIELDS: Final = ("value", "quality", "status", "ns", "delay", "rest", "sign")
_DIGITS: Final = 11
_EXACT_POWER: Final = 22
"""Powers of ten up to this one are exact as float64."""
_MS: Final = 1_000_000
_NULL: Final = 256


def encode(prefixes: pa.StringArray, block: SampleBlock) -> pa.StringArray:
    """Return a line for each row, with its line feed; texts are left out."""
    ms = block.source_time // _MS
    value, rest = split(block.value)
    return pc.binary_join_element_wise(
        prefixes,
        *value_field(value, ""),
        few(block.quality + np.isnan(value) * np.uint16(_NULL), _quality),
        few(block.status, lambda number: f",status={number}" if number else ""),
        *_unless_zero("ns", block.source_time - ms * _MS),
        *_unless_zero("delay", block.received_time - block.source_time),
        *_unless_zero("rest", rest),
        *_unless_zero("sign", -((block.value == 0) & np.signbit(block.value)).astype(np.int64)),
        " ",
        pc.cast(pa.array(ms), pa.string()),
        "\n",
        "",
    )


def split(value: Float64) -> tuple[Float64, Float64]:
    """Return float64[n] of eleven decimal digits, and what is to be added to them: the sum is the value, bit by bit.

    Values whose eleven digits can't be told by one exact power of ten are left as they are.
    """
    size = np.abs(value)
    with np.errstate(divide="ignore", invalid="ignore"):
        places = _DIGITS - 1 - np.floor(np.log10(size))
    possible = (size > 0) & np.isfinite(size) & (places >= 0) & (places <= _EXACT_POWER)
    scale = 10.0 ** np.where(possible, places, 0)
    head = np.where(possible, np.rint(np.where(possible, value, 0) * scale) / scale, value)
    rest = np.where(possible, np.where(possible, value, 0) - np.where(possible, head, 0), 0)
    return head, rest


def _quality(number: int) -> str:
    """Return the field of a quality; the only one of a null, where it is marked as such."""
    if number >= _NULL:
        return f"quality={number - _NULL}"
    return f",quality={number}" if number else ""


def _unless_zero(name: str, column: Int64 | Float64) -> list[Any]:
    filled = column != 0
    text = pc.cast(pa.array(column), pa.string())
    head = f",{name}="
    if filled.all():
        return [head, text]
    if not filled.any():
        return []
    mask = pa.array(np.ascontiguousarray(filled))
    return [pc.if_else(mask, head, ""), pc.if_else(mask, text, "")]
