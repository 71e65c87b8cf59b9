"""``shopfloor ingest migrate``: moves the embedded store to InfluxDB or VictoriaMetrics; may be ended and called again."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ingest_service.config import IngestConfig, StoreConfig
from ingest_service.moving import plant_copy, progress
from ingest_service.moving.decimals import survey
from ingest_service.moving.mover import Mover, Report, day_name
from ingest_service.moving.settling import Settled, settle
from ingest_service.moving.source import Chunk, EmbeddedSource
from ingest_service.moving.target import MoveRefused, Target
from ingest_service.plant.engine import connect
from ingest_service.store_config import VictoriaMetricsStoreConfig
from ingest_service.stores.opening import open_points
from shopfloor import logs
from shopfloor.configfile import load
from shopfloor.errors import ConfigError, Permanent, StoreUnavailable

_CHUNK: Final = 200_000
_EVERY_S: Final = 2.0
_DAY_S: Final = 86_400
_BEYOND: Final = 100_000
"""So many samples older than what VictoriaMetrics keeps may go to the PlantStore instead."""


def add_arguments(commands: Any) -> None:
    """Declare the sub-command of ``shopfloor ingest``."""
    migrate = commands.add_parser(
        "migrate",
        help="move the embedded store to InfluxDB or VictoriaMetrics, while no service runs; call again to go on",
    )
    migrate.add_argument(
        "config", type=Path, metavar="FROM", help="ingest.yaml with the embedded store; not changed"
    )
    migrate.add_argument("to", type=Path, metavar="TO", help="ingest.yaml of the service as it shall be")
    migrate.add_argument(
        "--since", type=_day, help="first day to move, such as 2026-01-01; default: everything"
    )
    migrate.add_argument(
        "--samples-per-s", type=float, default=0.0, help="move at most so many, to leave room on the link"
    )
    migrate.add_argument(
        "--chunk", type=_positive, default=_CHUNK, help="samples moved at once; default %(default)s"
    )
    migrate.add_argument(
        "--ahead",
        action="store_true",
        help="move and compare, no more: for a copy of the store, while the service runs on",
    )
    migrate.add_argument("--verify", action="store_true", help="compare also what was compared before")
    migrate.add_argument("--json", action="store_true", help="print what came of it as one object")
    migrate.set_defaults(run=_migrate)


def _migrate(arguments: argparse.Namespace) -> int:
    logs.set_up()
    try:
        old, new = load(arguments.config, IngestConfig), load(arguments.to, IngestConfig)
        problem = _direction(arguments, old, new)
        if problem:
            print(problem, file=sys.stderr)
            return 2
        return _moved(arguments, old, new)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ended; call it again to go on", file=sys.stderr)
        return 130
    except (Permanent, StoreUnavailable, SQLAlchemyError, OSError) as error:
        print(f"{error}\nnothing is lost; call it again to go on", file=sys.stderr)
        return 1


def _direction(arguments: argparse.Namespace, old: IngestConfig, new: IngestConfig) -> str:
    """Return why this can't be a move from one to the other; empty where it can."""
    if not isinstance(old.store, StoreConfig):
        back = " and there is no way back into one" if isinstance(new.store, StoreConfig) else ""
        return f"{arguments.config}: store.kind is {old.store.kind}; only an embedded store (duckdb) is moved{back}"
    if isinstance(new.store, StoreConfig):
        return f"{arguments.to}: store.kind is duckdb; influxdb or victoriametrics has to stand where samples move to"
    return ""


def _moved(arguments: argparse.Namespace, old: IngestConfig, new: IngestConfig) -> int:
    assert isinstance(old.store, StoreConfig)
    assert not isinstance(new.store, StoreConfig)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(EmbeddedSource(old.data, old.store))
        new.data.mkdir(parents=True, exist_ok=True)
        engine = connect(new.plant_address)
        stack.callback(engine.dispose)
        plant: sa.Engine | None = None
        if not plant_copy.same_database(old.plant_address, new.plant_address):
            plant = connect(old.plant_address)
            stack.callback(plant.dispose)
        finished = progress.finished_at(engine)
        if finished is not None and not arguments.verify:
            print(f"it was moved at {_moment(finished)}; --verify compares it again")
            return 0
        if finished is None:
            _refuse_used(arguments.to, engine, None if arguments.ahead else plant)
            progress.begin(engine)
        chunks = source.chunks(arguments.chunk, arguments.since)
        if isinstance(new.store, VictoriaMetricsStoreConfig):
            _refuse_old(new.store, chunks)
        if source.rollups_alone():
            print(
                f"of {source.rollups_alone()} days only rollups are left; a server has none, they stay behind",
                file=sys.stderr,
            )
        tell = _Progress()
        misfits = None
        if finished is None and isinstance(new.store, VictoriaMetricsStoreConfig):
            misfits = survey(source, chunks, tell.count("looked at", sum(one.samples for one in chunks)))
        target = Target(open_points(new.store), engine, source.keys, misfits)
        stack.callback(target.close)
        mover = Mover(source, target, chunks, samples_per_s=arguments.samples_per_s, tell=tell)
        if finished is None:
            mover.write()
        if not mover.compare(again=arguments.verify):
            _say_differences(mover.report)
            return 1
        ends = finished is None and not arguments.ahead
        settled = settle(engine, source.ledger(), plant) if ends else None
        _say(arguments, source, mover.report, settled)
    return 0


def _refuse_used(to: Path, engine: sa.Engine, plant: sa.Engine | None) -> None:
    if progress.is_used(engine):
        raise MoveRefused(
            f"{to}: a service has taken samples there already, of which it knows nothing more here: "
            "move into a place that nobody uses yet"
        )
    used = plant_copy.used_tables(engine) if plant is not None else []
    if used:
        raise MoveRefused(
            f"{to}: its PlantStore holds something already ({', '.join(used)}), and tokens, agents and quarantine of "
            "the old one belong there: give it an empty database, or the old one's"
        )


def _refuse_old(config: VictoriaMetricsStoreConfig, chunks: list[Chunk]) -> None:
    first = int(time.time()) // _DAY_S - config.retention_days + 1
    beyond = sum(one.samples for one in chunks if one.day < first)
    if beyond > _BEYOND:
        raise MoveRefused(
            f"{beyond} samples are older than store.retention_days ({config.retention_days}) and would all lie in the "
            f"PlantStore: make it longer, and -retentionPeriod of the server; or --since {day_name(first)} leaves them behind"
        )


class _Progress:
    """Prints how far it is, every two seconds and at the end of each phase."""

    def __init__(self) -> None:
        self._phase = ""
        self._began = 0.0
        self._first = 0
        self._said = 0.0

    def count(self, phase: str, samples: int) -> Callable[[Chunk], None]:
        """Return what is told of every chunk of a phase."""
        through = 0

        def look(chunk: Chunk) -> None:
            nonlocal through
            through += chunk.samples
            self(phase, through, samples)

        return look

    def __call__(self, phase: str, through: int, samples: int) -> None:
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._began, self._first, self._said = phase, now, through, now
        if now - self._said < _EVERY_S and through < samples:
            return
        self._said = now
        rate = (through - self._first) / (now - self._began) if now > self._began else 0.0
        left = (
            f", {rate:,.0f}/s, {_duration((samples - through) / rate)} left"
            if rate and through < samples
            else ""
        )
        print(f"{phase} {through:,} of {samples:,} samples{left}", file=sys.stderr, flush=True)


def _say_differences(report: Report) -> None:
    print(f"{report.differing} series and days are not there as they were:", file=sys.stderr)
    for line in report.differences:
        print(f"  {line}", file=sys.stderr)
    print(
        "call it again to write and compare these again; where samples of others lie in that database, or the server "
        "rounds numbers (docs/scaling.md), another or an empty one is needed. Agents are not answered from there yet",
        file=sys.stderr,
    )


def _say(
    arguments: argparse.Namespace, source: EmbeddedSource, report: Report, settled: Settled | None
) -> None:
    if arguments.json:
        found = asdict(report) | {"series": len(source.keys), "exact": True}
        found |= settled._asdict() if settled else {}
        print(json.dumps(found))
        return
    print(
        f"{report.samples:,} samples of {len(source.keys):,} series are there, {report.series_days:,} series and days were "
        f"compared: all are the same"
    )
    if report.kept:
        print(f"{report.kept:,} of them lie in the PlantStore, because the server can't hold them")
    if report.zeros:
        print(f"in {report.zeros} chunks SQLite keeps 0.0 where it was -0.0")
    if arguments.ahead:
        print("agents are not answered from there yet: stop the service, and call it with the store itself")
    if settled is not None:
        print(
            f"{settled.streams} streams go on where they were, {settled.plant_rows} rows of the old PlantStore came along"
        )
        print(f"start the service with {arguments.to}; {arguments.config} and its data stay as they are")


def _moment(ns: int) -> str:
    return datetime.fromtimestamp(ns / 10**9, UTC).isoformat(timespec="seconds")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _day(text: str) -> int:
    begin = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    return int(begin.timestamp()) // _DAY_S


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("a number above 0")
    return number
