"""Batches of a line: which comes next, how its units test, and what is true of them in the end."""

from __future__ import annotations

import math
import random

from simulators.physics.line_spec import LineSpec, TestSpec, batch_name
from simulators.physics.line_state import Batch, LineState
from simulators.physics.unit import Column, Facts


def order_batch(spec: LineSpec, state: LineState, rng: random.Random) -> Batch:
    """Put the next batch on the line's list: another product than the last one, if there is another."""
    last = state.batches.get(state.newest)
    others = [each for each in range(len(spec.products)) if last is None or each != last.product]
    low, high = (math.log(size) for size in spec.batch_size)
    size = round(math.exp(rng.uniform(low, high)))
    if last is not None and last.good + last.bad == last.size:
        del state.batches[last.number]
    state.newest += 1
    came_from = None if last is None else last.product
    batch = Batch(state.newest, rng.choice(others or [0]), size, state.now_ms, came_from)
    state.batches[batch.number] = batch
    return batch


def measure(test: TestSpec, rng: random.Random, *, passes: bool) -> float:
    """Return what the test of a unit measures: within the limits, or else below the lower one."""
    if passes:
        return round(min(max(rng.gauss(test.mean, test.sd), test.lower), test.upper), test.decimals)
    below = 10.0**-test.decimals + abs(rng.gauss(0.0, 1.5 * test.sd))
    return round(max(test.lower - below, 0.0), test.decimals)


def job_facts(spec: LineSpec, batch: Batch, end_ms: int) -> Facts:
    """Return the row of a finished batch."""
    name = batch_name(spec, batch.number)
    columns: dict[str, Column] = {
        "asset": spec.cell,
        "begin_ms": batch.begin_ms,
        "end_ms": end_ms,
        "job": name,
        "product": spec.products[batch.product].name,
        "lot": name,
        "ordered": batch.size,
        "good": batch.good,
        "bad": batch.bad,
    }
    return Facts("jobs", columns)


def changeover_facts(spec: LineSpec, batch: Batch, end_ms: int) -> Facts:
    """Return the row of a line changed over: from the first station's begin to the last station's end."""
    columns: dict[str, Column] = {
        "asset": spec.cell,
        "begin_ms": batch.begin_ms,
        "end_ms": end_ms,
        "kind": "style",
        "from": None if batch.came_from is None else spec.products[batch.came_from].name,
        "to": spec.products[batch.product].name,
    }
    return Facts("changeovers", columns)
