"""What stands in a payload: JSON, paths into it, and the times and values found there. Pure functions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from shopfloor.block import STATUS_NOT_CONVERTIBLE
from shopfloor.wire import DEFAULT_LIMITS

MISSING: Final = object()
"""What `find` returns where a path leads nowhere."""
EXACT_INTEGER: Final = 2**53
"""Integers beyond this are not all exact as a double."""
MAX_TEXT_BYTES: Final = DEFAULT_LIMITS.text_bytes
_DEPTH: Final = 32
"""How deep `leaves` goes into nested objects."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_decode: Final = msgspec.json.decode


class UnusablePayload(ValueError):
    """A payload that is not the JSON it should be; the message says why, without its content."""


def decode_json(payload: bytes) -> Any:
    """Return what a JSON payload holds; NaN, Infinity, 1e400 and a byte order mark are understood.

    Raises:
        UnusablePayload: the payload is something else, or nested too deeply.
    """
    try:
        return _decode(payload)
    except RecursionError:
        raise UnusablePayload("nested too deeply") from None
    except msgspec.MsgspecError:
        pass
    # Only payloads that the fast, strict parser refused come here: many machines print NaN.
    try:
        return json.loads(payload)
    except RecursionError:
        raise UnusablePayload("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise UnusablePayload(f"{error.msg} at character {error.pos}") from None
    except UnicodeDecodeError as error:
        raise UnusablePayload(f"not UTF-8 at byte {error.start}") from None
    except ValueError:
        raise UnusablePayload("a number has too many digits") from None


Finder = Callable[[Any], Any]


def finder(path: str) -> Finder:
    """Return the function that finds what lies at ``path`` in a decoded payload, MISSING where nothing does.

    A path is keys and list indices joined by dots; a key of the outermost object that itself contains dots is
    found as it stands. The empty path is the whole payload.
    """
    if not path:
        return lambda payload: payload
    steps = path.split(".")
    if len(steps) == 1:
        return lambda payload: _step(payload, path)

    def find(payload: Any) -> Any:
        found = payload
        for step in steps:
            found = _step(found, step)
            if found is MISSING:
                return _step(payload, path)
        return found

    return find


def _step(value: Any, step: str) -> Any:
    if type(value) is dict:
        return value.get(step, MISSING)
    if type(value) is list and step.isascii() and step.isdigit() and len(step) < 10:
        index = int(step)
        return value[index] if index < len(value) else MISSING
    return MISSING


def leaves(payload: Any) -> Iterator[tuple[str, Any]]:
    """Yield path and value of every number, boolean, text and null in nested objects, in order; lists are left out."""
    if type(payload) is dict:
        yield from _leaves(payload, "", _DEPTH)


def _leaves(node: dict[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        path = f"{prefix}{key}"
        if type(value) is dict:
            if depth:
                yield from _leaves(value, path + ".", depth - 1)
        elif type(value) is not list:
            yield path, value


_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_FOREIGN: Final = re.compile(r"[^a-z0-9_]+")


def signal_of(path: str) -> str:
    """Return a path as a signal name as far as it can be one: ``ENERGY.TotalStartTime`` is ``energy.total_start_time``."""
    segments = []
    for key in path.split("."):
        segment = _FOREIGN.sub("_", _WORDS.sub("_", key).lower()).strip("_")
        segments.append(segment[:63].rstrip("_") or "x")
    if len(segments) > 8:
        segments[7:] = ["_".join(segments[7:])[:63]]
    return ".".join(segments)


class Value(NamedTuple):
    """What a raw value means as a sample: ``value`` is NaN where it is null, text or unusable."""

    value: float
    status: int = 0
    text: str | None = None
    is_null: bool = False
    rounded: bool = False
    """Whether an integer beyond 2**53 became the nearest double."""


NULL: Final = Value(math.nan, is_null=True)
NOT_CONVERTIBLE: Final = Value(math.nan, STATUS_NOT_CONVERTIBLE)
Converter = Callable[[Any], Value]
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_WORD_NUMBERS: Final = frozenset({"nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"})


def convert(raw: Any) -> Value:
    """Return a decoded JSON value as it is: numbers, booleans as 1 and 0, text, null.

    Objects and lists are STATUS_NOT_CONVERTIBLE.
    """
    kind = type(raw)
    if kind is float:
        return Value(raw)
    if kind is int:
        return _integer(raw)
    if kind is str:
        return _text(raw)
    if kind is bool:
        return Value(float(raw))
    return NULL if raw is None else NOT_CONVERTIBLE


def converter(
    kind: Literal["auto", "number", "text"],
    *,
    decimal_comma: bool = False,
    scale: float = 1.0,
    offset: float = 0.0,
) -> Converter:
    """Return the function that makes a decoded JSON value what a configured signal says it is."""
    if kind == "text":
        return _as_text
    neutral = scale == 1.0 and offset == 0.0
    if kind == "auto" and neutral and not decimal_comma:
        return convert

    def number(raw: Any) -> Value:
        value = convert(raw)
        if value.text is not None:
            value = _spelled(value.text, decimal_comma=decimal_comma)
            if value.status and kind == "auto" and neutral:
                return convert(raw)
        return value if neutral else value._replace(value=value.value * scale + offset)

    return number


def _integer(raw: int) -> Value:
    if -EXACT_INTEGER <= raw <= EXACT_INTEGER:
        return Value(float(raw))
    try:
        nearest = float(raw)
    except OverflowError:
        return Value(math.inf)
    return Value(nearest, rounded=nearest != raw)


def _text(raw: str) -> Value:
    if len(raw) > MAX_TEXT_BYTES:
        return NOT_CONVERTIBLE
    if not raw.isascii():
        try:
            if len(raw.encode()) > MAX_TEXT_BYTES:
                return NOT_CONVERTIBLE
        except UnicodeEncodeError:
            # A lone surrogate ("\ud800"): no text that could be stored or sent on.
            return NOT_CONVERTIBLE
    return Value(math.nan, text=raw)


def _as_text(raw: Any) -> Value:
    value = convert(raw)
    if value.text is not None or value.is_null or value.status:
        return value
    return _text(("true" if raw else "false") if type(raw) is bool else str(raw)[:400])


def _spelled(text: str, *, decimal_comma: bool) -> Value:
    text = text.strip()
    if text.lower() in _WORD_NUMBERS:
        return Value(float(text))
    if decimal_comma:
        text = text.replace(",", ".", 1)
    if len(text) > 400 or not _NUMBER.fullmatch(text):
        return NOT_CONVERTIBLE
    try:
        return _integer(int(text))
    except ValueError:
        return Value(float(text))


TimeReader = Callable[[Any], int | None]
_SCALE_NS: Final = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_FRACTION: Final = re.compile(r"([^.,]+)[.,](\d{1,18})(.*)", re.ASCII)


def time_reader(form: Literal["s", "ms", "us", "ns", "iso"], zone: str | None = None) -> TimeReader:
    """Return the function that reads a machine's time as UTC ns; None where the value is no such time.

    Numbers with a fraction are taken to the microsecond, which is what a double holds today; text to the
    nanosecond.
    """
    if form == "iso":
        local = ZoneInfo(zone) if zone else None
        return lambda raw: _iso(raw, local) if type(raw) is str else None
    unit = _SCALE_NS[form]

    def read(raw: Any) -> int | None:
        kind = type(raw)
        if kind is int:
            return _in_range(raw * unit)
        if kind is float and math.isfinite(raw):
            return _in_range(round(raw * (unit / 1_000)) * 1_000 if unit > 1 else round(raw))
        if kind is str and len(raw) < 40:
            try:
                number = Decimal(raw.strip())
                return (
                    _in_range(int(number * unit)) if number.is_finite() and number.adjusted() < 40 else None
                )
            except InvalidOperation:
                return None
        return None

    return read


def _iso(text: str, local: tzinfo | None) -> int | None:
    fraction_ns = 0
    if match := _FRACTION.fullmatch(text.strip()):
        text = match[1] + match[3]
        fraction_ns = int(match[2][:9].ljust(9, "0"))
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            if local is None:
                return None
            moment = moment.replace(tzinfo=local)
        seconds = (moment - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError):
        return None
    return _in_range(seconds * 1_000_000_000 + fraction_ns)


def _in_range(time_ns: int) -> int | None:
    return time_ns if -(2**63) < time_ns < 2**63 else None
