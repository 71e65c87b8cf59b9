"""Variables and macros in queries, replaced as Grafana does it: pure functions.

The format ``regex`` is that of @grafana/scenes' formatRegistry; without a format data sources differ in what they make of a
value, so that only single ones that need no escape may stand there. InfluxQL's ``$timeFilter`` and intervals are those of
Grafana's InfluxDB backend.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)")
_SPECIAL: Final = re.compile(r"[\\^$*+?.()|\[\]{}/]")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_/+\-]*")
"""Time zones, and what else is the same in every language."""
_POINTS: Final = 1000
"""Points that a panel of ordinary width asks for."""
_STEPS_MS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_S: Final = 1000
_NICE_MS: Final = (
    *_STEPS_MS,
    *(n * _S for n in (1, 2, 5, 10, 15, 20, 30)),
    *(n * 60 * _S for n in (1, 2, 5, 10, 15, 20, 30)),
    *(n * 3600 * _S for n in (1, 2, 3, 6, 12)),
    *(n * 86_400 * _S for n in (1, 2, 7)),
)
_UNITS_MS: Final = {"ms": 1, "s": _S, "m": 60 * _S, "h": 3600 * _S, "d": 86_400 * _S}


class Span(NamedTuple):
    """A span of time, UTC ms."""

    from_ms: int
    to_ms: int


class Everything(NamedTuple):
    """What a variable is where all is chosen and it has one expression for that, which no format touches."""

    expression: str


Value = str | Sequence[str] | Everything


def milliseconds(duration: str) -> int:
    """Return the milliseconds of ``30s``, ``2m``, ``1h``; raises ValueError."""
    found = re.fullmatch(r"(\d+)(ms|s|m|h|d)", duration)
    if not found:
        raise ValueError(f"{duration!r} is no duration such as 30s")
    return int(found[1]) * _UNITS_MS[found[2]]


def interval_ms(span: Span, finest: str) -> int:
    """Return the interval that a panel asks for: a nice one, not below its finest."""
    wanted = max((span.to_ms - span.from_ms) // _POINTS, milliseconds(finest))
    return next((one for one in _NICE_MS if one >= wanted), wanted)


def filled(text: str, values: Mapping[str, Value]) -> str:
    """Return a query with variables replaced; raises KeyError where there is no such variable."""

    def one(found: re.Match[str]) -> str:
        value = values[found[1] or found[3]]
        if isinstance(value, Everything):
            return value.expression
        return _formatted(value, found[2] or "")

    return _VARIABLE.sub(one, text)


def macros(span: Span, interval: int) -> dict[str, Value]:
    """Return what Grafana calls the span of time and the interval, for `filled`."""

    # They come out as they are: no format is given with them.
    def plain(text: str) -> Everything:
        return Everything(text)

    return {
        "timeFilter": plain(f"time >= {span.from_ms}ms and time <= {span.to_ms}ms"),
        "__from": plain(str(span.from_ms)),
        "__to": plain(str(span.to_ms)),
        "__interval": plain(f"{interval}ms"),
        "__interval_ms": plain(str(interval)),
        "__range": plain(f"{(span.to_ms - span.from_ms) // _S}s"),
    }


def _formatted(value: str | Sequence[str], how: str) -> str:
    if how == "regex":
        texts = [value] if isinstance(value, str) else list(value)
        escaped = [_SPECIAL.sub(r"\\\g<0>", one) for one in texts]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
    if how:
        raise ValueError(f"the format {how!r} is not known here")
    if not isinstance(value, str) or not _PLAIN.fullmatch(value):
        raise ValueError(f"{value!r} needs a format: data sources escape it each in its own way")
    return value
