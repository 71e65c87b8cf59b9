"""Bodies of line protocol for tests, ordinary and not, and how two readings of one are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from ingest_service.line_protocol.columns import read_body
from ingest_service.line_protocol.lines import LineFault, read_key
from ingest_service.line_protocol.points import Points

LIMIT = 1_000_000


def readable(key: bytes) -> bool:
    try:
        read_key(key)
    except LineFault:
        return False
    return True


def fast(body: bytes, multiplier: int = 1, limit: int = LIMIT) -> Points:
    """Read by columns, however short the body is: comments before it change nothing but the numbers of lines."""
    return read_body(body, multiplier, limit, readable)


def rows(points: Points, *, shift: int = 0) -> list[Any]:
    """Return everything that a reading says, line by line."""
    found: list[Any] = []
    fields: dict[int, list[Any]] = {}
    for row, (line, name, value) in enumerate(
        zip(points.field_line.tolist(), points.name_index.tolist(), points.value.tolist(), strict=True)
    ):
        shown = "nan" if np.isnan(value) else (value, np.signbit(value).item())
        fields.setdefault(line, []).append((points.names[name], shown, points.text.get(row)))
    for line in range(len(points)):
        timed = bool(points.timed[line])
        time = int(points.time[line]) if timed else None
        key = points.keys[int(points.key_index[line])]
        number = int(points.number[line]) - shift
        found.append((number, key, time, fields.get(line, []), points.spans.get(number + shift, -1) >= 0))
    found.extend((fault.number - shift, fault.raw, fault.message) for fault in points.faults)
    return sorted(found, key=lambda one: one[0])


def numbers() -> st.SearchStrategy[str]:
    return st.one_of(
        st.floats(allow_nan=True, allow_infinity=True).map(repr),
        st.integers(-(2**65), 2**65).map(lambda number: f"{number}i"),
        st.integers(-5, 2**65).map(lambda number: f"{number}u"),
        st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str),
        st.sampled_from(["t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE"]),
        st.sampled_from(
            [
                "",
                "i",
                "u",
                "-",
                "-i",
                "+1",
                "1.",
                ".5",
                "-.5",
                ".",
                "1e5",
                "1E-5",
                "1e",
                "e5",
                "1e400",
                "0x10",
                "1_0",
                "5u",
            ]
        ),
        st.sampled_from(
            [
                "nan",
                "NaN",
                "-inf",
                "Infinity",
                "tru",
                "yes",
                "1-2",
                "1+2",
                "--1",
                "1.2.3",
                "00012",
                "-0",
                "-0i",
            ]
        ),
    )


def names() -> st.SearchStrategy[str]:
    return st.one_of(
        st.sampled_from(
            ["value", "a", "usage_user", "x y", "t,1", "b=c", "ü", "0x", "#", '"', "\\", "a\\", ""]
        ),
        st.text(max_size=5),
    )


def escaped(name: str) -> str:
    for sign in ", =":
        name = name.replace(sign, "\\" + sign)
    return name


def times() -> st.SearchStrategy[str]:
    return st.one_of(
        st.integers(0, 2**63).map(str),
        st.integers(-(2**64), 2**64).map(str),
        st.sampled_from(
            ["", "0x10", "-0x5", "1.5", "abc", "+5", "0005", "-1", "1 2", " 7", "7 ", "7\t", "1,2"]
        ),
    )


@st.composite
def lines(draw: st.DrawFn) -> str:
    """One line, mostly right."""
    measurement = escaped(draw(names()))
    tags = draw(st.lists(st.tuples(names(), names()), max_size=3))
    key = ",".join([measurement, *(f"{escaped(name)}={escaped(value)}" for name, value in tags)])
    texts = st.text(max_size=8).map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
    fields = draw(st.lists(st.tuples(names(), numbers() | texts), min_size=0, max_size=4))
    section = ",".join(f"{escaped(name)}={value}" for name, value in fields)
    time = draw(times())
    return f"{key} {section}" + (f" {time}" if time else "")


@st.composite
def alike(draw: st.DrawFn) -> list[str]:
    """Lines that are all ordinary, as a client sends them."""
    keys = draw(
        st.lists(
            st.sampled_from(
                [
                    "cpu,host=a",
                    "cpu,host=b",
                    "m",
                    "sample,cell=imm-01,x=ü",
                    "m,t=a\\ b",
                    "m\\,n,t=c\\=d",
                    'm,t="q"',
                ]
            ),
            min_size=1,
            max_size=4,
        )
    )
    fields = draw(
        st.lists(st.sampled_from(["value", "a", "max", "b_c"]), min_size=1, max_size=3, unique=True)
    )
    timed = draw(st.booleans())
    count = draw(st.integers(1, 30))
    kinds = draw(
        st.lists(
            st.sampled_from(
                [numbers(), st.integers(-9, 9).map(str), st.integers(-9, 9).map(lambda n: f"{n}i")]
            ),
            min_size=len(fields),
            max_size=len(fields),
        )
    )
    made = []
    for number in range(count):
        section = ",".join(f"{name}={draw(kind)}" for name, kind in zip(fields, kinds, strict=True))
        made.append(
            f"{keys[number % len(keys)]} {section}"
            + (f" {1_760_000_000_000_000_000 + number}" if timed else "")
        )
    return made


def bodies() -> st.SearchStrategy[bytes]:
    """Whole bodies, with blank lines, comments, both kinds of newline, and plain rubbish among them."""
    other = st.sampled_from(
        [
            "",
            " ",
            "# comment",
            "#a b=1 1",
            "\t",
            "a",
            "a b",
            'a b="',
            'a b="x',
            '" c=1 2',
            "\r",
            "\0",
            "\ufeffa b=1",
        ]
    )
    group = st.one_of(lines().map(lambda one: [one]), alike(), other.map(lambda one: [one]))
    text = st.builds(
        lambda groups, newline, last: newline.join(line for one in groups for line in one) + last,
        st.lists(group, max_size=6),
        st.sampled_from(["\n", "\n", "\n", "\r\n"]),
        st.sampled_from(["", "\n", "\n\n"]),
    )
    return st.one_of(text.map(lambda one: one.encode("utf-8", "surrogatepass")), st.binary(max_size=200))
