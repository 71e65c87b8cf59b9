"""Coverage-guided fuzzing of what decodes foreign bytes: ``python -m tests.fuzz batch -runs=1000000``.

What stands behind the target goes to libFuzzer: ``-runs``, ``-max_total_time``, ``-seed``, a folder that keeps what it
finds. It ends with an exception, and keeps the bytes, where a decoder raises what it does not promise, or takes in what
it can't give back. Only where atheris has been built for this computer.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(
    include=["shopfloor", "ingest_service", "edge_agent"], enable_loader_override=False
):
    import numpy as np
    import zstandard

    from ingest_service.line_protocol.columns import read_body
    from ingest_service.line_protocol.config import MappingConfig
    from ingest_service.line_protocol.layout import Layouts
    from ingest_service.line_protocol.mapping import LineMapping
    from ingest_service.line_protocol.placing import Places
    from ingest_service.line_protocol.points import read_slowly
    from ingest_service.line_protocol.samples import build
    from shopfloor import wire
    from shopfloor.block import SampleBlock, make_block, problems
    from shopfloor.errors import WireError
    from shopfloor.messages import Batch, Lane
    from shopfloor.signal import SeriesKey
    from tests.unit.line_protocol_bodies import LIMIT, fast, readable, rows

_LIMITS: Final = wire.Limits(compressed_bytes=2**16, decompressed_bytes=2**20, samples=10_000, series=1_000)
_compressor: Final = zstandard.ZstdCompressor(level=1, write_content_size=True)
_SEALED: Final = b"SFB\x01"


def _same(one: SampleBlock, other: SampleBlock) -> bool:
    names = ("series_index", "source_time", "received_time", "quality", "status")
    return (
        one.series == other.series
        and one.text == other.text
        and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
        and np.array_equal(one.value, other.value, equal_nan=True)
    )


def batch(data: bytes) -> None:
    """Decode a batch: bytes as they are, or sealed first, so that the fuzzer gets past the compression."""
    message = data[1:] if data[:1] == b"\0" else _SEALED + _compressor.compress(data[1:])
    try:
        found = wire.decode_batch(message, _LIMITS)
    except WireError:
        return
    again = wire.decode_batch(wire.encode_batch(found))
    assert (again.agent_id, again.stream_id, again.lane, again.first_seq) == (
        found.agent_id,
        found.stream_id,
        found.lane,
        found.first_seq,
    )
    assert _same(again.block, found.block)


_RULE: Final = {"measurement": "m*", "asset": "acme/{site}/{cell?}", "quality": "q", "status": "s"}
_mapping: Final = LineMapping(MappingConfig.model_validate({"rules": [_RULE]}))
_LONG: Final = b"#" + b" comment" * 270 + b"\n"
"""A comment before a body, so that it is not read point by point for being small."""
_PLAIN: Final = b"".join(
    b"m,site=hk01,cell=imm-%02d,line=%s a=1.5 17600000000000000%02d\n" % (n, b"long" * 40, n)
    for n in range(6)
)
"""Around what is fuzzed: lines that are remembered when they were met twice."""
_LAYOUTS: Final = Layouts()
for _value in (b"1 1760000000000000099", b"2 1760000000000000098"):
    read_body(_PLAIN + b"m,site=hk01 a=" + _value + b"\n" + _PLAIN, 1, LIMIT, readable, _LAYOUTS)
assert _LAYOUTS.size, "nothing is remembered of the bodies before the one that is fuzzed"


def _layouts() -> Layouts:
    """Return what is remembered of earlier bodies, the same for each run."""
    layouts = Layouts()
    layouts._known = _LAYOUTS._known.copy()
    layouts.size = _LAYOUTS.size
    return layouts


def lines(data: bytes) -> None:
    """Read line protocol both ways, and make samples of it."""
    body = _LONG + data
    points = fast(body)
    assert rows(points) == rows(read_slowly(body, 1, 100_000))
    built = build(points, body, Places(_mapping, "acme"), 10**18)
    assert problems(built.block) == []
    body = _PLAIN + b"m,site=hk01 a=" + data + b"\n" + _PLAIN
    points = read_body(body, 1, LIMIT, readable, _layouts())
    assert rows(points) == rows(read_slowly(body, 1, LIMIT))


def _example() -> bytes:
    """Return a batch as the fuzzer may begin with it, unsealed."""
    series = (SeriesKey("acme/hk01/m", "a"), SeriesKey("acme/hk01/m", "b"))  # type: ignore[arg-type]
    block = make_block(
        series, [0, 1, 0, 1], np.arange(4) * 10**9, np.arange(4), [1.5, 2, np.nan, 4], text={2: "x"}
    )
    sealed = wire.encode_batch(Batch("agent", "stream", Lane.LIVE, 1, block))
    return b"\1" + zstandard.ZstdDecompressor().decompress(sealed[4:])


_LINES: Final = b"""m,site=hk01,cell=imm-01 a=1.5,b=3i,c=t,q=0i,s=5u 1760000000000000000
m,site=dg01 a=-1e5 1760000000000000001
sample,enterprise=acme,signal=s text="a \\" b" 17
m\\ n,site=x\\,y a=nan
# comment
"""
_ALIKE: Final = tuple(b"%s1760000000000000097" % word for word in (b"3.5 ", b"+3.5 ", b"3.5i", b"3.5\n"))
"""Each makes a body, or almost one, like those that are remembered: chance takes tens of thousands of runs to a time."""
TARGETS: Final[dict[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]]] = {
    "batch": (batch, (_example(),)),
    "lines": (lines, (_LINES, *_ALIKE)),
}
"""What is fuzzed, each with examples to begin with."""


def main() -> None:
    """Run libFuzzer on one target."""
    name, *options = sys.argv[1:]
    target, examples = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        for number, example in enumerate(examples):
            target(example)
            Path(folder, f"example-{number}").write_bytes(example)
        atheris.Setup([sys.argv[0], *options, folder], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
