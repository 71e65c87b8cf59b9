"""Points that the service writes of its own accord, as line protocol."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ingest_service.stores.influxdb_lines import escape_tag, quote_text

Field = int | float | str
"""Of one field all values have one kind: a server takes no other once it has seen one."""


class Point(NamedTuple):
    """What is true of one thing at one time."""

    measurement: str
    tags: Mapping[str, str]
    """Empty ones are left out."""
    fields: Mapping[str, Field | None]
    """None and NaN are left out; a point without fields is none."""
    time_ns: int


def lines_of(points: Iterable[Point], unit_ns: int, *, texts: bool) -> list[str]:
    """Return the lines of points, without line feeds.

    Args:
        points: in any order.
        unit_ns: the times' unit, in nanoseconds.
        texts: whether the server keeps texts.
    """
    lines = []
    for point in points:
        fields = [
            f"{name}={text}"
            for name, value in point.fields.items()
            if (text := _field(value, texts=texts)) is not None
        ]
        if not fields:
            continue
        tags = [
            f",{name}={escape_tag(value)}" for name, value in point.tags.items() if escape_tag(value).strip()
        ]
        lines.append(f"{point.measurement}{''.join(tags)} {','.join(fields)} {point.time_ns // unit_ns}")
    return lines


def _field(value: Field | None, *, texts: bool) -> str | None:
    if isinstance(value, str):
        return quote_text(value.replace("\n", " ")) if texts else None
    if value is None or not math.isfinite(value):
        return None
    return f"{value}i" if isinstance(value, int) else repr(float(value))
