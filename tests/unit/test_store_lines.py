"""Samples as line protocol, and commits as notices to other processes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.stores import Committed
from ingest_service.stores.influxdb_lines import LineEncoder, chunks_of, escape_tag, quote_text
from ingest_service.stores.server_live import (
    MAX_PAYLOAD,
    announcements_of,
    notices_of,
    read_announcement,
    read_notice,
)
from ingest_service.stores.server_points import repeated_times
from ingest_service.stores.victoriametrics_lines import encode, split
from shopfloor.asset import parse_asset
from shopfloor.block import make_block
from shopfloor.signal import SeriesKey

IMM = SeriesKey(parse_asset("acme/hk01/moulding/cell-a/imm-01"), "barrel.zone_1.temperature")
SITE = SeriesKey(parse_asset("acme/hk01"), "job.name")
KEYS = [IMM, SITE]
IMM_TAGS = "enterprise=acme,site=hk01,area=moulding,line=cell-a,cell=imm-01,signal=barrel.zone_1.temperature"


def test_lines_for_influxdb() -> None:
    block = make_block(
        (),
        [0, 0, 0],
        [10, -20, 30],
        [11, 21, -31],
        [0.5, np.nan, np.nan],
        [0, 2, 0],
        [0, 7, 0],
        text={2: 'a "b"\\\n'},
    )
    ids = np.array([1, 1, 2], np.uint32)
    lines = LineEncoder().encode(KEYS, ids, block)
    assert lines.to_pylist() == [
        f"sample,{IMM_TAGS} value=0.5,quality=0i,received=11i 10\n",
        f"sample,{IMM_TAGS} quality=2i,status=7i,received=21i -20\n",
        'sample,enterprise=acme,site=hk01,signal=job.name text="a \\"b\\"\\\\\n",quality=0i,received=-31i 30\n',
    ]
    assert b"".join(body for _, _, body in chunks_of(lines, 2)) == "".join(lines.to_pylist()).encode()
    assert [part[:2] for part in chunks_of(lines, 2)] == [(0, 2), (2, 3)]
    assert [part[:2] for part in chunks_of(lines.slice(1, 2), 5)] == [(0, 2)]


def test_lines_for_victoriametrics() -> None:
    block = make_block(
        (), [0, 0], [5_000_007, 6_000_000], [5_000_000, 6_000_000], [1 / 3, np.nan], [0, 2], [0, 7]
    )
    lines = encode(LineEncoder().prefixes(KEYS, np.ones(2, np.uint32)), block).to_pylist()
    assert lines[0] == (f"sample,{IMM_TAGS} value=0.33333333333,ns=7,delay=-7,rest=3.33333360913457e-12 5\n")
    assert lines[1] == f"sample,{IMM_TAGS} quality=2,status=7 6\n"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_digits_and_what_they_leave_make_the_value(value: float) -> None:
    head, rest = split(np.array([value]))
    assert (head + rest)[0] == value
    if abs(rest[0]):
        assert abs(rest[0]) < abs(value) * 1e-9


@pytest.mark.parametrize(
    ("text", "escaped"), [("a b,c=d", "a\\ b\\,c\\=d"), ("line\nfeed", "line\\ feed"), ("end\\", "end")]
)
def test_tags_are_escaped(text: str, escaped: str) -> None:
    assert escape_tag(text) == escaped


def test_texts_are_quoted() -> None:
    assert quote_text('a "b" \\') == '"a \\"b\\" \\\\"'


def test_repeated_times_are_told_by_series() -> None:
    ids = np.array([1, 2, 1, 1, 2], np.uint32)
    times = np.array([5, 5, 5, 6, 5])
    assert repeated_times(ids, times).tolist() == [False, False, True, False, True]


@given(st.integers(1, 600), st.integers(1, 40), st.dictionaries(st.integers(0, 599), st.text(max_size=400)))
def test_notices_hold_the_newest_of_each_series_and_fit(n: int, series: int, texts: dict[int, str]) -> None:
    dice = np.random.default_rng(n * series)
    ids = dice.integers(1, series + 1, n).astype(np.uint32)
    times = dice.integers(0, 1000, n)
    text = {row: line for row, line in texts.items() if row < n}
    rows = Committed(ids, times, times, np.arange(n, dtype=float), np.zeros(n, np.uint8), text)
    keys = [SeriesKey(IMM.asset, f"s_{number}") for number in range(series)]
    notices = notices_of("me", rows, keys, frozenset({"s_0"}))
    assert all(len(one) <= MAX_PAYLOAD for one in notices)
    found: list[tuple[int, int, float, str | None]] = []
    for one in notices:
        read = read_notice(one)
        assert read is not None
        origin, got, long_text = read
        assert origin == "me"
        columns = zip(got.series_id.tolist(), got.source_time.tolist(), got.value.tolist(), strict=True)
        for row, (number, at, value) in enumerate(columns):
            known = text.get(int(value))
            assert got.text.get(row) == (None if row in long_text else known)
            assert row not in long_text or known is not None
            found.append((number, at, value, known))
    newest: dict[int, int] = {}
    for row in range(n):
        number = int(ids[row])
        if number not in newest or times[row] >= times[newest[number]]:
            newest[number] = row
    assert {int(one[2]) for one in found} == set(newest.values()) | set(np.flatnonzero(ids == 1).tolist())


def test_announcements_fit_and_name_all_assets() -> None:
    assets = [f"acme/hk01/moulding/cell-{number}/{'m' * 50}" for number in range(500)]
    payloads = announcements_of("me", "agent" * 12, assets)
    assert all(len(one) <= MAX_PAYLOAD for one in payloads)
    read = [read_announcement(one) for one in payloads]
    assert [asset for one in read if one for asset in one[2]] == assets
    assert {one[:2] for one in read if one} == {("me", "agent" * 12)}
    assert read_announcement(":nothing") is None


@pytest.mark.parametrize("payload", ["", "hello", "gA==", "kA=="])
def test_what_is_no_notice_is_none(payload: str) -> None:
    assert read_notice(payload) is None
