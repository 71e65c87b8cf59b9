"""Samples as InfluxDB's line protocol, by columns: Arrow's text kernels make all lines of a block at once.

Measurement ``sample``; tags enterprise, site, area, line, cell, signal, as far as the path goes; fields ``value`` (float,
absent for null and text), ``text``, ``quality``, ``status`` (absent for 0) and ``received``: the agent's clock, ns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shopfloor.asset import LEVELS
from shopfloor.block import Float64, Int64, SampleBlock, UInt32
from shopfloor.signal import SeriesKey

MEASUREMENT: Final = "sample"
TAGS: Final = (*LEVELS, "signal")
_SPECIAL: Final = re.compile(r"([ ,=])")


def escape_tag(text: str) -> str:
    """Return a tag's key or value as the protocol wants it.

    A line feed can't be said in one, and a backslash at the end would escape what follows: neither is in names of ours.
    """
    return _SPECIAL.sub(r"\\\1", text.replace("\n", " ").rstrip("\\"))


def quote_text(text: str) -> str:
    """Return a string field's value, quoted."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def tags_of(key: SeriesKey) -> dict[str, str]:
    """Return the tags of a series; levels that its path does not reach have none."""
    return {**dict(zip(LEVELS, key.asset.split("/"), strict=False)), "signal": key.signal}


class LineEncoder:
    """Remembers how the lines of each series begin; for one thread."""

    def __init__(self) -> None:
        self._known = 0
        self._prefixes: Any = pa.array([], pa.string())

    def encode(self, keys: Sequence[SeriesKey], ids: UInt32, block: SampleBlock) -> pa.StringArray:
        """Return a line for each row, with its line feed.

        Args:
            keys: all series; series ``i + 1`` stands at ``i``.
            ids: uint32[n], each row's series.
            block: the rows.
        """
        import pyarrow.compute as pc  # noqa: PLC0415 - the embedded store starts sooner without it

        parts = [self.prefixes(keys, ids), *value_field(block.value)]
        if block.text:
            texts = [""] * len(ids)
            for row, text in block.text.items():
                texts[row] = f"text={quote_text(text)},"
            parts.append(pa.array(texts, pa.string()))
        parts += [
            few(block.quality, lambda number: f"quality={number}i"),
            few(block.status, lambda number: f",status={number}i" if number else ""),
            ",received=",
            pc.cast(pa.array(block.received_time), pa.string()),
            "i ",
            pc.cast(pa.array(block.source_time), pa.string()),
            "\n",
        ]
        return pc.binary_join_element_wise(*parts, "")

    def prefixes(self, keys: Sequence[SeriesKey], ids: UInt32) -> pa.StringArray:
        """Return how the line of each row begins, up to the fields."""
        self._learn(keys, int(ids.max(initial=0)))
        return self._prefixes.take(pa.array(ids - np.uint32(1)))

    def _learn(self, keys: Sequence[SeriesKey], highest: int) -> None:
        if highest <= self._known:
            return
        known = len(keys)
        fresh = [_prefix(key) for key in keys[self._known : known]]
        self._prefixes = pa.concat_arrays([self._prefixes, pa.array(fresh, pa.string())])
        self._known += len(fresh)


def chunks_of(lines: pa.StringArray, most: int) -> list[tuple[int, int, memoryview]]:
    """Cut lines into bodies of at most ``most`` lines, without copying: first row, row after the last, bytes."""
    n = len(lines)
    _, offsets_buffer, data = lines.buffers()
    offsets: Int64 = np.frombuffer(offsets_buffer, np.int32, n + 1, lines.offset * 4).astype(np.int64)
    view = memoryview(data) if data is not None else memoryview(b"")
    return [
        (start, end, view[offsets[start] : offsets[end]])
        for start in range(0, n, most)
        for end in (min(n, start + most),)
    ]


def value_field(value: Float64, end: str = ",") -> list[Any]:
    """Return the parts of the field ``value`` and what follows it; nothing for NaN."""
    import pyarrow.compute as pc  # noqa: PLC0415

    text = pc.cast(pa.array(value), pa.string())
    filled = ~np.isnan(value)
    if filled.all():
        return ["value=", text, end]
    mask = pa.array(filled)
    return [pc.if_else(mask, "value=", ""), pc.if_else(mask, text, ""), pc.if_else(mask, end, "")]


def few(column: npt.NDArray[Any], spell: Callable[[int], str]) -> Any:
    """Return the text of each number of a column that has few different ones."""
    if len(column) and (column == column[0]).all():
        return spell(int(column[0]))
    numbers, index = np.unique(column, return_inverse=True)
    return pa.array([spell(number) for number in numbers.tolist()], pa.string()).take(pa.array(index))


def _prefix(key: SeriesKey) -> str:
    tags = ",".join(f"{name}={escape_tag(text)}" for name, text in tags_of(key).items())
    return f"{MEASUREMENT},{tags} "
