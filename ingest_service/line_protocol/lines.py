"""Line protocol read point by point, as its specification says; `columns` does the same in bulk for ordinary lines.

Source: InfluxDB OSS v2 documentation, "Line protocol"; where it is silent, the behaviour of InfluxDB 1.8's parser.
Two things differ from it, so that one bad line spoils no other: an unclosed quote ends at its own line, and NaN and
infinities are read (as null, BAD) instead of refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container
from typing import Final, NamedTuple

from shopfloor.wire import DEFAULT_LIMITS

MAX_TEXT_BYTES: Final = DEFAULT_LIMITS.text_bytes
_MAX_KEY_BYTES: Final = 65_535
"""InfluxDB's own limit of measurement and tags together."""
_NEWLINE: Final = 0x0A
MAX_FLOAT_BYTES: Final = 400
MAX_INTEGER_DIGITS: Final = 40
"""So many are looked at, of times as well; leading zeros count."""
_SHOWN_CHARACTERS: Final = 120

# Possessive quantifiers: no input makes these patterns take more than linear time.
_BLANK: Final = re.compile(rb"[ \t\0]*+")
_KEY: Final = re.compile(rb"(?:[^\\ \n]++|\\[^\n]?+)++")
_FIELD_KEY: Final = re.compile(rb"(?:[^\\ ,=\n]++|\\[^\n]?+)*+")
_TEXT: Final = re.compile(rb'(?:[^"\\]++|\\[\s\S])*+')
_WORD: Final = re.compile(rb"[^ ,\n]*+")
_REST: Final = re.compile(rb"[^\n]*+")
_TIME: Final = re.compile(rb"-?[0-9]{1,%d}" % MAX_INTEGER_DIGITS)
_FLOAT: Final = re.compile(rb"-?(?:[0-9]++\.?+[0-9]*+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?")
_INTEGER: Final = re.compile(rb"(-?[0-9]{1,%d})i" % MAX_INTEGER_DIGITS)
_UNSIGNED: Final = re.compile(rb"([0-9]{1,%d})u" % MAX_INTEGER_DIGITS)
_NAME_ESCAPE: Final = re.compile(rb"\\([, =])")
_MEASUREMENT_ESCAPE: Final = re.compile(rb"\\([, ])")
_TEXT_ESCAPE: Final = re.compile(rb'\\(["\\])')
_COMMA: Final = re.compile(rb"\\[\s\S]?|,")
_EQUALS: Final = re.compile(rb"\\[\s\S]?|=")
BOOLEANS: Final = {
    **dict.fromkeys((b"t", b"T", b"true", b"True", b"TRUE"), 1.0),
    **dict.fromkeys((b"f", b"F", b"false", b"False", b"FALSE"), 0.0),
}
_NO_NUMBERS: Final = frozenset(
    sign + word for sign in (b"", b"+", b"-") for word in (b"nan", b"inf", b"infinity")
)


class LineFault(ValueError):
    """A line that is no line protocol; the message says why, in InfluxDB's words where it has some."""


class Key(NamedTuple):
    """What stands before the fields."""

    measurement: str
    tags: dict[str, str]


class Field(NamedTuple):
    """One field of a line: ``value`` is NaN for a text, and for NaN and infinities."""

    name: str
    value: float
    text: str | None = None


class Point(NamedTuple):
    """One line."""

    key: bytes
    """Measurement and tags as they were written; `read_key` reads them."""
    fields: list[Field]
    time: int | None
    """UTC ns; None where the line has no time."""


def fault_text(raw: bytes, fault: LineFault) -> str:
    """Return the message that names a line, as InfluxDB words it."""
    shown = raw.decode("utf-8", "backslashreplace")
    shown = shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}..."
    return f"unable to parse '{shown}': {fault}"


def skip_blank(body: bytes, at: int) -> int:
    """Return where the next line with content begins at or after ``at``: behind blank lines and comments."""
    while at < len(body):
        at = _BLANK.match(body, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        if body.startswith(b"#", at):
            at = line_end(body, at)
        if body.startswith(b"\r", at) and (at + 1 == len(body) or body[at + 1] == _NEWLINE):
            at += 1
        if not body.startswith(b"\n", at):
            return at
        at += 1
    return at


def line_end(body: bytes, at: int) -> int:
    """Return where the physical line ends that ``at`` lies in: at its newline, or at the end of the body."""
    end = body.find(b"\n", at)
    return len(body) if end < 0 else end


def read_point(
    body: bytes, at: int, multiplier: int, known: Container[bytes] = frozenset()
) -> tuple[Point, int]:
    """Read the point that begins at ``at`` (no blank line, no comment).

    Args:
        body: the whole body; a text in quotes may hold newlines.
        at: where the line's first byte is.
        multiplier: nanoseconds of one unit of the lines' times.
        known: keys that `read_key` takes, so that they are not read again.

    Returns:
        The point, and where it ends: at the newline behind it or at the end of the body.

    Raises:
        LineFault: the line is no line protocol.
    """
    found = _KEY.match(body, at)
    key = found.group().removesuffix(b"\r") if found else b""
    if key not in known:
        read_key(key)
    at = _spaces(body, at + len(key))
    fields: list[Field] = []
    while True:
        field, at = _field(body, at)
        fields.append(field)
        if not body.startswith(b",", at):
            break
        at += 1
    at = _spaces(body, at)
    time, at = _time(body, at, multiplier)
    at = _spaces(body, at)
    if body.startswith(b"\r", at) and line_end(body, at) == at + 1:
        at += 1
    if at < len(body) and body[at] != _NEWLINE:
        raise LineFault("bad timestamp" if time is None else "unexpected text after the timestamp")
    return Point(key, fields, time), at


def read_key(raw: bytes) -> Key:
    """Return measurement and tags; raises LineFault."""
    if len(raw) > _MAX_KEY_BYTES:
        raise LineFault(f"max key length exceeded: {len(raw)} > {_MAX_KEY_BYTES}")
    measurement, *parts = _split(raw, _COMMA)
    if not measurement:
        raise LineFault("missing measurement")
    tags: dict[str, str] = {}
    for part in parts:
        name, *values = _split(part, _EQUALS)
        if not name:
            raise LineFault("missing tag key")
        if not values or values == [b""]:
            raise LineFault("missing tag value")
        if len(values) > 1:
            raise LineFault("invalid tag format")
        text = _text(_NAME_ESCAPE, name)
        if text in tags:
            raise LineFault("duplicate tags")
        tags[text] = _text(_NAME_ESCAPE, values[0])
    return Key(_text(_MEASUREMENT_ESCAPE, measurement), tags)


def _spaces(body: bytes, at: int) -> int:
    return _BLANK.match(body, at).end()  # type: ignore[union-attr]  # it matches nothing, too


def _field(body: bytes, at: int) -> tuple[Field, int]:
    found = _FIELD_KEY.match(body, at)
    name = found.group() if found else b""
    at += len(name)
    if not body.startswith(b"=", at):
        raise LineFault("missing field value" if name.strip() else "missing fields")
    if not name:
        raise LineFault("missing field key")
    at += 1
    if not body.startswith(b'"', at):
        word = _WORD.match(body, at).group()  # type: ignore[union-attr]  # it matches nothing, too
        at += len(word)
        if word.endswith(b"\r") and (at == len(body) or body[at] == _NEWLINE):
            word, at = word[:-1], at - 1
        return Field(_text(_NAME_ESCAPE, name), _number(word)), at
    raw = _TEXT.match(body, at + 1).group()  # type: ignore[union-attr]  # it matches nothing, too
    at += 1 + len(raw)
    if not body.startswith(b'"', at):
        raise LineFault("unbalanced quotes")
    at += 1
    if at < len(body) and body[at] not in b", \r\n":
        raise LineFault("invalid field format")
    if len(raw) > MAX_TEXT_BYTES:
        raise LineFault(f"a text of {len(raw)} bytes; at most {MAX_TEXT_BYTES} are taken")
    return Field(_text(_NAME_ESCAPE, name), math.nan, _text(_TEXT_ESCAPE, raw)), at


def _number(word: bytes) -> float:
    if not word:
        raise LineFault("missing field value")
    value = BOOLEANS.get(word)
    if value is not None:
        return value
    if len(word) <= MAX_FLOAT_BYTES and _FLOAT.fullmatch(word):
        value = float(word)
        if math.isinf(value):
            raise LineFault("invalid float: value out of range")
        return value
    if found := _INTEGER.fullmatch(word):
        integer = int(found[1])
        if not -(2**63) <= integer < 2**63:
            raise LineFault("unable to parse integer: value out of range")
        return float(integer)
    if found := _UNSIGNED.fullmatch(word):
        integer = int(found[1])
        if integer >= 2**64:
            raise LineFault("unable to parse unsigned: value out of range")
        return float(integer)
    if word.lower() in _NO_NUMBERS:
        return math.nan
    raise LineFault("invalid boolean" if word[:1] in b"tTfF" else "invalid number")


def _time(body: bytes, at: int, multiplier: int) -> tuple[int | None, int]:
    found = _TIME.match(body, at)
    if found is None:
        return None, at
    time = int(found.group()) * multiplier
    if not -(2**63) <= time < 2**63:
        raise LineFault("time outside range")
    return time, found.end()


def _split(raw: bytes, separator: re.Pattern[bytes]) -> list[bytes]:
    """Split where the separator stands without a backslash before it."""
    if b"\\" not in raw:
        return raw.split(separator.pattern[-1:])
    parts: list[bytes] = []
    start = 0
    for found in separator.finditer(raw):
        if found.group()[:1] != b"\\":
            parts.append(raw[start : found.start()])
            start = found.end()
    parts.append(raw[start:])
    return parts


def _text(escape: re.Pattern[bytes], raw: bytes) -> str:
    try:
        return (escape.sub(rb"\1", raw) if b"\\" in raw else raw).decode()
    except UnicodeDecodeError as error:
        raise LineFault("not UTF-8") from error
