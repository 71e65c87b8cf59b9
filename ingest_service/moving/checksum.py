"""Checksums of samples by series: equal for equal samples, in whatever order, and wherever they were read from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from shopfloor.block import Int64, SampleBlock
from shopfloor.signal import SeriesKey

UInt64: TypeAlias = npt.NDArray[np.uint64]

_SEEDS: Final = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
_NO_VALUE: Final = 0x7FF8_0000_0000_0000
_NO_TEXT: Final = 1
_MASK: Final = 2**64 - 1


class Sums(NamedTuple):
    """Of ``k`` series, each's number of samples, and two sums over the hashes of its samples modulo 2**64."""

    samples: Int64
    first: UInt64
    second: UInt64

    def differing(self, other: Sums) -> npt.NDArray[np.intp]:
        """Return the places of series that are not the same in both."""
        return np.flatnonzero(
            (self.samples != other.samples) | (self.first != other.first) | (self.second != other.second)
        )

    def whole(self) -> str:
        """Return one checksum for all of them, 32 hexadecimal digits."""
        first, second = (sum(column.tolist()) & _MASK for column in (self.first, self.second))
        return f"{first:016x}{second:016x}"


def sums_of(keys: Sequence[SeriesKey], block: SampleBlock, *, signed_zeros: bool = True) -> Sums:
    """Return the sums of series whose samples lie in a block.

    A hash is made of everything that a sample says, bit by bit: series, both times, value, quality, status, text.

    Args:
        keys: the series; those of the block are not looked at, its ``series_index`` means these.
        block: samples in any order.
        signed_zeros: False takes -0.0 for 0.0.
    """
    names = np.array([_hashed(f"{key.asset}\0{key.signal}") for key in keys], np.uint64)
    value = np.where(np.isnan(block.value), np.nan, block.value)
    if not signed_zeros:
        value = value + 0.0
    bits = np.where(np.isnan(value), np.uint64(_NO_VALUE), value.view(np.uint64))
    state = block.quality.astype(np.uint64) << np.uint64(32) | block.status.astype(np.uint64)
    texts = _texts(block.text, len(block))
    count = np.bincount(block.series_index, minlength=len(keys)).astype(np.int64)
    order = np.argsort(block.series_index, kind="stable")
    starts = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.intp)[count > 0]
    sums: list[UInt64] = []
    for seed in _SEEDS:
        hashed = np.full(len(block), np.uint64(seed))
        for column in (
            names[block.series_index] if len(keys) else hashed,
            block.source_time.view(np.uint64),
            block.received_time.view(np.uint64),
            bits,
            state,
            texts,
        ):
            hashed = _mixed(hashed ^ column)
        total = np.zeros(len(keys), np.uint64)
        if len(starts):
            total[count > 0] = np.add.reduceat(hashed[order], starts)
        sums.append(total)
    return Sums(count, *sums)


def _mixed(numbers: UInt64) -> UInt64:
    """Spread every bit over all others (the finaliser of splitmix64, Steele et al. 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64 = numbers ^ (numbers >> np.uint64(31))
    return mixed


def _texts(text: Mapping[int, str], n: int) -> UInt64:
    hashes = np.full(n, np.uint64(_NO_TEXT))
    for row, one in text.items():
        hashes[row] = _hashed(one)
    return hashes


def _hashed(text: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )
