"""Line protocol as its specification says: what a line means, and what is wrong with one."""

from __future__ import annotations

import math

import pytest

from ingest_service.line_protocol.lines import Key, LineFault, fault_text, read_key, read_point
from ingest_service.line_protocol.points import read_slowly
from tests.unit.line_protocol_bodies import rows


def read(line: str, multiplier: int = 1) -> tuple[Key, dict[str, object], int | None]:
    point, end = read_point(line.encode(), 0, multiplier)
    assert end == len(line.encode().rstrip(b"\n"))
    fields: dict[str, object] = {
        one.name: one.value if one.text is None else one.text for one in point.fields
    }
    return read_key(point.key), fields, point.time


# Most of these are the documentation's own examples.
@pytest.mark.parametrize(
    ("line", "measurement", "tags", "fields", "time"),
    [
        (
            'myMeasurement,tag1=value1,tag2=value2 fieldKey="fieldValue" 1556813561098000000',
            "myMeasurement",
            {"tag1": "value1", "tag2": "value2"},
            {"fieldKey": "fieldValue"},
            1556813561098000000,
        ),
        ("m f=1.0", "m", {}, {"f": 1.0}, None),
        ("m f=1", "m", {}, {"f": 1.0}, None),
        ("m f=-1.234456e+78", "m", {}, {"f": -1.234456e78}, None),
        ("m f=1i", "m", {}, {"f": 1.0}, None),
        ("m f=12485903u", "m", {}, {"f": 12485903.0}, None),
        ('m f="this is a string"', "m", {}, {"f": "this is a string"}, None),
        (
            "m a=true,b=false,c=t,d=f,e=TRUE,g=False",
            "m",
            {},
            {"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0, "e": 1.0, "g": 0.0},
            None,
        ),
        ('m f="" -5', "m", {}, {"f": ""}, -5),
        ("my\\ Measurement f=1", "my Measurement", {}, {"f": 1.0}, None),
        ("my\\,m,t\\=a\\ b=x\\,y f\\ g\\=h=1", "my,m", {"t=a b": "x,y"}, {"f g=h": 1.0}, None),
        ('m f="string value: \\"hi\\" C:\\\\x \\n"', "m", {}, {"f": 'string value: "hi" C:\\x \\n'}, None),
        ('m f="a, b=c d" 7', "m", {}, {"f": "a, b=c d"}, 7),
        ('m f="two\nlines",g=1 7', "m", {}, {"f": "two\nlines", "g": 1.0}, 7),
        ('"m",t="x" f=1', '"m"', {"t": '"x"'}, {"f": 1.0}, None),
        ("m,a=C:\\x f=1", "m", {"a": "C:\\x"}, {"f": 1.0}, None),
        ("m=n f=1", "m=n", {}, {"f": 1.0}, None),
        ("m  f=1  7 \n", "m", {}, {"f": 1.0}, 7),
        ("m,t=🍭 f=.5", "m", {"t": "🍭"}, {"f": 0.5}, None),
    ],
)
def test_what_a_line_means(
    line: str, measurement: str, tags: dict[str, str], fields: dict[str, object], time: int | None
) -> None:
    if line.endswith(" \n"):
        point, _ = read_point(line.encode(), 0, 1)
        assert ([one.name for one in point.fields], point.time) == (list(fields), time)
        return
    assert read(line) == (Key(measurement, tags), fields, time)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("m", "missing fields"),
        ("m ", "missing fields"),
        (",t=1 f=1", "missing measurement"),
        ("m,=1 f=1", "missing tag key"),
        ("m,t= f=1", "missing tag value"),
        ("m,t f=1", "missing tag value"),
        ("m, f=1", "missing tag key"),
        ("m,t=a=b f=1", "invalid tag format"),
        ("m,t=a,t=b f=1", "duplicate tags"),
        ("m =1", "missing field key"),
        ("m f", "missing field value"),
        ("m f=", "missing field value"),
        ("m f=1,", "missing fields"),
        ("m f=1x", "invalid number"),
        ("m f=1.5i", "invalid number"),
        ("m f=-1u", "invalid number"),
        ("m f=+1", "invalid number"),
        ("m f=tru", "invalid boolean"),
        ("m f=1e999", "invalid float: value out of range"),
        ("m f=9223372036854775808i", "unable to parse integer: value out of range"),
        ("m f=18446744073709551616u", "unable to parse unsigned: value out of range"),
        ('m f="open', "unbalanced quotes"),
        ('m f="a"b', "invalid field format"),
        ("m f=1 abc", "bad timestamp"),
        ("m f=1 1.5", "unexpected text after the timestamp"),
        ("m f=1 1 2", "unexpected text after the timestamp"),
        ("m f=1 99999999999999999999", "time outside range"),
        ("m f=1 9223372036854775808", "time outside range"),
        ("m," + "t" * 70_000 + "=1 f=1", "max key length exceeded: 70004 > 65535"),
        ('m f="' + "x" * 70_000 + '"', "a text of 70000 bytes; at most 65536 are taken"),
    ],
)
def test_what_is_wrong_with_a_line(line: str, message: str) -> None:
    with pytest.raises(LineFault) as caught:
        read(line)
    assert str(caught.value) == message


def test_not_utf_8_is_a_fault_of_its_line() -> None:
    for body in (b"m\xff f=1", b"m,t=\xff f=1", b"m \xff=1", b'm f="\xff"'):
        points = read_slowly(body + b"\nn f=1\n", 1, 10)
        assert [fault.message.rpartition(": ")[2] for fault in points.faults] == ["not UTF-8"]
        assert points.keys == [b"n"]


@pytest.mark.parametrize("word", ["nan", "NaN", "inf", "+Inf", "-INF", "Infinity"])
def test_what_is_no_number_is_read_as_such(word: str) -> None:
    _, fields, _ = read(f"m f={word}")
    value = fields["f"]
    assert isinstance(value, float)
    assert math.isnan(value)


def test_times_are_scaled_to_nanoseconds() -> None:
    assert read("m f=1 1556813561", 10**9)[2] == 1556813561 * 10**9
    with pytest.raises(LineFault, match="time outside range"):
        read("m f=1 9223372037", 10**9)


def test_blank_lines_comments_and_both_newlines() -> None:
    body = b'# a comment\n\n  m f=1 1\r\n\t\r\n#x y=1\nn,t=1 f=2i 2\r\n  # another\no f="a\r\nb" 3\nq f=1\r\n'
    points = read_slowly(body, 1, 100)
    assert points.faults == []
    assert points.keys == [b"m", b"n,t=1", b"o", b"q"]
    assert points.number.tolist() == [2, 5, 7, 9]
    assert points.text == {2: "a\r\nb"}


def test_an_unclosed_quote_spoils_only_its_own_line() -> None:
    points = read_slowly(b'a f=1 1\nb f="open 2\nc f=3 3\n', 1, 100)
    assert [row[1] for row in rows(points) if len(row) > 3] == [b"a", b"c"]
    ((number, raw, message),) = points.faults
    assert (number, raw, message) == (1, b'b f="open 2', "unable to parse 'b f=\"open 2': unbalanced quotes")


def test_a_long_line_is_named_by_its_beginning() -> None:
    text = fault_text(b"x" * 1000, LineFault("missing fields"))
    assert text == f"unable to parse '{'x' * 120}...': missing fields"
