"""What a payload holds: JSON, and what its values and keys become. Pure functions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import msgspec

from shopfloor.block import STATUS_NOT_CONVERTIBLE
from shopfloor.wire import DEFAULT_LIMITS

EXACT_INTEGER: Final = 2**53
"""Integers beyond this are not all exact as a double."""
MAX_TEXT_BYTES: Final = DEFAULT_LIMITS.text_bytes
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
    except (msgspec.MsgspecError, UnicodeDecodeError):
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


def tidy_segment(text: str) -> str:
    """Return a topic level as one segment of a signal name, as far as it can be one; valid ones stay as they are."""
    return _FOREIGN.sub("_", text.lower()).lstrip("_")


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
    try:
        return _text(("true" if raw else "false") if type(raw) is bool else str(raw)[:400])
    except ValueError:
        # The sum of two integers can have more digits than Python writes.
        return NOT_CONVERTIBLE


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
