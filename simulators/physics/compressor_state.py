"""All that a compressor's future depends on, and what a stretch of it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from simulators.physics.compressor_signals import LOADED
from simulators.physics.line_intervals import Track
from simulators.physics.unit import Value


class CompressorState(msgspec.Struct):
    """The compressor between two stretches; flows in Nm³/min."""

    now_ms: int
    stretch: int
    track: Track
    pressure_bar: float
    oil_c: float
    running_ms: int
    loaded_ms: int
    mode: int = LOADED
    unloaded_since_ms: int = 0
    look_ms: int = 0
    use_share: float = 0.0
    """Of the rated flow, before its ups and downs."""
    swing: float = 0.0
    use: float = 0.0
    """Nm³/min without leaks, until the next look at it."""
    delivered_nm3: float = 0.0
    """Since the life began."""
    kwh: float = 0.0
    said: dict[str, float | str] = {}


class Point(NamedTuple):
    """What is true from a time on."""

    time_ms: int
    pressure_bar: float
    mode: int
    out: float
    electric_kw: float
    oil_c: float
    running_ms: int
    loaded_ms: int


class CompressorDetail(NamedTuple):
    """What `play` needs of a stretch, and how much air went where."""

    before: dict[str, Value]
    names: Sequence[str]
    times_ms: Sequence[int]
    values: Sequence[Sequence[float]]
    """By signal."""
    delivered_nm3: float
    taken_nm3: float
