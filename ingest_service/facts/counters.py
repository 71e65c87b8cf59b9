"""How much a machine's counter rose, through resets, rollovers, changes of job and gaps."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from shopfloor.block import Float64, Int64

WIDTHS_BITS: Final = (16, 32)
"""Registers of older PLCs roll over at these widths."""
_HIGH: Final = 0.9
_LOW: Final = 0.1


class Increase(NamedTuple):
    """What a run of counter samples adds up to."""

    total: float
    resets: int
    """The counter fell, or the job changed: what it showed then was counted from zero."""
    rollovers: int
    suspect: float
    """Not in ``total``: steps that are faster than the machine can be."""


def increase(
    time: Int64,
    value: Float64,
    *,
    since: int,
    key: npt.NDArray[np.integer] | None = None,
    widths_bits: tuple[int, ...] = WIDTHS_BITS,
    max_per_s: float | None = None,
) -> Increase:
    """Return by how much a counter rose through the samples at and after ``since``.

    The last sample before ``since`` is where counting begins; without one the first sample adds nothing.
    For each step from ``previous`` to ``current``, the first that fits (n is a width of a register):

    - another ``key`` (job) and another value: the counter began anew, it adds ``current``;
    - ``current >= previous``: it adds the difference;
    - ``previous`` in the top tenth of 2**n and ``current`` in its lowest tenth: rollover, the difference + 2**n;
    - else a reset: it adds ``current``.

    Args:
        time: int64[n], UTC ns, ascending.
        value: float64[n], without nulls.
        since: UTC ns.
        key: int[n], equal where the counter belongs to the same job; None where there are no jobs.
        widths_bits: of the registers that may roll over.
        max_per_s: a step of more than this per second is not counted but returned as suspect.
    """
    begin = max(0, int(np.searchsorted(time, since)) - 1)
    time, value = time[begin:], value[begin:]
    if len(value) < 2:
        return Increase(0.0, 0, 0, 0.0)
    previous, current = value[:-1], value[1:]
    step = current - previous
    fell = step < 0
    rolled = np.zeros(len(step), np.bool_)
    for bits in widths_bits:
        size = 2.0**bits
        fits = fell & ~rolled & (previous > _HIGH * size) & (previous < size) & (current < _LOW * size)
        step = np.where(fits, step + size, step)
        rolled |= fits
    reset = fell & ~rolled
    if key is not None:
        changed = np.diff(key[begin:]) != 0
        changed &= current != previous
        rolled &= ~changed
        reset |= changed
    step = np.where(reset, current, step)
    # A sample before ``since`` can only be the first one, where counting begins.
    suspect = np.zeros(len(step), np.bool_)
    if max_per_s is not None:
        elapsed_s = np.diff(time) / 1e9
        suspect = step > max_per_s * elapsed_s
    return Increase(
        float(step[~suspect].sum()), int(reset.sum()), int(rolled.sum()), float(step[suspect].sum())
    )


def keys_at(time: Int64, change_time: Int64, change_key: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Return for each time the key that was valid then.

    Before the first one it is taken to have been the same: learning a job's name is no change of job.

    Args:
        time: int64[n], ascending.
        change_time: int64[m], ascending: when a key (a job's number) began to be valid.
        change_key: int[m].
    """
    place = np.searchsorted(change_time, time, side="right") - 1
    if len(change_key) == 0:
        return np.zeros(len(time), dtype=np.int64)
    return change_key[np.maximum(place, 0)]
