"""Variables and macros in queries, replaced as Grafana replaces them."""

from __future__ import annotations

import pytest

from dashboards.grafana.checking.interpolation import (
    Everything,
    Span,
    filled,
    interval_ms,
    macros,
    milliseconds,
)

HOUR = Span(1_764_000_000_000, 1_764_003_600_000)


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("=~ /^${cell:regex}$/", "imm-01", "=~ /^imm-01$/"),
        ("=~ /^${cell:regex}$/", ["imm-01"], "=~ /^imm-01$/"),
        ("=~ /^${cell:regex}$/", ["a.b", "c/d"], r"=~ /^(a\.b|c\/d)$/"),
        ("=~ /^${cell:regex}$/", "a'b\"c", "=~ /^a'b\"c$/"),
        ("=~ /^${cell:regex}$/", Everything(".*"), "=~ /^.*$/"),
        ("=~`${cell:regex}`", "a\\b", r"=~`a\\b`"),
        ("tz('${cell}')", "Asia/Hong_Kong", "tz('Asia/Hong_Kong')"),
    ],
)
def test_variables(text: str, value: str | list[str] | Everything, expected: str) -> None:
    assert filled(text, {"cell": value}) == expected


def test_an_unknown_variable_or_format_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="nobody"):
        filled("$nobody", {})
    with pytest.raises(ValueError, match="sqlstring"):
        filled("${cell:sqlstring}", {"cell": "a"})


@pytest.mark.parametrize("value", ["it's", "a b", ["a", "b"]])
def test_what_each_data_source_would_escape_differently_needs_a_format(value: str | list[str]) -> None:
    with pytest.raises(ValueError, match="needs a format"):
        filled("tz('${cell}')", {"cell": value})


def test_macros() -> None:
    text = "SELECT $__interval_ms WHERE $timeFilter AND ${__from} AND [$__range] GROUP BY time($__interval)"
    assert filled(text, macros(HOUR, 30_000)) == (
        "SELECT 30000 WHERE time >= 1764000000000ms and time <= 1764003600000ms AND 1764000000000 AND [3600s] "
        "GROUP BY time(30000ms)"
    )


@pytest.mark.parametrize(
    ("hours", "finest", "expected"),
    [(1, "30s", 30_000), (1, "1s", 5_000), (24, "30s", 120_000), (6, "1h", 3_600_000)],
)
def test_intervals_are_nice_and_not_too_fine(hours: int, finest: str, expected: int) -> None:
    span = Span(HOUR.to_ms - hours * 3_600_000, HOUR.to_ms)
    assert interval_ms(span, finest) == expected


def test_durations() -> None:
    assert milliseconds("2m") == 120_000
    with pytest.raises(ValueError, match="no duration"):
        milliseconds("2 minutes")
