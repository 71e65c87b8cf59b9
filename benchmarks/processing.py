"""What rules cost: ``python -m benchmarks.processing [--json]``.

CPU time a sample between source and buffer, nothing stored: 1,000 series in blocks of one reading each (a poll), and
one series in blocks of 1,000 (a burst of messages). Values walk by 0.05 and are read to two decimals; the deadband and
the door of 0.2 leave most of them out.

- ``none_ns``: series that no rule takes; ``scale_ns``: scaled only.
- ``deadband_ns``, ``swinging_door_ns``; ``kept`` is the share of the readings that each lets through.
- ``swinging_door_state_bytes``: what is saved with each reading, so that what is held survives a kill.
- ``freshness_ns``: no rule but a limit on freshness.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any, Final

import numpy as np

from edge_agent.processing.config import RuleConfig
from edge_agent.processing.stage import Moment, Stage
from shopfloor.asset import AssetPath
from shopfloor.block import SampleBlock, make_block
from shopfloor.signal import SeriesKey

_BEGIN_NS: Final = 1_795_341_600_000_000_000
_SECOND_NS: Final = 1_000_000_000
_RULES: Final[dict[str, dict[str, Any]]] = {
    "none": {"signal": "nothing.of.this.name", "deadband": {}},
    "scale": {"scale": 0.1, "offset": -5.0},
    "deadband": {"deadband": {"absolute": 0.2}},
    "swinging_door": {"swinging_door": {"deviation": 0.2}},
    "freshness": {"freshness_s": 30},
}


def polls(series: int, blocks: int, readings: int) -> list[SampleBlock]:
    """Return blocks of ``readings`` rows of each of ``series`` series."""
    rng = np.random.default_rng(7)
    keys = tuple(
        SeriesKey(AssetPath(f"acme/hk01/moulding/cell-a/imm-{number // 25:03d}"), f"zone_{number % 25}.temperature")
        for number in range(series)
    )  # fmt: skip
    walk = 200 + rng.normal(0, 0.05, (blocks * readings, series)).cumsum(axis=0)
    index = np.tile(np.arange(series), readings)
    made: list[SampleBlock] = []
    for number in range(blocks):
        rows = np.arange(number * readings, (number + 1) * readings)
        times = _BEGIN_NS + np.repeat(rows, series) * _SECOND_NS
        made.append(make_block(keys, index, times, times + 10_000_000, np.round(walk[rows].ravel(), 2)))
    return made


def measure(rule: dict[str, Any], blocks: list[SampleBlock]) -> tuple[float, float, float]:
    """Return CPU ns a reading, the share that is kept, and the bytes of state a reading."""
    stage = Stage([RuleConfig.model_validate(rule)], "bench", "mqtt", {})
    came = sum(map(len, blocks))
    kept = state = 0
    began = time.process_time_ns()
    for number, block in enumerate(blocks):
        if stage.passes(block):
            kept += len(block)
            continue
        step = stage.take(block, Moment(_BEGIN_NS, number * _SECOND_NS))
        kept += len(step.block)
        state += sum(map(len, step.state.values()))
    return (time.process_time_ns() - began) / came, kept / came, state / came


def run() -> dict[str, float]:
    """Return all figures."""
    figures: dict[str, float] = {}
    shapes = {"": polls(1_000, 400, 1), "burst_": polls(1, 100, 1_000)}
    for shape, blocks in shapes.items():
        for name, rule in _RULES.items():
            best, kept, state = min(measure(rule, blocks) for _ in range(3))
            figures[f"{shape}{name}_ns"] = round(best, 2)
            if name in {"deadband", "swinging_door"}:
                figures[f"{shape}{name}_kept"] = round(kept, 3)
            if name == "swinging_door":
                figures[f"{shape}{name}_state_bytes"] = round(state, 1)
    return figures


def main() -> None:
    """Print the figures, as one JSON line with --json."""
    parser = argparse.ArgumentParser(description="Measure what rules between source and buffer cost.")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    arguments = parser.parse_args()
    figures = run()
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:32} {value:>10}")


if __name__ == "__main__":
    main()
