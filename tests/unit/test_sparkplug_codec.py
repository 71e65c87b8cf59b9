"""The Sparkplug codec: what it writes it reads, golden bytes mean what they say, and no bytes do harm."""

import json
import math
import struct
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shopfloor.sparkplug import (
    MAX_BYTES,
    MAX_METRICS,
    MAX_NESTING,
    DataType,
    Metric,
    Payload,
    SparkplugDecodeError,
    Unsupported,
    bd_seq_metric,
    bd_seq_of,
    decode_payload,
    encode_payload,
    signed,
)

CASES = Path(__file__).parents[1] / "cases" / "sparkplug"
UINT64 = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INTEGERS = {
    DataType.Int8: st.integers(-(2**7), 2**7 - 1),
    DataType.Int16: st.integers(-(2**15), 2**15 - 1),
    DataType.Int32: st.integers(-(2**31), 2**31 - 1),
    DataType.Int64: st.integers(-(2**63), 2**63 - 1),
    DataType.UInt8: st.integers(0, 2**8 - 1),
    DataType.UInt16: st.integers(0, 2**16 - 1),
    DataType.UInt32: st.integers(0, 2**32 - 1),
    DataType.UInt64: UINT64,
    DataType.DateTime: UINT64,
}
VALUES: dict[DataType, st.SearchStrategy[object]] = {
    **INTEGERS,
    DataType.Float: st.floats(width=32),
    DataType.Double: st.floats(),
    DataType.Boolean: st.booleans(),
    DataType.String: TEXT,
    DataType.Text: TEXT,
    DataType.UUID: TEXT,
    DataType.Bytes: st.binary(max_size=200),
    DataType.File: st.binary(max_size=20),
    **{
        datatype: st.binary(max_size=20)
        for datatype in DataType
        if DataType.Int8Array <= datatype <= DataType.DateTimeArray
    },
}
PROPERTIES = st.dictionaries(
    TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT,
        lambda inner: (
            st.dictionaries(TEXT, inner, max_size=3)
            | st.lists(st.dictionaries(TEXT, inner, max_size=2), max_size=2).map(tuple)
        ),
        max_leaves=6,
    ),
    max_size=4,
)


@st.composite
def metrics(draw: st.DrawFn) -> Metric:
    datatype = draw(st.sampled_from(list(VALUES)))
    null = draw(st.booleans())
    return Metric(
        name=draw(st.none() | TEXT),
        alias=draw(st.none() | UINT64),
        timestamp_ms=draw(st.none() | UINT64),
        datatype=datatype,
        value=None if null else draw(VALUES[datatype]),  # type: ignore[arg-type]
        is_historical=draw(st.booleans()),
        is_transient=draw(st.booleans()),
        is_null=null,
        properties=draw(st.none() | PROPERTIES),
    )


PAYLOADS = st.builds(
    Payload,
    st.none() | UINT64,
    st.lists(metrics(), max_size=6).map(tuple),
    st.none() | UINT64,
    st.none() | TEXT,
    st.none() | st.binary(max_size=20),
)


def same(one: object, other: object) -> bool:
    """Equal, and of equal type: NaN is itself here, and 1 is not True."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return one == other and isinstance(one, bool) == isinstance(other, bool)


@given(PAYLOADS)
def test_what_is_written_is_read(payload: Payload) -> None:
    assert same(decode_payload(encode_payload(payload)), payload)


@given(st.data(), st.sampled_from(sorted(INTEGERS)))
def test_an_integer_without_its_datatype_is_told_by_the_birth(
    data: st.DataObject, datatype: DataType
) -> None:
    number = data.draw(INTEGERS[datatype])
    encoded = encode_payload(
        Payload(metrics=(Metric(alias=1, datatype=datatype, value=number),)), datatypes=False
    )
    (metric,) = decode_payload(encoded).metrics
    assert metric.datatype is None
    assert isinstance(metric.value, int)
    assert metric.value >= 0
    assert signed(metric.value, datatype) == number


@pytest.mark.parametrize(
    ("value", "datatype", "meant"),
    [
        (0xFF, DataType.Int8, -1),
        (0xFFFFFFFF, DataType.Int8, -1),
        (2**64 - 1, DataType.Int8, -1),
        (0x7F, DataType.Int8, 127),
        (0x8000, DataType.Int16, -32768),
        (0x80000000, DataType.Int32, -(2**31)),
        (2**63, DataType.Int64, -(2**63)),
        (2**63, DataType.UInt64, 2**63),
        (0xFF, DataType.UInt8, 255),
        (2**64 - 1, 99, 2**64 - 1),
    ],
)
def test_peers_fill_the_upper_bits_as_they_like(value: int, datatype: int, meant: int) -> None:
    assert signed(value, datatype) == meant


def refused(data: bytes) -> SparkplugDecodeError | None:
    try:
        decode_payload(data)
    except SparkplugDecodeError as error:
        return error
    return None


@given(st.binary(max_size=300))
@example(b"")
def test_random_bytes_are_a_payload_or_one_error(data: bytes) -> None:
    refusal = refused(data)
    assert refusal is None or 0 <= refusal.offset <= len(data)


@given(PAYLOADS, st.data())
def test_a_truncated_or_damaged_payload_is_a_payload_or_one_error(
    payload: Payload, data: st.DataObject
) -> None:
    encoded = bytearray(encode_payload(payload))
    if encoded:
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(encoded[: data.draw(st.integers(0, len(encoded)))])
    refusal = refused(cut)
    assert refusal is None or f"at byte {refusal.offset}" in str(refusal)


@given(st.lists(metrics(), min_size=1, max_size=3))
def test_a_payload_cut_within_a_metric_is_refused(some: list[Metric]) -> None:
    encoded = encode_payload(Payload(metrics=tuple(some)))
    whole = {len(encode_payload(Payload(metrics=tuple(some[:count])))) for count in range(len(some) + 1)}
    for size in set(range(len(encoded))) - whole:
        with pytest.raises(SparkplugDecodeError):
            decode_payload(encoded[:size])


def from_hex(path: Path) -> bytes:
    return bytes.fromhex("".join(line.split("#")[0] for line in path.read_text().splitlines()))


def test_there_are_cases() -> None:
    assert len(list(CASES.glob("*.hex"))) >= 12


@pytest.mark.parametrize("path", sorted(CASES.glob("*[!d].hex")), ids=lambda path: path.stem)
def test_golden_bytes(path: Path) -> None:
    payload = decode_payload(from_hex(path))
    expected = json.loads(path.with_suffix(".expected").read_text())
    wanted = []
    for metric in expected.pop("metrics"):
        if isinstance(metric.get("value"), list):
            metric["value"] = Unsupported(*metric["value"])
        wanted.append(Metric(**metric))
    assert same(payload, Payload(metrics=tuple(wanted), **expected))


@pytest.mark.parametrize("path", sorted(CASES.glob("*.bad.hex")), ids=lambda path: path.stem)
def test_bad_bytes_are_refused_by_name(path: Path) -> None:
    with pytest.raises(SparkplugDecodeError) as caught:
        decode_payload(from_hex(path))
    assert str(caught.value) == path.with_suffix(".expected").read_text().strip()


def test_the_nbirth_of_the_cases_is_what_we_write() -> None:
    time = 1_700_000_000_000
    payload = Payload(
        time,
        (bd_seq_metric(7, time), Metric("Node Control/Rebirth", None, time, DataType.Boolean, value=False)),
        0,
    )
    encoded = encode_payload(payload)
    assert encoded == from_hex(CASES / "nbirth.hex")
    assert bd_seq_of(decode_payload(encoded)) == 7


def test_bd_seq_is_found_only_where_it_is_a_number() -> None:
    assert bd_seq_metric(256).value == 0
    assert bd_seq_of(Payload(metrics=(Metric("bdSeq", value="7"),))) is None
    assert bd_seq_of(Payload()) is None


def test_text_in_another_encoding_costs_only_itself() -> None:
    gbk = "温度".encode("gbk")
    data = (
        b"\x12"
        + bytes([4 + len(gbk)])
        + b"\x10\x01\x7a"
        + bytes([len(gbk)])
        + gbk
        + b"\x12\x04\x10\x02\x50\x07"
    )
    first, second = decode_payload(data).metrics
    assert first.value == Unsupported("String that is not UTF-8")
    assert second.value == 7


def nested_properties(depth: int) -> bytes:
    inner = b""
    for _ in range(depth):
        value = b"\x4a" + varint(len(inner)) + inner
        inner = b"\x0a\x01k\x12" + varint(len(value)) + value
    metric = b"\x4a" + varint(len(inner)) + inner
    return b"\x12" + varint(len(metric)) + metric


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def test_nesting_is_bounded() -> None:
    decode_payload(nested_properties(MAX_NESTING))
    with pytest.raises(SparkplugDecodeError, match="nested deeper"):
        decode_payload(nested_properties(3000))
    with pytest.raises(SparkplugDecodeError, match="nested deeper"):
        decode_payload(b"\xa3\x06" * 3000)


def test_numbers_and_size_are_bounded() -> None:
    assert len(decode_payload(b"\x12\x00" * MAX_METRICS).metrics) == MAX_METRICS
    with pytest.raises(SparkplugDecodeError, match="more than 100000 metrics"):
        decode_payload(b"\x12\x00" * (MAX_METRICS + 1))
    with pytest.raises(SparkplugDecodeError, match="a payload of more than"):
        decode_payload(bytes(MAX_BYTES + 1))


def test_the_last_of_two_values_counts() -> None:
    twice = b"\x58\x07\x69" + struct.pack("<d", 1.5)
    (metric,) = decode_payload(b"\x12\x0d\x20\x04" + twice).metrics
    assert metric.value == 1.5


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (Metric("n", datatype=DataType.Int8, value=128), "metric n: 128 does not fit Int8"),
        (Metric("n", datatype=DataType.UInt64, value=-1), "metric n: -1 does not fit UInt64"),
        (Metric(alias=3, datatype=DataType.Double, value="x"), "metric 3: 'x' can't be encoded as Double"),
        (Metric("n", datatype=DataType.Int32, value=True), "metric n: True can't be encoded as Int32"),
        (Metric("n", datatype=DataType.Float, value=1e300), "does not fit Float"),
        (Metric("n", datatype=DataType.Double, value=10**400), "does not fit Double"),
        (Metric("n", datatype=DataType.Double, value=True), "True can't be encoded as Double"),
        (Metric("n", datatype=99, value=1), "metric n: 1 can't be encoded as data type 99"),
        (Metric("n", value=Unsupported("DataSet")), "can't be encoded as Unknown"),
        (Metric("n", value=2**64), "does not fit UInt64"),
        (Metric("n", properties={"k": b"raw"}), "property k: b'raw' can't be encoded"),
        (Metric(alias=-1), "-1 does not fit an unsigned integer of 64 bits"),
    ],
)
def test_what_can_not_be_written_is_said_by_name(metric: Metric, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        encode_payload(Payload(metrics=(metric,)))
    assert message in str(caught.value)


@given(st.integers(-(2**63), 2**64 - 1) | st.booleans() | st.floats(allow_nan=False) | TEXT | st.binary())
def test_a_value_without_datatype_is_written_by_its_python_type(value: float | str | bytes) -> None:
    (metric,) = decode_payload(encode_payload(Payload(metrics=(Metric("x", value=value),)))).metrics
    if isinstance(value, int) and value < 0:
        assert metric.value == value % 2**64
    else:
        assert same(metric.value, value)
