"""Writes the batches of the present wire version and what they hold. Never replace one that is committed.

python -m tests.cases.wire.make tests/cases/wire
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shopfloor.asset import parse_asset
from shopfloor.block import make_block
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey, parse_signal
from shopfloor.wire import WIRE_VERSION, encode_batch

T0 = 1_763_778_000_123_456_700
IMM = parse_asset("acme/hk01/moulding/cell-a/imm-01")
TEMPERATURE = SeriesKey(IMM, parse_signal("barrel.zone_1.temperature"))
COUNTER = SeriesKey(IMM, parse_signal("count.good_parts"))
JOB = SeriesKey(IMM, parse_signal("job.name"))
POWER = SeriesKey(parse_asset("acme"), parse_signal("energy.active_power"))


def batches() -> Iterator[tuple[str, Batch]]:
    """Yield name and batch: every coding of every column at least once."""
    random = np.random.default_rng(7)
    n = 500
    regular = T0 + np.arange(n) * 100_000_000
    yield (
        "regular_decimals",
        Batch(
            "hk01-gateway",
            "9f8e7d6c5b4a39281706f5e4d3c2b1a0",
            Lane.LIVE,
            1,
            make_block(
                (TEMPERATURE, POWER),
                np.arange(n) % 2,
                regular,
                regular + 5,
                np.round(random.normal(230, 3, n), 1),
            ),
        ),
    )
    jitter = regular + random.integers(0, 10_000_000, n)
    yield (
        "jitter_floats_and_nulls",
        Batch(
            "a",
            "s.1_x-y",
            Lane.BACKLOG,
            2**62 - n,
            make_block(
                (TEMPERATURE, COUNTER),
                random.integers(0, 2, n),
                jitter,
                T0,
                np.where(random.random(n) < 0.1, np.nan, random.normal(0, 1e5, n)),
                random.integers(0, 3, n),
                random.integers(0, 2**32, n),
            ),
        ),
    )
    texts = {0: "", 2: '模具 7, "quoted"\nand a NUL \0', 3: "x" * 2000}
    yield (
        "texts",
        Batch(
            "a",
            "texts",
            Lane.LIVE,
            7,
            make_block((JOB,), np.zeros(4), T0 + np.arange(4), T0, np.nan, [0, 2, 0, 1], text=texts),
        ),
    )
    edges = [0.0, -0.0, 5e-324, 1.7976931348623157e308, float(2**53), -1e-9, 0.1, 1 / 3, np.inf]
    yield (
        "edges",
        Batch(
            "a",
            "edges",
            Lane.LIVE,
            1,
            make_block(
                (COUNTER,),
                np.zeros(9),
                [-(2**63), 2**63 - 1, 0, -1, 1, 10**9, 10**12, -(10**15), 2**53],
                [0] * 9,
                edges,
                [0, 1, 2] * 3,
                [0, 2**32 - 1, 1] * 3,
            ),
        ),
    )
    yield "one_constant", Batch("a", "one", Lane.LIVE, 1, make_block((POWER,), np.zeros(3), T0, T0, 42.0))
    yield "nothing", Batch("a", "nothing", Lane.LIVE, 1, make_block((), [], [], [], []))


def content(batch: Batch) -> dict[str, Any]:
    """Return what a batch holds as JSON; numbers of float64 as hexadecimal text, exact to the bit."""
    block = batch.block
    return {
        "agent_id": batch.agent_id,
        "stream_id": batch.stream_id,
        "lane": str(batch.lane),
        "first_seq": batch.first_seq,
        "series": [[str(key.asset), key.signal] for key in block.series],
        "series_index": block.series_index.tolist(),
        "source_time": block.source_time.tolist(),
        "received_time": block.received_time.tolist(),
        "value": [value.hex() for value in block.value.tolist()],
        "quality": block.quality.tolist(),
        "status": block.status.tolist(),
        "text": {str(row): text for row, text in sorted(block.text.items())},
    }


def make(folder: Path) -> None:
    """Write the files of the present version."""
    for name, batch in batches():
        path = folder / f"v{WIRE_VERSION}-{name}.batch"
        if path.exists():
            raise FileExistsError(path)
        path.write_bytes(encode_batch(batch))
        path.with_suffix(".json").write_text(json.dumps(content(batch), ensure_ascii=True) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
