"""What a body of line protocol holds, as columns; and the way there one point at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ingest_service.line_protocol.layout import Layout
from ingest_service.line_protocol.lines import (
    LineFault,
    Point,
    fault_text,
    line_end,
    read_point,
    skip_blank,
)
from shopfloor.block import Float64, Int64

Scalar = TypeVar("Scalar", bound=np.generic)
Bool = npt.NDArray[np.bool_]
MAX_PAYLOAD_BYTES: Final = 64 * 1024
"""Of a line that goes to quarantine; what is longer is cut."""
MOST_HOMELESS: Final = 20_000
"""Lines of one body that may go there; its client has to halve a body with more."""


class TooManySamples(Exception):
    """A body holds more fields, or more lines for quarantine, than one request may."""


class Fault(NamedTuple):
    """A line that could not be read."""

    number: int
    """Which line of the body, from 0."""
    raw: bytes
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """``n`` lines with ``m`` fields, in the order of the body."""

    keys: list[bytes]
    """The distinct measurements with tags, as they were written."""
    names: list[str]
    """The distinct names of fields."""
    key_index: Int64
    """int64[n], positions in ``keys``."""
    time: Int64
    """int64[n], UTC ns; 0 where a line has none."""
    timed: Bool
    """bool[n], whether a line has a time."""
    number: Int64
    """int64[n], which line of the body, from 0."""
    field_line: Int64
    """int64[m], positions in the columns above, ascending."""
    name_index: Int64
    """int64[m], positions in ``names``."""
    value: Float64
    """float64[m]; NaN for a text, and for NaN and infinities."""
    text: dict[int, str] = field(default_factory=dict)
    """Field to text."""
    faults: list[Fault] = field(default_factory=list)
    spans: dict[int, int] = field(default_factory=dict)
    """Number of a line whose text holds newlines to where it ends in the body."""
    layout: Layout | None = None
    """What bodies like this one have in common."""

    def __len__(self) -> int:
        return len(self.time)


class Collector:
    """Gathers points that were read one at a time."""

    def __init__(self, limit: int) -> None:
        self.faults: list[Fault] = []
        self.spans: dict[int, int] = {}
        self._limit = limit
        self.keys: dict[bytes, int] = {}
        self._names: dict[str, int] = {}
        self._key_index: list[int] = []
        self._time: list[int] = []
        self._timed: list[bool] = []
        self._number: list[int] = []
        self._field_line: list[int] = []
        self._name_index: list[int] = []
        self._value: list[float] = []
        self._text: dict[int, str] = {}

    def add(self, point: Point, number: int) -> None:
        """Take a point; raises TooManySamples."""
        line = len(self._time)
        self._key_index.append(self.keys.setdefault(point.key, len(self.keys)))
        self._time.append(point.time or 0)
        self._timed.append(point.time is not None)
        self._number.append(number)
        for one in point.fields:
            if one.text is not None:
                self._text[len(self._value)] = one.text
            self._field_line.append(line)
            self._name_index.append(self._names.setdefault(one.name, len(self._names)))
            self._value.append(one.value)
        if len(self._value) > self._limit:
            raise TooManySamples

    def points(self) -> Points:
        """Return what was gathered."""
        return Points(
            list(self.keys),
            list(self._names),
            np.array(self._key_index, np.int64),
            np.array(self._time, np.int64),
            np.array(self._timed, np.bool_),
            np.array(self._number, np.int64),
            np.array(self._field_line, np.int64),
            np.array(self._name_index, np.int64),
            np.array(self._value, np.float64),
            self._text,
            self.faults,
            self.spans,
        )


def read_one(body: bytes, at: int, number: int, multiplier: int, into: Collector) -> int:
    """Read the point that begins at ``at`` into ``into``, a fault too; return where its line ends."""
    try:
        point, end = read_point(body, at, multiplier, into.keys)
    except LineFault as fault:
        end = line_end(body, at)
        raw = body[at:end]
        into.faults.append(Fault(number, raw[:MAX_PAYLOAD_BYTES], fault_text(raw[:MAX_PAYLOAD_BYTES], fault)))
        if len(into.faults) > MOST_HOMELESS:
            raise TooManySamples from fault
    else:
        into.add(point, number)
        if any(one.text is not None and "\n" in one.text for one in point.fields):
            into.spans[number] = end
    return end


def read_slowly(body: bytes, multiplier: int, limit: int) -> Points:
    """Read a whole body point by point; raises TooManySamples above ``limit`` fields."""
    into = Collector(limit)
    at = number = 0
    while (begin := skip_blank(body, at)) < len(body):
        number += body.count(b"\n", at, begin)
        at = read_one(body, begin, number, multiplier, into)
        number += body.count(b"\n", begin, at)
    return into.points()


def joined(parts: Iterable[Points]) -> Points:
    """Return points of one body as one, in the order of their lines."""
    parts = [part for part in parts if len(part) or part.faults]
    if len(parts) == 1:
        return parts[0]
    keys: dict[bytes, int] = {}
    names: dict[str, int] = {}
    key_index, name_index, field_line = [], [], []
    text: dict[int, str] = {}
    lines = fields = 0
    for part in parts:
        key_of = np.array([keys.setdefault(key, len(keys)) for key in part.keys], np.int64)
        name_of = np.array([names.setdefault(name, len(names)) for name in part.names], np.int64)
        key_index.append(key_of[part.key_index])
        name_index.append(name_of[part.name_index])
        field_line.append(part.field_line + lines)
        text.update({row + fields: line for row, line in part.text.items()})
        lines += len(part)
        fields += len(part.value)
    number = _join([part.number for part in parts], np.int64)
    order = np.argsort(number, kind="stable")
    place = np.empty(lines, np.int64)
    place[order] = np.arange(lines)
    line_of = place[_join(field_line, np.int64)]
    field_order = np.argsort(line_of, kind="stable")
    if text:
        new_row = np.empty(fields, np.int64)
        new_row[field_order] = np.arange(fields)
        text = {int(new_row[row]): line for row, line in text.items()}
    return Points(
        list(keys),
        list(names),
        _join(key_index, np.int64)[order],
        _join([part.time for part in parts], np.int64)[order],
        _join([part.timed for part in parts], np.bool_)[order],
        number[order],
        line_of[field_order],
        _join(name_index, np.int64)[field_order],
        _join([part.value for part in parts], np.float64)[field_order],
        text,
        sorted((fault for part in parts for fault in part.faults), key=lambda fault: fault.number),
        {number: end for part in parts for number, end in part.spans.items()},
    )


def _join(parts: Sequence[npt.NDArray[Scalar]], dtype: type[Scalar]) -> npt.NDArray[Scalar]:
    return np.concatenate(parts) if parts else np.empty(0, dtype)
