"""The codec: size and time a sample, against msgpack rows and plain columns under the same compressor.

The batches are what an agent sends that polls 1,000 series at 1 Hz: times with millisecond jitter, one received
time a poll, values of one decimal that walk.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import msgspec
import numpy as np
import zstandard

from shopfloor.asset import AssetPath
from shopfloor.block import SampleBlock, make_block
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey
from shopfloor.wire import decode_batch, encode_batch

SERIES = 1_000
POLLS = 10


def make_batch(seed: int) -> Batch:
    """Return 10,000 samples of 1,000 series."""
    rng = np.random.default_rng(seed)
    series = tuple(
        SeriesKey(
            AssetPath(f"acme/hk01/moulding/cell-a/imm-{number // 25:03d}"), f"zone_{number % 25}.temperature"
        )
        for number in range(SERIES)
    )
    start = 1_795_341_600_000_000_000
    polls = np.repeat(np.arange(POLLS, dtype=np.int64) * 1_000_000_000, SERIES)
    jitter = rng.integers(0, 1_000, SERIES * POLLS) * 1_000_000
    received = np.repeat(
        start + np.arange(1, POLLS + 1) * 1_000_000_000 + rng.integers(0, 10**6, POLLS) * 1_000, SERIES
    )
    walk = rng.uniform(20, 300, SERIES) + rng.normal(0, 1, (POLLS, SERIES)).cumsum(axis=0)
    index = np.tile(np.arange(SERIES), POLLS)
    block = make_block(series, index, start + polls + jitter, received, np.round(walk.ravel(), 1))
    return Batch("hk01-gateway", "0123456789abcdef0123456789abcdef", Lane.LIVE, 1 + seed * 10_000, block)


def _best_us(work: Callable[[], object], samples: int, repeats: int = 30) -> float:
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best / samples * 1e6


def _rows(block: SampleBlock) -> bytes:
    rows = [
        (str(s.series.asset), s.series.signal, s.source_time, s.received_time, s.value, s.quality)
        for s in block.rows()
    ]
    return zstandard.compress(msgspec.msgpack.encode(rows), 3)


def _plain_columns(block: SampleBlock) -> bytes:
    columns = (
        block.series_index,
        block.source_time,
        block.received_time,
        block.value,
        block.quality,
        block.status,
    )
    return zstandard.compress(msgspec.msgpack.encode([column.tobytes() for column in columns]), 3)


def measure() -> dict[str, float]:
    """Return the figures, medians over eight different batches."""
    figures: list[tuple[float, float, float]] = []
    for seed in range(8):
        batch = make_batch(seed)
        message = encode_batch(batch)
        again = decode_batch(message)
        if not (
            np.array_equal(again.block.value, batch.block.value)
            and np.array_equal(again.block.source_time, batch.block.source_time)
            and again.block.series == batch.block.series
        ):
            raise AssertionError("the codec does not give back what it got")
        samples = len(batch.block)
        figures.append(
            (
                _best_us(lambda batch=batch: encode_batch(batch), samples),  # type: ignore[misc]
                _best_us(lambda message=message: decode_batch(message), samples),  # type: ignore[misc]
                len(message) / samples,
            )
        )
    encode, decode, size = (float(np.median(column)) for column in zip(*figures, strict=True))
    block = make_batch(0).block
    return {
        "samples_per_batch": len(block),
        "encode_us_per_sample": round(encode, 4),
        "decode_us_per_sample": round(decode, 4),
        "bytes_per_sample": round(size, 3),
        "peer_msgpack_rows_bytes_per_sample": round(len(_rows(block)) / len(block), 3),
        "peer_msgpack_rows_encode_us_per_sample": round(_best_us(lambda: _rows(block), len(block), 5), 4),
        "peer_plain_columns_bytes_per_sample": round(len(_plain_columns(block)) / len(block), 3),
        "peer_plain_columns_encode_us_per_sample": round(
            _best_us(lambda: _plain_columns(block), len(block)), 4
        ),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    arguments = parser.parse_args()
    figures = measure()
    print(json.dumps(figures) if arguments.json else "\n".join(f"{k:45} {v}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
