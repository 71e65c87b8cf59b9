"""What variables can hold: values of a data fault may be outside the type that a variable has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from simulators.emission_format import Value
from simulators.protocols.opcua_variable import Kind, Raw, Variable

_RANGES: Final[Mapping[Kind, tuple[int, int]]] = {
    "Int32": (-(2**31), 2**31 - 1),
    "UInt16": (0, 2**16 - 1),
    "UInt32": (0, 2**32 - 1),
    "UInt64": (0, 2**53),
}
"""Whole numbers as far as float64 has all of them."""


def fitting(kind: Kind, value: Value) -> Raw | None:
    """Return what a variable of a kind holds of a value, at the end of its range if need be.

    None: the value is NaN, and the kind has no way to say that there is none.
    """
    if isinstance(value, str):
        return value
    if kind == "Double":
        return value
    if math.isnan(value):
        return None
    if kind == "Boolean":
        return bool(value)
    low, high = _RANGES[kind]
    return min(max(round(value), low), high)


def raw_of(variable: Variable, value: Value) -> Raw | None:
    """Return what an OPC UA variable shows of a signal's value; None as `fitting` does."""
    if isinstance(value, str) or variable.kind == "Double":
        return value if isinstance(value, str) or math.isnan(value) else variable.raw(value)
    return fitting(variable.kind, value)
