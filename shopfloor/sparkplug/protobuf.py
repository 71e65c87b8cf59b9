"""Protobuf's wire format, as far as Sparkplug B needs it: numbers, fields with a length, and what to skip.

Readers return what they read and where the next field begins. They raise IndexError where the data ends within a
number, which their caller reports, and SparkplugDecodeError for all else.
"""

from __future__ import annotations

from typing import Final, NoReturn

from shopfloor.sparkplug.model import SparkplugDecodeError

MAX_NESTING: Final = 16
"""Property sets within property sets, and groups within groups, may be this deep."""
MAX_UINT64: Final = 2**64 - 1


def write_varint(value: int) -> bytes:
    """Encode an unsigned number; raises ValueError beyond 64 bits."""
    if not 0 <= value <= MAX_UINT64:
        raise ValueError(f"{value} does not fit an unsigned integer of 64 bits")
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_sized(data: bytes) -> bytes:
    """Encode bytes with their length before them."""
    return write_varint(len(data)) + data


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read an unsigned number of up to ten bytes, modulo 2**64."""
    result = shift = 0
    while True:
        byte = data[at]
        at += 1
        if byte < 0x80:
            return (result | byte << shift) & MAX_UINT64, at
        result |= (byte & 0x7F) << shift
        shift += 7
        if shift == 70:
            raise SparkplugDecodeError("a number of more than ten bytes", at)


def read_bytes(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    """Read bytes with their length before them, within a message that ends at ``end``."""
    size = data[at]
    at += 1
    if size > 0x7F:
        size, at = read_varint(data, at - 1)
    stop = at + size
    if stop > end:
        refuse_overrun(at, end)
    return data[at:stop], stop


def read_text(raw: bytes, stop: int, what: str) -> str:
    """Decode the text that ended at ``stop``."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise SparkplugDecodeError(f"{what} is not UTF-8", stop - len(raw) + error.start) from None


def skip_field(data: bytes, at: int, end: int) -> int:
    """Return where the field that begins at ``at`` ends."""
    begin = at
    groups: list[int] = []
    while True:
        tag, at = read_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise SparkplugDecodeError(f"a field of the impossible number {number}", begin)
        if wire_type == 0:
            _, at = read_varint(data, at)
        elif wire_type == 1:
            at += 8
        elif wire_type == 2:
            size, at = read_varint(data, at)
            at += size
        elif wire_type == 3:
            groups.append(number)
            if len(groups) > MAX_NESTING:
                raise SparkplugDecodeError(f"groups nested deeper than {MAX_NESTING}", begin)
        elif wire_type == 4:
            if not groups or groups.pop() != number:
                raise SparkplugDecodeError("the end of a group that did not begin", begin)
        elif wire_type == 5:
            at += 4
        else:
            raise SparkplugDecodeError(f"a field of the unknown wire type {wire_type}", begin)
        if at > end:
            refuse_overrun(begin, end)
        if not groups:
            return at


def refuse_overrun(at: int, end: int) -> NoReturn:
    """Raise what says that a field at ``at`` is longer than its message."""
    raise SparkplugDecodeError(f"a field reaches beyond its message, which ends at byte {end}", at)
