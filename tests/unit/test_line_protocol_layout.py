"""A body like an earlier one is read by what is remembered of that, and says what it says read alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest_service.line_protocol.columns import read_body
from ingest_service.line_protocol.config import MappingConfig
from ingest_service.line_protocol.layout import Layouts
from ingest_service.line_protocol.mapping import LineMapping
from ingest_service.line_protocol.placing import Places
from ingest_service.line_protocol.points import Points, TooManySamples, read_slowly
from ingest_service.line_protocol.samples import Built, build
from shopfloor.block import STATUS_CLOCK_AHEAD, STATUS_NO_SOURCE_TIME, Quality, problems
from tests.unit.line_protocol_bodies import LIMIT, numbers, readable, rows, times

NOW = 1_760_000_000_000_000_000
SERIES = 60
"""So many that no body is read point by point for being small."""


def body(values: list[str], at: list[str], *, ending: str = "\n") -> bytes:
    """Return lines of as many machines as there are values."""
    lines = [
        f"imm,site=hk01,line=injection-moulding,machine=imm-{number:02} zone_{number % 7}_temp={value}"
        + (f" {time}" if time else "")
        for number, (value, time) in enumerate(zip(values, at, strict=True))
    ]
    return "\n".join(lines).encode() + ending.encode()


def plain(shift: float = 0.0, time: int = NOW, count: int = SERIES) -> bytes:
    return body(
        [str(round(number * 7.3 + shift, 1)) for number in range(count)],
        [str(time + n) for n in range(count)],
    )


class Reader:
    """One token's bodies, one after the other."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.layouts = Layouts()
        self.limit = limit

    def read(self, raw: bytes, multiplier: int = 1) -> Points:
        points = read_body(raw, multiplier, self.limit, readable, self.layouts)
        assert rows(points) == rows(read_slowly(raw, multiplier, LIMIT))
        return points

    def learn(self, raw: bytes) -> Any:
        assert self.read(raw).layout is None
        layout = self.read(raw).layout
        assert layout is not None
        return layout


def test_the_third_body_with_the_same_ends_is_read_by_its_layout() -> None:
    reader = Reader()
    layout = reader.learn(plain())
    again = reader.read(plain(shift=12_345.6, time=NOW + 10**10))
    assert again.layout is layout
    # The last newline may be missing.
    assert reader.read(plain(-0.5)[:-1]).layout is layout


@pytest.mark.parametrize("values", [["3i", "-4i"], ["3u", "4u"], ["true", "f"], ["1.5", "-7i"], ["1e5", "T"]])
def test_a_layout_says_nothing_of_the_kind_of_a_number(values: list[str]) -> None:
    reader = Reader()
    layout = reader.learn(plain())
    assert reader.read(body(values * 30, [str(NOW)] * 60)).layout is layout


def test_bodies_without_times_have_layouts() -> None:
    reader = Reader()
    layout = reader.learn(body(["1"] * 60, [""] * 60))
    assert reader.read(body(["-2.5"] * 60, [""] * 60)).layout is layout
    assert reader.read(body(["-2.5"] * 60, [str(NOW)] * 60)).layout is not layout


def test_times_of_another_length_are_another_layout() -> None:
    reader = Reader()
    layout = reader.learn(plain())
    short = body(["1"] * 60, ["1760000000"] * 60)
    assert reader.read(short, 10**9).layout is not layout
    mixed = body(["1"] * 60, ["1760000000", "5"] * 30)
    assert reader.read(mixed).layout is reader.read(mixed).layout is None


def test_names_in_any_language_have_layouts() -> None:
    reader = Reader()
    raw = plain().replace(b"hk01", "東莞".encode()).replace(b"temp", "溫度".encode())
    layout = reader.learn(raw)
    assert reader.read(raw.replace(b".3 ", b".39 ")).layout is layout
    marked = raw.replace(b"\nimm", b"\n\xef\xbb\xbfimm", 1)
    assert reader.read(marked).layout is None
    assert reader.read(raw.replace("溫".encode(), b"\xff", 1)).layout is None


@pytest.mark.parametrize(
    "change",
    [
        (b"zone_3", b"zone_4"),
        (b"zone_3_temp=", b"zone_3=temp="),
        (b"zone_3_temp=", b"zone_3_temp "),
        (b"imm-31", b"imm-13"),
        (b" zone_3", b",zone_3"),
        (b"machine=imm-31", b"machine=imm\\31"),
        (b" 17600000000000000", b"\n17600000000000000"),
        (b" 17600000000000000", b"  7600000000000000"),
        (b" 17600000000000000", b" 0x600000000000000"),
        (b" 17600000000000000", b",a=00000000000000 "),
        (b"temp=", b'temp="'),
        (b"temp=2", b"temp=#"),
        (b"temp=2", b"temp=+2"),
        (b"temp=2", b"temp= 2"),
        (b"temp=2", b"temp=nan"),
        (b"temp=2", b"temp=1e999"),
        (b"imm,", b"#mm,"),
        (b"imm,", b"\r\n,"),
        (b"imm,", b"\n\n,"),
    ],
)
def test_a_body_that_is_otherwise_is_read_anew(change: tuple[bytes, bytes]) -> None:
    reader = Reader()
    reader.learn(plain())
    half = len(plain()) // 2
    raw = plain(shift=1.0)
    reader.read(raw[:half] + raw[half:].replace(*change, 1))
    reader.read(raw[:half] + raw[half:].replace(*change))
    assert reader.read(plain()).layout is not None


@given(
    st.lists(numbers(), min_size=SERIES, max_size=SERIES),
    st.one_of(st.just([str(NOW)] * SERIES), st.lists(times(), min_size=SERIES, max_size=SERIES)),
    st.sampled_from(["\n", "", "\n\n", "\r\n"]),
)
@example(["0x10"] * SERIES, [str(NOW)] * SERIES, "\n")
@example(["1"] * SERIES, ["0x10000000000000000"] * SERIES, "\n")
@example(["1"] * SERIES, ["+760000000000000000"] * SERIES, "\n")
@example(["1"] * SERIES, ["9999999999999999999"] * SERIES, "\n")
def test_any_values_and_times_are_read_as_if_alone(values: list[str], at: list[str], ending: str) -> None:
    reader = Reader()
    reader.learn(plain())
    reader.read(body(values, at, ending=ending))


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(plain()) - 1), st.integers(0, 4), st.sampled_from([*b' ,=\n\r\t\\"#0xi-', 255])
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_damage_is_read_as_if_alone(damage: list[tuple[int, int, int]]) -> None:
    reader = Reader()
    reader.learn(plain())
    raw = plain(shift=3.0)
    for at, removed, sign in damage:
        raw = raw[:at] + bytes([sign]) + raw[at + removed :]
    reader.read(raw)


def test_more_lines_than_the_limit_are_refused_with_a_layout_too() -> None:
    reader = Reader(limit=SERIES)
    reader.learn(plain())
    reader.limit = SERIES - 1
    with pytest.raises(TooManySamples):
        reader.read(plain())


def test_few_layouts_are_remembered_and_their_bytes_counted() -> None:
    reader = Reader()
    bodies = [plain(count=SERIES + number) for number in range(9)]
    for raw in bodies:
        layout = reader.learn(raw)
    assert reader.layouts.size <= 8 * layout.size
    assert reader.read(bodies[8]).layout is layout
    # Eight others were met since.
    assert reader.read(bodies[0]).layout is None
    reader.layouts.clear()
    assert reader.layouts.size == 0
    assert reader.read(bodies[8]).layout is None


_RULE = {"measurement": "imm", "asset": "acme/{site}/{line}/{tag:machine}", "signal": "{field}"}


class Writer:
    """One token's bodies, made into samples."""

    def __init__(self, asset: str = "acme", **options: Any) -> None:
        self.mapping = LineMapping(MappingConfig.model_validate({"rules": [_RULE | options]}))
        self.asset = asset
        self.places = Places(self.mapping, asset)

    def write(self, raw: bytes) -> Built:
        """Return the samples, compared with those of the same body read alone."""
        self.places.trim()
        points = read_body(raw, 1, LIMIT, self.places.readable, self.places.layouts)
        built = build(points, raw, self.places, NOW)
        assert problems(built.block) == []
        alone = build(read_slowly(raw, 1, LIMIT), raw, Places(self.mapping, self.asset), NOW)
        np.testing.assert_equal(list(built.block.rows()), list(alone.block.rows()))
        assert built.refused.counts() == alone.refused.counts()
        assert built.all_foreign == alone.all_foreign
        assert built.digest == alone.digest
        return built


def test_samples_of_a_layout_share_their_series() -> None:
    writer = Writer()
    built = [writer.write(plain(shift)) for shift in (0.0, 1.0, 2.0, 3.0)]
    assert all(one.block.series is built[0].block.series for one in built)
    assert built[3].block.series_index is built[2].block.series_index


def test_samples_of_a_layout_are_judged_each_time() -> None:
    writer = Writer()
    for _ in range(3):
        assert writer.write(plain()).block.quality.max() == Quality.GOOD
    ahead = writer.write(plain(time=NOW + 120 * 10**9)).block
    assert set(ahead.quality.tolist()) == {Quality.UNCERTAIN}
    assert set(ahead.status.tolist()) == {STATUS_CLOCK_AHEAD}
    for _ in range(3):
        untimed = writer.write(body(["1"] * 60, [""] * 60)).block
    assert set(untimed.source_time.tolist()) == {NOW}
    assert set(untimed.status.tolist()) == {STATUS_NO_SOURCE_TIME}


def test_bodies_that_say_something_else_have_other_digests() -> None:
    writer = Writer()
    built = [
        writer.write(raw)
        for raw in (
            plain(),
            plain(shift=1.0),
            plain(time=NOW + 1),
            plain().replace(b"imm-31", b"imm-32"),
            plain().replace(b"hk01", b"sz01"),
            plain().replace(b"7.3 ", b"7.3,other=0 "),
            # The same fields at the same two times, otherwise divided.
            b"imm,site=hk01,line=a,machine=m a=1,b=2 5\nimm,site=hk01,line=a,machine=m c=3 6\n",
            b"imm,site=hk01,line=a,machine=m a=1 5\nimm,site=hk01,line=a,machine=m b=2,c=3 6\n",
        )
    ]
    assert len({one.digest for one in built}) == len(built)
    # A text, or a line that is placed nowhere, says more than numbers do: the body itself is compared.
    assert writer.write(plain().replace(b"7.3 ", b'"x" ')).digest == b""
    assert writer.write(plain().replace(b"imm,", b"cnc,", 1)).digest == b""
    # Another token's numbers are others, and other numbers of the same series make no difference.
    other = Writer()
    other.write(plain().replace(b"imm-", b"cnc-"))
    assert other.write(plain()).digest == built[0].digest


@pytest.mark.parametrize(
    ("asset", "options"),
    [
        ("acme/hk01/injection-moulding/imm-07", {}),
        ("acme/sz02", {}),
        ("acme", {"tags": {"machine": "imm-0*"}}),
        ("acme", {"exclude": ["zone_3_*"]}),
        ("acme", {"quality": "zone_0_temp"}),
        ("acme", {"discard": True}),
    ],
)
def test_what_is_placed_nowhere_is_told_each_time(asset: str, options: dict[str, Any]) -> None:
    writer = Writer(asset, **options)
    for shift in (0.0, 1.0, 2.0, 3.0):
        writer.write(plain(shift))


def test_a_layout_is_forgotten_with_the_numbers_that_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer()
    for shift in (0.0, 1.0, 2.0):
        writer.write(plain(shift))
    before = writer.places.table
    monkeypatch.setattr("ingest_service.line_protocol.placing._REMEMBERED_KEYS", 10)
    # Other series take the numbers that these had.
    writer.write(plain().replace(b"imm-", b"cnc-"))
    writer.write(plain())
    assert writer.places.table is not before
