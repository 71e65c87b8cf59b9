"""Bytes on disk for one sample, everything included: ``python -m benchmarks.storage [--json]``.

- ``bytes_per_sample``: a simulated week of the three plants as its machines say it (texts included), received 1 to 8 ms
  later by a clock of whole milliseconds, in the embedded store after compaction: files, rollups, ledger, indexes.
- ``plain_bytes_per_sample``: 2,000 series at exactly 1 Hz, values of one decimal that walk.

Beside each the same numbers (without texts, received times and qualities) in InfluxDB and VictoriaMetrics, where those
are installed. ``--days``, ``--samples`` and ``--peer-samples`` make it small.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks._history import BATCH_ROWS, Plan, disk_bytes, fill, lines_of
from benchmarks._line_protocol_peers import Peer, influxdb, victoriametrics
from shopfloor.block import SampleBlock, make_block
from shopfloor.signal import SeriesKey
from simulators.physics.unit import Change
from simulators.plant.units import make_units
from simulators.playback import Playback
from simulators.scenario import THREE_PLANTS, load_scenario

_WEEK_BEGIN_MS = 1_767_571_200_000
"""2026-01-05, a Monday."""
_HOUR_NS = 3600 * 10**9
_PLAYERS = 2
_PEER_LINES = 10_000


class _Hour(NamedTuple):
    """What some units say in an hour."""

    new: list[SeriesKey]
    """Series that were not named before; those of earlier hours come before them."""
    place: list[int]
    time: list[int]
    value: list[float]
    text: dict[int, str]


def week(days: float) -> Iterator[SampleBlock]:
    """Yield what all machines of the three plants say, hour by hour; processes share the machines."""
    hours = round(days * 24)
    random = np.random.default_rng(5)
    players: list[tuple[Connection, list[SeriesKey]]] = []
    with ExitStack() as ending:
        for share in range(_PLAYERS):
            ours, theirs = multiprocessing.Pipe(duplex=False)
            process = multiprocessing.Process(target=_play, args=(share, hours, theirs), daemon=True)
            process.start()
            theirs.close()
            ending.callback(process.join)
            ending.callback(process.terminate)
            ending.callback(ours.close)
            players.append((ours, []))
        waiting: list[SampleBlock] = []
        for _ in range(hours):
            for ours, known in players:
                hour: _Hour = ours.recv()
                known.extend(hour.new)
                time = np.array(hour.time, np.int64)
                received = time + random.integers(1, 9, len(time)) * 1_000_000
                waiting.append(make_block(known, hour.place, time, received, hour.value, text=hour.text))
            if sum(map(len, waiting)) >= BATCH_ROWS:
                yield from waiting
                waiting.clear()
        yield from waiting


def _play(share: int, hours: int, to: Connection) -> None:
    scenario = load_scenario(THREE_PLANTS)
    units = [
        (unit, {cell: site.cells[cell] for cell in unit.cells})
        for site in scenario.sites
        for unit in make_units(scenario, site, _WEEK_BEGIN_MS)
    ]
    players = [(Playback(unit), assets) for unit, assets in units[share::_PLAYERS]]
    places: dict[tuple[str, str], int] = {}
    for number in range(1, hours + 1):
        hour = _Hour([], [], [], [], {})
        for player, assets in players:
            for moment in player.advance(_WEEK_BEGIN_MS * 1_000_000 + number * _HOUR_NS):
                changes = (
                    ((moment.signal, moment.value),) if isinstance(moment, Change) else moment.values.items()
                )
                for signal, value in changes:
                    place = places.get((moment.cell, signal))
                    if place is None:
                        place = places[moment.cell, signal] = len(places)
                        hour.new.append(SeriesKey(assets[moment.cell], signal))
                    if isinstance(value, str):
                        hour.text[len(hour.place)] = value
                    hour.place.append(place)
                    hour.time.append(moment.time_ns)
                    hour.value.append(math.nan if isinstance(value, str) else float(value))
        to.send(hour)


def numbers(blocks: Iterable[SampleBlock], most: int) -> Iterator[SampleBlock]:
    """Yield the first samples that are numbers."""
    left = most
    for block in blocks:
        kept = np.flatnonzero(~np.isnan(block.value))[:left]
        left -= len(kept)
        yield block.take(kept)
        if left <= 0:
            return


def peer_bytes(peer: Peer, folder: Path, blocks: Iterable[SampleBlock]) -> float | None:
    """Return the bytes that a server needs for one sample, after it was stopped."""
    samples = 0
    with peer(folder) as server:
        if server is None:
            return None
        url = f"http://127.0.0.1:{server.port}{server.path}"
        for block in blocks:
            for first in range(0, len(block), _PEER_LINES):
                rows = np.arange(first, min(first + _PEER_LINES, len(block)))
                urllib.request.urlopen(url, lines_of(block.take(rows)), timeout=60).close()
            samples += len(block)
    return round(disk_bytes(folder) / samples, 3)


def measure(days: float, samples: int, peer_samples: int, folder: Path | None) -> dict[str, Any]:
    """Return all figures."""
    found: dict[str, Any] = {"benchmark": "storage", "days": days}
    plain = Plan(2_000, max(1, samples // 2_000), 1_000_000_000, 0)
    # Machines take long to live: what fits into memory is made once for all stores.
    lived = list(week(days)) if days <= 1 else None
    sources: tuple[tuple[str, Callable[[], Iterator[SampleBlock]]], ...] = (
        ("", lambda: iter(lived) if lived is not None else week(days)),
        ("plain_", plain.blocks),
    )
    for prefix, blocks in sources:
        with tempfile.TemporaryDirectory(prefix="shopfloor-bench-", dir=folder) as name:
            root = Path(name)
            filled = fill(root / "ours" / "samples.duckdb", blocks())
            total = disk_bytes(root / "ours")
            found[f"{prefix}bytes_per_sample"] = round(total / filled["samples"], 3)
            found[f"{prefix}samples"] = filled["samples"]
            files = disk_bytes(root / "ours" / "samples")
            found[f"{prefix}files_bytes_per_sample"] = round(files / filled["samples"], 3)
            for peer in (influxdb, victoriametrics):
                rows = numbers(blocks(), peer_samples)
                found[f"{prefix}{peer.__name__}_bytes_per_sample"] = peer_bytes(
                    peer, root / peer.__name__, rows
                )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument(
        "--days",
        type=float,
        default=7.0,
        help="of the simulated plants; a day takes a minute or two of two processors to make",
    )
    parser.add_argument("--samples", type=int, default=50_000_000, help="of the plain series")
    parser.add_argument("--peer-samples", type=int, default=5_000_000, help="that peers are given")
    parser.add_argument("--folder", type=Path, help="where the stores lie; default: a temporary folder")
    arguments = parser.parse_args()
    found = measure(arguments.days, arguments.samples, arguments.peer_samples, arguments.folder)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, figure in found.items():
        print(f"{name:40} {figure}")


if __name__ == "__main__":
    main()
