"""Payloads: JSON as machines print it, values, and keys as names."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sources.mqtt.payload import (
    MAX_TEXT_BYTES,
    UnusablePayload,
    convert,
    converter,
    decode_json,
    signal_of,
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
        (b'{"machine": "Gr\xfcn"}', "not UTF-8 at byte 15"),
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
    # The sum of two numbers of a payload: Python does not write more than 4300 digits.
    assert make(18 * 10**4299).status == STATUS_NOT_CONVERTIBLE
    assert make(None).is_null
    assert make({}).status == STATUS_NOT_CONVERTIBLE


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=3)
)
def test_any_json_value_converts_without_raising(raw: Any) -> None:
    decoded = decode_json(json.dumps(raw).encode())
    for make in (convert, converter("number", scale=2.0), converter("text")):
        make(decoded)
