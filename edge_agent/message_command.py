"""``shopfloor edge check AGENT.YAML --message TOPIC``: which samples an MQTT message would become, or why none."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_agent.config import Config
from edge_agent.sources.mqtt.trial import Trial, try_message
from shopfloor import configfile
from shopfloor.block import Quality, Sample
from shopfloor.errors import ConfigError

_MAX_BYTES = 16 * 2**20


def add_arguments(check: argparse.ArgumentParser) -> None:
    """Declare what `run` takes."""
    check.add_argument(
        "--message",
        metavar="TOPIC",
        help="only say which samples an MQTT message on this topic would become, before any rules of processing",
    )
    check.add_argument(
        "--payload",
        metavar="FILE",
        default="-",
        help="its payload (default -, the standard input); a line end at its end is left out",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what the sources would make of the message; returns 0 if all of it, 1 if not, 2 if the file is wrong."""
    try:
        config = configfile.load(arguments.config, Config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        payload = _read(arguments.payload)
    except OSError as error:
        print(f"{arguments.payload}: {error.strerror or error}", file=sys.stderr)
        return 1
    now = time.time_ns()
    trials = {
        entry.mqtt.name: try_message(entry.mqtt, arguments.message, payload, now)
        for entry in config.sources
        if entry.mqtt is not None
    }
    if getattr(arguments, "json", False):
        print(json.dumps({name: _as_json(trial) for name, trial in trials.items()}))
    else:
        print("\n".join(_as_lines(trials)))
    taken = [trial for trial in trials.values() if trial.topic]
    return 0 if taken and all(trial.samples and not trial.problems for trial in taken) else 1


def _read(name: str) -> bytes:
    if name == "-":
        payload = sys.stdin.buffer.read(_MAX_BYTES + 1)
    else:
        with Path(name).open("rb") as file:
            payload = file.read(_MAX_BYTES + 1)
    if len(payload) > _MAX_BYTES:
        raise OSError(f"more than {_MAX_BYTES} bytes")
    return payload.removesuffix(b"\n").removesuffix(b"\r")


def _as_lines(trials: dict[str, Trial]) -> list[str]:
    if not trials:
        return ["no source of this configuration speaks MQTT"]
    lines = []
    for name, trial in trials.items():
        lines.append(f"{name}: taken by {trial.topic}" if trial.topic else f"{name}:")
        lines += [f"  {each.series} = {_shown(each)} at {_when(each)}" for each in trial.samples]
        lines += [f"  FAIL {each}" for each in trial.problems]
        if trial.topic and not trial.samples:
            lines.append("  FAIL no sample")
    return lines


def _shown(sample: Sample) -> str:
    value = repr(sample.value) if sample.text is None else repr(sample.text)
    if sample.text is None and math.isnan(sample.value):
        value = "null"
    return value if sample.quality == Quality.GOOD else f"{value} ({Quality(sample.quality).name})"


def _when(sample: Sample) -> str:
    if sample.source_time == sample.received_time:
        return "the time of receipt"
    seconds, fraction_ns = divmod(sample.source_time, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction_ns:09}Z"
    except (ValueError, OverflowError, OSError):
        return f"{sample.source_time} ns since 1970"


def _as_json(trial: Trial) -> dict[str, Any]:
    return {
        "topic": trial.topic,
        "samples": [
            {
                "asset": each.series.asset,
                "signal": each.series.signal,
                "source_time_ns": each.source_time,
                "has_machine_time": each.source_time != each.received_time,
                "value": None if math.isnan(each.value) else each.value,
                "text": each.text,
                "quality": Quality(each.quality).name,
                "status": each.status,
            }
            for each in trial.samples
        ],
        "problems": list(trial.problems),
    }
