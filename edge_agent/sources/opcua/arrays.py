"""Arrays (Part 6 §5.2.5): their shape, the paths of their elements, and those of numbers as one column."""

from __future__ import annotations

import struct
from functools import lru_cache
from math import prod
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.sources.opcua.binary import NUMBERS, MalformedMessage, read_length
from edge_agent.sources.opcua.scalar import BOOLEAN, INT64, NUMPY_TYPES, UINT64, rounded_count
from shopfloor.block import Float64, UInt32

MAX_DIMENSIONS: Final = 8


class Leaves(NamedTuple):
    """The elements of one value, ``n`` of them."""

    paths: tuple[str, ...]
    """The empty path is the value itself: it was nothing but one plain value in another Variant."""
    value: Float64
    text: dict[int, str]
    """By position."""
    null: npt.NDArray[np.bool_]
    status: UInt32
    """0, or what is wrong with this element alone."""
    not_convertible: int = 0
    rounded: int = 0
    beyond: int = 0
    """How many were left out because there are too many, or because they lie too deep for a name."""
    problems: tuple[str, ...] = ()
    """Why some are not convertible."""
    unknown: frozenset[str] = frozenset()
    """Encodings of structures of which it is not known yet what they are made of."""


def plain_array(variant: bytes, most: int, room: int) -> Leaves | None:
    """Return an array of numbers without looking at each; None where it is something else."""
    kind = variant[0] & 0x3F
    if not variant[0] & 0x80 or kind not in NUMBERS:
        return None
    count, at = read_length(variant, 1)
    size = NUMBERS[kind].size
    shape = shape_of(variant, at + count * size, count, variant[0])
    if len(shape) > room:
        return None
    kept = min(count, most)
    if at + count * size > len(variant):
        raise MalformedMessage("an array ends behind the message")
    found = np.frombuffer(variant[at : at + kept * size], NUMPY_TYPES[kind])
    return Leaves(
        paths_of(shape, kept),
        (found != 0 if kind == BOOLEAN else found).astype(np.float64),
        {},
        np.zeros(kept, np.bool_),
        np.zeros(kept, np.uint32),
        rounded=rounded_count(found) if kind in {INT64, UINT64} else 0,
        beyond=count - kept,
    )


def shape_of(body: bytes, at: int, count: int, encoding: int) -> tuple[int, ...]:
    """Return the dimensions behind an array's elements; the plain length where there are none, or they lie."""
    if not encoding & 0x40:
        return (count,)
    dimensions, at = read_length(body, at)
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        return (count,)
    shape = struct.unpack_from(f"<{dimensions}i", body, at)
    return shape if min(shape) > 0 and prod(shape) == count else (count,)


@lru_cache(maxsize=1024)
def paths_of(shape: tuple[int, ...], count: int) -> tuple[str, ...]:
    """Return the paths of the first elements of an array, rows first."""
    if not count:
        return ()
    indices = np.unravel_index(np.arange(count), shape)
    return tuple(
        ".".join(map(str, index)) for index in zip(*(each.tolist() for each in indices), strict=True)
    )
