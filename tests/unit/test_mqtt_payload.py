"""Payloads: JSON as machines print it, paths, values and times."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sources.mqtt.payload import (
    MAX_TEXT_BYTES,
    MISSING,
    UnusablePayload,
    convert,
    converter,
    decode_json,
    finder,
    leaves,
    signal_of,
    time_reader,
)
from shopfloor.block import STATUS_NOT_CONVERTIBLE
from shopfloor.signal import parse_signal


def test_json_as_machines_print_it() -> None:
    assert decode_json(b'{"a": 1, "a": 2}') == {"a": 2}
    assert decode_json(b"\xef\xbb\xbf21.5") == 21.5
    assert math.isnan(decode_json(b'{"a": NaN}')["a"])
    assert decode_json(b"[-Infinity, 1e400]") == [-math.inf, math.inf]
    assert decode_json(b"123456789012345678901234567890") == 123456789012345678901234567890


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"{'a': 1}", "at character"),
        (b'{"a": 1', "at character"),
        (b"\xff\xfe{}x", "UTF|utf|at character"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[NaN, " + b"9" * 5000 + b"]", "too many digits"),
        (b'{"secret": "hunter2"', "at character"),
    ],
)
def test_what_is_no_json_is_named_without_its_content(payload: bytes, why: str) -> None:
    with pytest.raises(UnusablePayload, match=why) as caught:
        decode_json(payload)
    assert "hunter2" not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_unusable(payload: bytes) -> None:
    with contextlib.suppress(UnusablePayload):
        decode_json(payload)


def test_paths() -> None:
    payload = {"a": {"b": [1, {"c": 2}]}, "x.y": 3, "em:0": 4, "5": 6}
    assert finder("")(payload) is payload
    assert finder("em:0")(payload) == 4
    assert finder("a.b.1.c")(payload) == 2
    assert finder("x.y")(payload) == 3
    assert finder("5")(payload) == 6
    assert finder("")(21.5) == 21.5
    for path in (
        "nothing",
        "a.b.2",
        "a.b.-1",
        "a.b.c",
        "a.x.y",
        "em:0.x",
        "a.b.99999999999999999999",
        "a.b.²",
    ):
        assert finder(path)(payload) is MISSING
    assert finder("a")(21.5) is MISSING


def test_leaves_are_all_values_outside_of_lists() -> None:
    payload = {"a": 1, "b": {"c": "x", "d": {"e": None}}, "f": [1, 2], "g": True}
    assert list(leaves(payload)) == [("a", 1), ("b.c", "x"), ("b.d.e", None), ("g", True)]
    assert list(leaves([1])) == []


@pytest.mark.parametrize(
    ("path", "signal"),
    [
        ("power", "power"),
        ("ENERGY.TotalStartTime", "energy.total_start_time"),
        ("em:0.act_power", "em_0.act_power"),
        ("T °C", "t_c"),
        ("温度", "x"),
        ("_a_", "a"),
        ("a..b", "a.x.b"),
        ("1.2.3.4.5.6.7.8.9", "1.2.3.4.5.6.7.8_9"),
    ],
)
def test_keys_become_signal_names(path: str, signal: str) -> None:
    assert signal_of(path) == signal


@given(st.text(max_size=200))
def test_any_key_becomes_a_valid_signal_name(path: str) -> None:
    assert parse_signal(signal_of(path))


def test_values_as_they_are() -> None:
    assert convert(1.5).value == 1.5
    assert convert(True).value == 1.0
    assert convert(False).value == 0.0
    assert convert(None).is_null
    assert convert("on").text == "on"
    assert math.isnan(convert("on").value)
    unusable: list[Any] = [{}, [1], "x" * (MAX_TEXT_BYTES + 1), "é" * MAX_TEXT_BYTES, "\ud800"]
    for odd in unusable:
        assert convert(odd).status == STATUS_NOT_CONVERTIBLE
        assert math.isnan(convert(odd).value)


def test_integers_are_exact_to_2_53_and_then_the_nearest_double() -> None:
    assert convert(2**53) == convert(float(2**53))
    assert convert(2**53 + 1).rounded
    assert convert(2**53 + 1).value == 2.0**53
    assert not convert(2**60).rounded
    assert convert(10**400).value == math.inf


@pytest.mark.parametrize(
    ("raw", "comma", "value"),
    [
        ("12.5", False, 12.5),
        (" -3 ", False, -3.0),
        ("1e3", False, 1000.0),
        ("12,5", True, 12.5),
        ("12.5", True, 12.5),
        (".5", False, 0.5),
        (7, False, 7.0),
        (True, False, 1.0),
        ("-inf", False, -math.inf),
    ],
)
def test_numbers_written_as_text(raw: Any, comma: bool, value: float) -> None:
    assert converter("number", decimal_comma=comma)(raw).value == value


@pytest.mark.parametrize("raw", ["12,5", "", "1_000", "0x10", "12.5 C", "١٢", "1e99999", "9" * 500, {}])
def test_text_that_is_no_number(raw: Any) -> None:
    assert converter("number")(raw).status == STATUS_NOT_CONVERTIBLE


def test_nan_as_text_is_a_machines_nan() -> None:
    sample = converter("number")("NaN")
    assert math.isnan(sample.value)
    assert sample.status == 0
    assert not sample.is_null


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_scaling_is_exactly_raw_times_scale_plus_offset(raw: float, scale: float, offset: float) -> None:
    made = converter("auto", scale=scale, offset=offset)(raw).value
    assert made == raw * scale + offset or scale == 1.0


def test_a_scaled_signal_is_a_number() -> None:
    make = converter("auto", scale=0.001)
    assert make("off").status == STATUS_NOT_CONVERTIBLE
    assert make("2000").value == 2.0
    assert make(None).is_null


def test_a_decimal_comma_alone_leaves_text_alone() -> None:
    make = converter("auto", decimal_comma=True)
    assert make("12,5").value == 12.5
    assert make("off").text == "off"


def test_everything_as_text() -> None:
    make = converter("text")
    assert [make(raw).text for raw in ("007", 7, True, 1.5)] == ["007", "7", "true", "1.5"]
    assert make(None).is_null
    assert make({}).status == STATUS_NOT_CONVERTIBLE


@pytest.mark.parametrize(
    ("form", "raw", "time_ns"),
    [
        ("ms", 1763778000123, 1763778000123_000_000),
        ("s", 1763778000, 1763778000_000_000_000),
        ("s", 1763778000.123456, 1763778000_123_456_000),
        ("ms", 1763778000123.25, 1763778000123_250_000),
        ("us", 1763778000123456, 1763778000123456_000),
        ("ns", 1763778000123456789, 1763778000123456789),
        ("ms", "1763778000123", 1763778000123_000_000),
        ("s", "1763778000.123456789", 1763778000_123_456_789),
        ("s", 0, 0),
        ("s", -1, -1_000_000_000),
        ("iso", "2025-11-22T02:20:00Z", 1763778000_000_000_000),
        ("iso", "2025-11-22T10:20:00.123456789+08:00", 1763778000_123_456_789),
        ("iso", "2025-11-22 02:20:00,5Z", 1763778000_500_000_000),
        ("iso", "1969-12-31T23:59:59.25Z", -750_000_000),
    ],
)
def test_times(form: Literal["s", "ms", "us", "ns", "iso"], raw: Any, time_ns: int) -> None:
    assert time_reader(form)(raw) == time_ns


@pytest.mark.parametrize(
    ("form", "raw"),
    [
        ("ms", "yesterday"),
        ("ms", None),
        ("ms", True),
        ("ms", {}),
        ("ms", 10**30),
        ("s", math.nan),
        ("s", 1e300),
        ("s", "1e999999999"),
        ("s", "NaN"),
        ("iso", 5),
        ("iso", "2025-11-22T10:20:00"),
        ("iso", "2025-13-01T00:00:00Z"),
        ("iso", "9999-12-31T00:00:00Z"),
        ("iso", ""),
    ],
)
def test_what_is_no_time(form: Literal["s", "ms", "us", "ns", "iso"], raw: Any) -> None:
    assert time_reader(form)(raw) is None


def test_local_time_needs_a_zone() -> None:
    assert time_reader("iso", "Asia/Hong_Kong")("2025-11-22T10:20:00") == 1763778000_000_000_000


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=3)
)
def test_any_json_value_converts_without_raising(raw: Any) -> None:
    decoded = decode_json(json.dumps(raw).encode())
    for make in (convert, converter("number", scale=2.0), converter("text")):
        make(decoded)
    for form in ("s", "ns", "iso"):
        time_reader(form)(decoded)
