"""What a machine makes next: ordered jobs first, then jobs of its own invention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from simulators.physics.moulds import Mould


@dataclass(frozen=True, slots=True)
class JobOrder:
    """A job that stands in the scenario."""

    name: str
    mould: int
    """Which of the machine's moulds, from 0."""
    parts: int
    colour: str
    start_ms: int | None = None
    """Not before this time (UTC ms); None as soon as the one before is done."""


class Job(msgspec.Struct):
    """A job at work."""

    name: str
    mould: int
    colour: str
    lot: str
    ordered: int
    begin_ms: int
    viscosity: float
    """Of the lot of material, relative to the usual one."""
    cycles: int = 0
    good: int = 0
    bad: int = 0
    test: int = 0

    @property
    def left(self) -> int:
        """Parts that are still to be made."""
        return self.ordered - self.good - self.bad


class Change(msgspec.Struct):
    """What has to be changed between two jobs."""

    kind: str
    """mould, material or colour."""
    old: str
    new: str
    share: float
    """Of the time of a mould change."""
    purge_shots: int


def next_job(
    number: int,
    orders: Sequence[JobOrder],
    moulds: Sequence[Mould],
    batch: tuple[int, int],
    before: Job | None,
    now_ms: int,
    rng: np.random.Generator,
) -> Job:
    """Return job ``number`` (from 0): the order of that number, then batches of log-uniform size on any mould."""
    lot = f"L{int(rng.integers(100_000, 999_999))}"
    viscosity = float(rng.normal(1.0, 0.015))
    if number < len(orders):
        order = orders[number]
        return Job(order.name, order.mould, order.colour, lot, order.parts, now_ms, viscosity)
    choices = [*range(len(moulds))]
    if before is not None and len(moulds) > 1 and rng.random() < 0.8:
        choices.remove(before.mould)
    mould = choices[int(rng.integers(len(choices)))]
    colour = moulds[mould].colours[int(rng.integers(len(moulds[mould].colours)))]
    low, high = batch
    parts = math.exp(float(rng.uniform(math.log(low), math.log(high))))
    cavities = moulds[mould].cavities
    name = f"{moulds[mould].product}-{int(rng.integers(10_000, 99_999))}"
    ordered = max(round(parts / cavities), 1) * cavities
    return Job(name, mould, colour, lot, ordered, now_ms, viscosity)


def what_changes(old: Job, new: Job, moulds: Sequence[Mould], rng: np.random.Generator) -> Change | None:
    """Return the changeover between two jobs; None where the next one just goes on."""
    before, after = moulds[old.mould], moulds[new.mould]
    if old.mould != new.mould:
        purge = int(rng.integers(5, 21)) if before.material_name != after.material_name else 0
        return Change("mould", before.name, after.name, 1.0 + 0.005 * purge, purge)
    if old.colour != new.colour:
        return Change("colour", old.colour, new.colour, 0.4, int(rng.integers(8, 25)))
    return None
