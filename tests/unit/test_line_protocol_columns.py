"""The reader by columns says of every body what the reader by points says."""

from __future__ import annotations

import pytest
from hypothesis import example, given

from ingest_service.line_protocol.points import TooManySamples, read_slowly
from tests.unit.line_protocol_bodies import bodies, fast, rows

_ORDINARY = b"".join(
    b"sample,cell=imm-%02d,signal=s value=%d.5,n=%di 17600000000000%05d\n"
    % (number % 7, number, number, number)
    for number in range(60)
)
"""Enough of them that no body which begins with it is read point by point for being small."""


@given(bodies())
@example(b'a b="x\ny c=1 5\nz" 5\nc d=1 6\n')
@example(b'a b="x\ny c=1 5\nz 5\nc d=1 6\n')
@example(b"\xef\xbb\xbfa b=1 1\na b=1 1")
@example(b"a b=1 0x10\na b=1 16\n")
@example(b"a b=1 1\n\xff b=1 1\na \xff=1 1\n")
@example(b"a=1 2\n")
@example(b"a b=1i,c=u 2\na b=1\\")
@example(b"a b=1e0000000000005 1\na b=" + b"0" * 401 + b"1 2\na b=1e-99999999999 3\na b=1e99999999999 4")
@example(
    b"a b="
    + b"0" * 40
    + b"1i 1\na b="
    + b"0" * 39
    + b"1u 2\na b=1 "
    + b"0" * 40
    + b"3\na b=1 "
    + b"0" * 39
    + b"4"
)
def test_both_readers_agree(body: bytes) -> None:
    alone = read_slowly(body, 1000, 100_000)
    assert rows(fast(_ORDINARY + body, 1000), shift=60)[60:] == rows(alone)


@given(bodies())
def test_both_readers_agree_on_a_body_without_ordinary_lines(body: bytes) -> None:
    comment = b"#" * 3000 + b"\n"
    assert rows(fast(comment + body), shift=1) == rows(read_slowly(body, 1, 100_000))


@pytest.mark.parametrize(
    "body",
    [
        b"m " + b",".join(b"f%d=1" % number for number in range(1000)) + b" 1\n",
        b"m f=1 1\n" * 1000,
        b'm f="a" 1\n' * 1000,
        b"rubbish\n" * 20_001,
        b"\n" * 30_000,
    ],
)
def test_more_than_the_limit_is_refused_before_it_takes_memory(body: bytes) -> None:
    with pytest.raises(TooManySamples):
        fast(body, limit=500 if body.startswith(b"m") else 10_000)
