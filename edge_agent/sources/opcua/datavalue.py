"""DataValues (Part 6 §5.2.2.17) as columns.

DataValues of one encoding mask and one scalar type all have the same length: a run of them is read as one numpy
array. Where they are mixed, one pass finds out where each begins, and those of one form are gathered into an array. What is
of another kind (texts, arrays, structures) is read field by field.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.normalise import NO_TIME
from edge_agent.sources.opcua.binary import (
    DATA_VALUE,
    DATE_TIME,
    EXTENSION_OBJECT,
    I64,
    NULL,
    U32,
    VARIANT,
    MalformedMessage,
    skip_variant,
)
from edge_agent.sources.opcua.columns import Columns, Compound, Part, ns_of_tick_column
from edge_agent.sources.opcua.scalar import (
    BOOLEAN,
    INT64,
    NOTHING,
    NUMPY_TYPES,
    UINT64,
    read_scalar,
    rounded_count,
)
from shopfloor.block import STATUS_NOT_CONVERTIBLE, UInt32

_VALUE, _STATUS, _SOURCE, _SERVER, _SOURCE_PICO, _SERVER_PICO = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_KNOWN_BITS: Final = 0x3F
_MADE_OF_OTHERS: Final = frozenset({EXTENSION_OBJECT, DATA_VALUE, VARIANT})
OVERFLOW_BITS: Final = 0x0C80
"""What a server says about its queue with a value (Part 4 §7.39.1): it must not get lost with the rest of a status."""
_MIN_RUN: Final = 8
"""Below this an array costs more than it saves."""
_FIRST_WINDOW: Final = 64
_CHUNK: Final = 65_536
"""Rows made at once: a count that lies must not cost memory before its values turn out not to be there."""


class _Form(NamedTuple):
    """How DataValues of one mask and scalar type lie in a message, each behind its client handle where it has one."""

    layout: np.dtype[np.void]
    size: int
    kind: int
    names: frozenset[str]


_DATA_VALUES: Final[dict[int, _Form | None]] = {}
_NOTIFICATIONS: Final[dict[int, _Form | None]] = {}
"""Forms by mask and type, made when they are first met: without and with client handles."""


def _form(mask: int, kind: int, *, handle: bool) -> _Form | None:
    """Return the form of a DataValue, None where its length depends on more than mask and type."""
    fields: list[tuple[str, str]] = [("handle", "<u4")] if handle else []
    fields.append(("mask", "u1"))
    if mask & _VALUE:
        if kind not in NUMPY_TYPES:
            return None
        fields += [("kind", "u1"), ("value", NUMPY_TYPES[kind])]
    optional = (
        (_STATUS, "status", "<u4"),
        (_SOURCE, "source", "<i8"),
        (_SOURCE_PICO, "source_pico", "<u2"),
        (_SERVER, "server", "<i8"),
        (_SERVER_PICO, "server_pico", "<u2"),
    )
    fields += [(name, code) for bit, name, code in optional if mask & bit]
    layout = np.dtype(fields)
    return _Form(layout, layout.itemsize, kind, frozenset(name for name, _ in fields))


def read_data_values(body: bytes, at: int, count: int, handles: UInt32 | None, columns: Columns) -> int:
    """Append ``count`` DataValues and return the position behind them.

    Args:
        body: the message.
        at: where the first begins.
        count: how many there are.
        handles: uint32[count], whom they belong to; None where each follows its client handle
            (MonitoredItemNotification, Part 4 §7.25.2).
        columns: what they are appended to.

    Raises:
        MalformedMessage: they end behind the message, or are none.
        struct.error, IndexError: the message ends too early.
    """
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        at = _read_chunk(body, at, size, None if handles is None else handles[start : start + size], columns)
    return at


def _read_chunk(body: bytes, at: int, count: int, handles: UInt32 | None, columns: Columns) -> int:
    first = len(columns)
    part = columns.grow(count)
    if handles is not None:
        part.handle[:] = handles
    ahead, forms = (4, _NOTIFICATIONS) if handles is None else (0, _DATA_VALUES)
    alone: dict[int, tuple[_Form, list[int], list[int]]] = {}
    row = look_again = 0
    while row < count:
        mask = body[at + ahead]
        kind = body[at + ahead + 1] if mask & _VALUE else NULL
        key = mask << 8 | kind
        if key not in alone:
            if key not in forms:
                forms[key] = _form(mask & _KNOWN_BITS, kind, handle=handles is None)
            form = forms[key]
            if form is None:
                if handles is None:
                    (part.handle[row],) = U32.unpack_from(body, at)
                at = _read_odd(body, at + ahead, part, row, first, columns)
                row += 1
                continue
            alone[key] = form, [], []
        form, rows, places = alone[key]
        if row >= look_again:
            length = _run_length(body, at + ahead, form.size, key, count - row)
            if length > 1:
                found = np.frombuffer(body, form.layout, length, at)
                _fill(part, slice(row, row + length), found, form, columns)
                at += length * form.size
                row += length
                continue
            look_again = row + _MIN_RUN
        rows.append(row)
        places.append(at)
        at += form.size
        row += 1
    if at > len(body):
        raise MalformedMessage("a value ends behind the message")
    raw = np.frombuffer(body, np.uint8)
    for form, rows, places in alone.values():
        if rows:
            found = raw[np.array(places)[:, np.newaxis] + np.arange(form.size)].view(form.layout)[:, 0]
            _fill(part, np.array(rows), found, form, columns)
    return at


def _run_length(body: bytes, start: int, size: int, key: int, limit: int) -> int:
    """Return how many DataValues from here on have the mask and type of the first; 1 where it is no run worth an array."""
    mask, kind = key >> 8, key & 0xFF
    last = start + (_MIN_RUN - 1) * size
    if limit < _MIN_RUN or last + size > len(body) or body[last] != mask:
        return 1
    if mask & _VALUE and body[last + 1] != kind:
        return 1
    limit = min(limit, (len(body) - start) // size)
    raw = np.frombuffer(body, np.uint8)
    length, window = 0, _FIRST_WINDOW
    while length < limit:
        # Growing, so that many short runs cost no more than their length.
        end = min(limit, length + window)
        at, behind = start + length * size, start + (end - 1) * size + 1
        same = raw[at:behind:size] == mask
        if mask & _VALUE:
            same &= raw[at + 1 : behind + 1 : size] == kind
        if not same.all():
            return length + int(same.argmin())
        length, window = end, 8 * window
    return length


def _fill(
    part: Part,
    rows: slice | npt.NDArray[np.int64],
    found: npt.NDArray[np.void],
    form: _Form,
    columns: Columns,
) -> None:
    """Put DataValues of one form into rows."""
    if "handle" in form.names:
        part.handle[rows] = found["handle"]
    if "status" in form.names:
        part.status[rows] = found["status"]
    if "source" in form.names:
        part.source[rows] = found["source"]
    if "server" in form.names:
        part.server[rows] = found["server"]
    if "value" not in form.names:
        part.null[rows] = True
    elif form.kind == BOOLEAN:
        part.value[rows] = found["value"] != 0
    elif form.kind == DATE_TIME:
        times = ns_of_tick_column(found["value"])
        absent = times == NO_TIME
        part.value[rows] = np.where(absent, np.nan, times / 1e9)
        part.null[rows] = absent
    else:
        part.value[rows] = found["value"]
        if form.kind in {INT64, UINT64}:
            columns.integer_rounded += rounded_count(found["value"])


def _read_odd(body: bytes, at: int, part: Part, row: int, first: int, columns: Columns) -> int:
    """Read a DataValue whose value is no plain number into a row of ``part``, whose rows begin with ``first``.

    Returns:
        The position behind it.
    """
    mask = body[at]
    start = at = at + 1
    made_of_others = False
    scalar = NOTHING
    if mask & _VALUE:
        encoding = body[at]
        made_of_others = bool(encoding & 0xC0) or encoding in _MADE_OF_OTHERS
        if made_of_others:
            at = skip_variant(body, at, 0)
        else:
            scalar, at = read_scalar(body, at + 1, encoding)
    variant_end = at
    status = 0
    if mask & _STATUS:
        (status,) = U32.unpack_from(body, at)
        at += 4
    if mask & _SOURCE:
        (part.source[row],) = I64.unpack_from(body, at)
        at += 8
    if mask & _SOURCE_PICO:
        at += 2
    if mask & _SERVER:
        (part.server[row],) = I64.unpack_from(body, at)
        at += 8
    if mask & _SERVER_PICO:
        at += 2
    if at > len(body):
        raise MalformedMessage("a value ends behind the message")
    if made_of_others:
        columns.compound.append(Compound(first + row, body[start:variant_end]))
    if not scalar.convertible:
        columns.not_convertible += 1
        if status >> 30 < 2:
            status = STATUS_NOT_CONVERTIBLE | status & OVERFLOW_BITS
    part.value[row], part.status[row] = scalar.value, status
    if scalar.text is not None:
        columns.text[first + row] = scalar.text
    else:
        part.null[row] = scalar.null
    return at
