"""The codec: everything comes back bit by bit, and hostile bytes cost an error and nothing else."""

import random
import struct
import tracemalloc

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from shopfloor import wire
from shopfloor.asset import AssetPath
from shopfloor.block import SampleBlock, concat, make_block, problems
from shopfloor.columns import pack_floats, pack_integers, unpack_floats, unpack_integers
from shopfloor.errors import WireError, WireVersionUnsupported
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey

INT64 = st.integers(-(2**63), 2**63 - 1)
SERIES = tuple(SeriesKey(AssetPath(f"acme/hk01/a/l/c{number}"), f"s.z_{number}") for number in range(5))


@st.composite
def blocks(draw: st.DrawFn) -> SampleBlock:
    count = draw(st.integers(0, 40))
    used = SERIES[: draw(st.integers(1, 5))]
    value = draw(npst.arrays(np.float64, count, elements=st.floats(width=64)))
    value[np.isnan(value)] = np.nan
    rows = draw(st.sets(st.integers(0, count - 1))) if count else set()
    for row in rows:
        value[row] = np.nan
    return make_block(
        used,
        draw(npst.arrays(np.uint32, count, elements=st.integers(0, len(used) - 1))),
        draw(npst.arrays(np.int64, count, elements=INT64)),
        draw(npst.arrays(np.int64, count, elements=INT64)),
        value,
        draw(npst.arrays(np.uint8, count, elements=st.integers(0, 2))),
        draw(npst.arrays(np.uint32, count, elements=st.integers(0, 2**32 - 1))),
        {row: draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20)) for row in sorted(rows)},
    )


def same(one: SampleBlock, other: SampleBlock) -> bool:
    return (
        one.series == other.series
        and all(
            np.array_equal(getattr(one, name), getattr(other, name))
            for name in ("series_index", "source_time", "received_time", "quality", "status")
        )
        and np.array_equal(one.value.view(np.int64), other.value.view(np.int64))
        and dict(one.text) == dict(other.text)
    )


@given(blocks())
def test_a_block_comes_back_bit_by_bit(block: SampleBlock) -> None:
    again = wire.decode_block(wire.encode_block(block))
    assert same(block, again)
    assert not problems(again)


@given(blocks(), st.integers(1, 2**62), st.sampled_from(Lane))
def test_a_batch_comes_back(block: SampleBlock, first_seq: int, lane: Lane) -> None:
    again = wire.decode_batch(wire.encode_batch(Batch("agent-1", "ab12", lane, first_seq, block)))
    assert (again.agent_id, again.stream_id, again.lane, again.first_seq) == (
        "agent-1",
        "ab12",
        lane,
        first_seq,
    )
    assert same(block, again.block)


@given(npst.arrays(np.int64, st.integers(0, 50), elements=INT64), st.booleans(), st.booleans())
def test_integers_come_back(
    values: "np.ndarray[tuple[int], np.dtype[np.int64]]", delta: bool, units: bool
) -> None:
    assert np.array_equal(
        unpack_integers(pack_integers(values, delta=delta, units=units), len(values)), values
    )


@given(st.lists(st.decimals(-99999, 99999, places=2).map(float), min_size=1, max_size=50))
def test_decimals_come_back_exactly_and_small(numbers: list[float]) -> None:
    values = np.array(numbers)
    column = pack_floats(values)
    assert np.array_equal(unpack_floats(column, len(values)).view(np.int64), values.view(np.int64))
    assert column.width <= 4 or not (values * 100 == np.rint(values * 100)).all()


def test_minus_zero_and_the_ends_of_the_range_survive() -> None:
    values = np.array([0.0, -0.0, 5e-324, -1.7976931348623157e308, 2.0**53, 2.0**53 + 2, np.inf, np.nan])
    again = unpack_floats(pack_floats(values), len(values))
    assert np.array_equal(again.view(np.int64), values.view(np.int64))


def test_joining_blocks_keeps_rows_and_text() -> None:
    one = make_block(SERIES[:2], [0, 1], [1, 2], [3, 4], [1.0, np.nan], text={1: "x"})
    two = make_block(SERIES[1:3], [0, 1], [5, 6], [7, 8], [np.nan, 2.0], text={0: "y"})
    joined = concat([one, two])
    assert repr(list(joined.rows())) == repr([*one.rows(), *two.rows()])
    assert joined.series == SERIES[:3]


GOOD = wire.encode_batch(
    Batch(
        "a",
        "s",
        Lane.LIVE,
        1,
        make_block(SERIES, np.arange(500) % 5, np.arange(500) * 10**6, 7, np.arange(500) / 10),
    )
)


def test_every_truncation_is_an_error() -> None:
    for length in range(len(GOOD)):
        with pytest.raises((WireError, WireVersionUnsupported)):
            wire.decode_batch(GOOD[:length])


def test_a_changed_byte_never_changes_a_sample() -> None:
    # The frame carries a checksum of its content; a few bits of zstd's own tables can change without effect.
    expected = wire.decode_batch(GOOD)
    unnoticed = 0
    for position in range(len(GOOD)):
        damaged = bytearray(GOOD)
        damaged[position] ^= 0x41
        try:
            batch = wire.decode_batch(bytes(damaged))
        except (WireError, WireVersionUnsupported):
            continue
        unnoticed += 1
        assert same(batch.block, expected.block)
    assert unnoticed < 5


@given(st.binary(max_size=300))
def test_random_bytes_are_an_error(noise: bytes) -> None:
    for message in (noise, b"SFB\x01" + noise, b"SFB\x01" + zstandard.compress(noise)):
        with pytest.raises(WireError):
            wire.decode_batch(message)


def test_another_version_is_told_apart_from_rubbish() -> None:
    with pytest.raises(WireVersionUnsupported, match="wire version 99"):
        wire.decode_batch(b"SFB\x63" + GOOD[4:])


def _message(body: object) -> bytes:
    return b"SFB\x01" + zstandard.compress(msgspec.msgpack.encode(body))


def _body(**changes: object) -> list[object]:
    """A batch of two samples in its packed form, with fields replaced by name."""
    frame = zstandard.decompress(
        wire.encode_batch(
            Batch("a", "s", Lane.LIVE, 1, make_block(SERIES[:1], [0, 0], [1, 2], [3, 3], [1.5, 2.5]))
        )[4:]
    )
    batch: list[object] = msgspec.msgpack.decode(frame)
    block = batch[4]
    assert isinstance(block, list)
    names = ["count", "series_count", "series", "series_index", "source_time", "received_time", "value", "quality",
             "status", "text_rows", "text"]  # fmt: skip
    outer = ["agent_id", "stream_id", "lane", "first_seq"]
    for name, replacement in changes.items():
        if name in outer:
            batch[outer.index(name)] = replacement
        else:
            block[names.index(name)] = replacement
    return batch


def test_the_packed_form_used_below_is_sound() -> None:
    assert len(wire.decode_batch(_message(_body())).block) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": -1}, "samples"),
        ({"count": 10**9}, "at most"),
        ({"count": 3}, "bytes for"),
        ({"series_count": 10**9}, "at most"),
        ({"series_count": 2}, "entries"),
        ({"series": b"Acme\0s"}, "asset path"),
        ({"series": b"acme/../x\0s"}, "asset path"),
        ({"series": b"acme\0S"}, "signal"),
        ({"series": b"acme"}, "not an asset and a signal"),
        ({"series": b"\xff\xfe\0s"}, "series table"),
        ({"series": b"acme\0s\nacme\0s", "series_count": 2}, "twice"),
        ({"series_index": [0, 0, 0, 1, 1, b"", b""]}, "no series"),
        ({"quality": [0, 0, 0, 3, 1, b"", b""]}, "quality"),
        ({"status": [0, 0, 0, 2**32, 1, b"", b""]}, "status"),
        ({"source_time": [9, 0, 0, 0, 1, b"", b""]}, "coding"),
        ({"source_time": [1, 3, 0, 0, 1, b"\0" * 6, b""]}, "bytes for"),
        ({"source_time": [1, 1, 0, 0, 7, b"\0\0", b""]}, "unit"),
        ({"source_time": [0, 0, 0, 2**63, 1, b"", b""]}, "64 bits"),
        ({"value": [3, 1, 0, 0, 0, b"\0\0", b""]}, "factor"),
        ({"value": [0, 0, 0, 0, 1, b"", b"\0\0\0"]}, "null bits"),
        ({"text": ["a", "b", "c"]}, "more texts"),
        ({"text": ["a"]}, "number and a text"),
        ({"text": ["x" * 70_000]}, "number and a text|bytes"),
        ({"agent_id": "no spaces"}, "agent id"),
        ({"stream_id": "../x"}, "stream id"),
        ({"lane": "fast"}, "lane"),
        ({"first_seq": 0}, "first_seq"),
        ({"first_seq": 2**63}, "first_seq|not a batch"),
        ({"value": "text"}, "not a batch"),
    ],
)
def test_each_lie_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(WireError, match=message):
        wire.decode_batch(_message(_body(**changes)))


def test_a_text_that_is_no_utf_8_is_an_error() -> None:
    series = (SeriesKey(AssetPath("acme/hk01/m"), "note"),)
    whole = wire.encode_block(make_block(series, [0], 0, 0, [np.nan], text={0: "abc"}))
    body = zstandard.ZstdDecompressor().decompress(whole[4:]).replace(b"\xa3abc", b"\xa3a\xf8c")
    with pytest.raises(WireError, match="not a block"):
        wire.decode_block(whole[:4] + zstandard.ZstdCompressor(write_content_size=True).compress(body))


def test_a_bomb_is_refused_before_it_unfolds() -> None:
    bomb = b"SFB\x01" + zstandard.compress(b"\0" * (200 * 2**20))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"\0" * (200 * 2**20))
    deep = _message(None)[:4] + zstandard.compress(b"\x91" * 2_000_000)
    wide = _message(_body(count=500_000, series=b"acme\0s"))
    tracemalloc.start()
    for message in (bomb, b"SFB\x01" + unsized, deep):
        with pytest.raises(WireError):
            wire.decode_batch(message)
    with pytest.raises(WireError):
        wire.decode_batch(wide)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20
    with pytest.raises(WireError, match="at most"):
        wire.decode_batch(b"SFB\x01" + b"x" * (17 * 2**20))


def test_the_series_table_is_remembered_and_bounded() -> None:
    first = wire.decode_batch(GOOD).block.series
    assert wire.decode_batch(GOOD).block.series is first
    tables = wire._SeriesTables(limit_bytes=200_000)
    rng = random.Random(1)
    for _ in range(500):
        table = "\n".join(f"a/b{rng.getrandbits(40):x}\0s" for _ in range(50)).encode()
        tables.decode(table, 50)
    assert 100_000 < tables._used_bytes <= 200_000
    tables.keep(50_000)
    assert 10_000 < tables._used_bytes <= 50_000


def test_a_version_byte_is_where_the_specification_says() -> None:
    assert struct.unpack_from("<2sBB", GOOD) == (b"SF", ord("B"), wire.WIRE_VERSION)
