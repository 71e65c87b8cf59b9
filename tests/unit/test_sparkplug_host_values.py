"""What values, qualities, times and units of Sparkplug metrics mean, and which names their signals get."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edge_agent.normalise import NO_TIME
from edge_agent.sources.sparkplug.catalogue import Catalogue
from edge_agent.sources.sparkplug.values import is_scalar, status_of, time_of, unit_of, value_of
from shopfloor.block import STATUS_NOT_CONVERTIBLE
from shopfloor.sparkplug import DataType, Metric, Payload, Unsupported, decode_payload, encode_payload
from tests.integration.sparkplug_edge_node import config


@pytest.mark.parametrize(
    ("datatype", "raw", "expected"),
    [
        (DataType.Int8, -128, -128.0),
        (DataType.Int16, -300, -300.0),
        (DataType.Int32, -(2**31), -(2.0**31)),
        (DataType.Int64, -1, -1.0),
        (DataType.UInt8, 255, 255.0),
        (DataType.UInt32, 2**32 - 1, 2.0**32 - 1),
        (DataType.UInt64, 2**53, 2.0**53),
        (DataType.Float, 0.1, 0.10000000149011612),
        (DataType.Double, 0.1, 0.1),
        (DataType.Boolean, True, 1.0),
        (DataType.Boolean, False, 0.0),
        (DataType.DateTime, 1_763_778_000_500, 1_763_778_000.5),
    ],
)
@pytest.mark.parametrize("datatypes", [True, False], ids=["typed", "untyped"])
def test_scalars_come_through_the_codec_unchanged(
    datatype: DataType, raw: Any, expected: float, datatypes: bool
) -> None:
    """As a birth has them, and as data have them: without their type."""
    payload = encode_payload(Payload(1, (Metric("a", None, 1, datatype, raw),)), datatypes=datatypes)
    value = value_of(decode_payload(payload).metrics[0], datatype)
    assert value is not None
    assert (value.value, value.status, value.text, value.rounded) == (expected, 0, None, False)


@pytest.mark.parametrize("datatype", [DataType.String, DataType.Text, DataType.UUID])
def test_texts_stay_texts(datatype: DataType) -> None:
    value = value_of(Metric("a", value="Khuôn 7"), datatype)
    assert value is not None
    assert value.text == "Khuôn 7"
    too_long = value_of(Metric("a", value="x" * 70_000), datatype)
    assert too_long is not None
    assert too_long.status == STATUS_NOT_CONVERTIBLE


def test_large_integers_are_rounded_and_say_so() -> None:
    value = value_of(Metric("a", value=2**53 + 1), DataType.UInt64)
    assert value is not None
    assert (value.value, value.rounded) == (2.0**53, True)


def test_scaled_values() -> None:
    scaled = value_of(Metric("a", value=11_250), DataType.UInt32, 0.001, 1.0)
    assert scaled is not None
    assert scaled.value == 12.25
    text = value_of(Metric("a", value="eleven"), DataType.String, 0.001)
    assert text is not None
    assert text.status == STATUS_NOT_CONVERTIBLE
    null = value_of(Metric("a", is_null=True), DataType.UInt32, 0.001)
    assert null is not None
    assert null.is_null
    assert math.isnan(null.value)


@pytest.mark.parametrize("raw", [None, b"12", Unsupported("Template")])
def test_what_is_no_scalar_is_nothing(raw: Any) -> None:
    assert value_of(Metric("a", value=raw), DataType.Bytes) is None


@pytest.mark.parametrize("datatype", [None, 0, 16, 17, 18, 19, 20, 21, 22, 34, 99])
def test_data_sets_templates_bytes_and_arrays_are_no_scalars(datatype: int | None) -> None:
    assert not is_scalar(datatype)
    assert is_scalar(DataType.UUID)


def test_qualities_become_status_codes() -> None:
    assert [status_of(each) for each in (None, {}, {"Quality": 192}, {"Quality": "0"})] == [0, 0, 0, 0]
    assert status_of({"Quality": 0}) >> 30 == 2
    assert status_of({"Quality": 500}) == 0x4090_0000


def test_times_are_milliseconds() -> None:
    assert time_of(1_763_778_000_123) == 1_763_778_000_123_000_000
    assert time_of(None) == time_of(2**64 - 1) == NO_TIME


def test_units_are_what_the_birth_says() -> None:
    assert unit_of({"engUnit": " kN "}) == "kN"
    assert [unit_of(each) for each in (None, {}, {"engUnit": 7}, {"engUnit": "x" * 61})] == [""] * 4


def _born(catalogue: Catalogue, name: str, datatype: int = DataType.Double, **fields: Any) -> str | None:
    publisher = catalogue.publisher("VN01/line-a/IMM_1")
    assert publisher is not None
    slot = catalogue.born(publisher, Metric(name, None, 1, datatype, **fields))
    return None if slot is None else str(slot.key)


@pytest.mark.parametrize(
    ("metric", "signal"),
    [
        ("Barrel/Zone 1/Temperature", "barrel.zone_1.temperature"),
        ("energy.active_power", "energy.active_power"),
        ("CycleTime", "cycle_time"),
        ("Nhiệt độ", "nhi_t"),
        ("//", "x.x.x"),
        ("a/b/c/d/e/f/g/h/i/j", "a.b.c.d.e.f.g.h_i_j"),
    ],
)
def test_metric_names_become_signal_names(metric: str, signal: str) -> None:
    assert _born(Catalogue(config()), metric) == f"acme/vn01/moulding/cell-a/imm_1:{signal}"


@pytest.mark.parametrize("name", ["bdSeq", "Node Control/Rebirth", "Device Control/Scan Rate", ""])
def test_commands_and_bookkeeping_are_no_signals(name: str) -> None:
    catalogue = Catalogue(config())
    assert _born(catalogue, name) is None
    assert not catalogue.counts


def test_two_metrics_never_share_a_signal() -> None:
    catalogue = Catalogue(config())
    assert _born(catalogue, "Zone 1") is not None
    assert _born(catalogue, "zone_1") is None
    assert _born(catalogue, "zone_1") is None
    assert _born(catalogue, "Zone 1") is not None
    assert catalogue.counts == {"name_collision": 1}


def test_signals_are_bounded() -> None:
    publisher = {"descriptor": "{g}/{e}/{d}", "asset": "acme", "metrics": "all", "max_metrics": 2}
    catalogue = Catalogue(config(publishers=[publisher]))
    assert [_born(catalogue, f"m{number}") is None for number in range(4)] == [False, False, True, True]
    assert _born(catalogue, "m0") is not None
    assert catalogue.counts == {"too_many_signals": 2}


def test_units_of_the_configuration_come_before_those_of_the_birth() -> None:
    publisher = {
        "descriptor": "VN01/line-a/IMM_1",
        "asset": "acme/imm-1",
        "metrics": [
            {"metric": "A", "signal": "a", "unit": "kW", "scale": 0.001, "description": "power"},
            {"metric": "B", "signal": "b"},
            {"metric": "C", "signal": "c", "scale": 0.001},
        ],
    }
    catalogue = Catalogue(config(publishers=[publisher]))
    # A declaration travels once: those whose unit only the birth knows wait for it.
    assert [each.signal for each in catalogue.declared.values()] == ["a"]
    for name in "ABCD":
        _born(catalogue, name, properties={"engUnit": "W"})
    assert [(each.signal, each.unit, each.description) for each in catalogue.declared.values()] == [
        ("a", "kW", "power"),
        ("b", "W", ""),
        ("c", "", ""),
    ]


def test_devices_without_a_valid_asset_are_counted() -> None:
    publisher = {"descriptor": "{g}/{e}/{d}", "asset": "acme/{d}", "metrics": "all"}
    catalogue = Catalogue(config(publishers=[publisher]))
    assert catalogue.publisher("VN01/line-a/Press 1") is None
    assert catalogue.publisher("VN01/line-a/press-1") is not None
    assert catalogue.counts == {"invalid_asset": 1}
    # That an edge node's own metrics are not wanted is nothing to complain of.
    assert catalogue.publisher("VN01/line-a") is None
    assert catalogue.counts == {"invalid_asset": 1}
