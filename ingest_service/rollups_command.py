"""``shopfloor ingest rollups``: which hours have their rollups beside the samples in InfluxDB, and making all of them again."""

from __future__ import annotations

import argparse
import datetime as dt
import sys

import sqlalchemy as sa

from ingest_service import plant_command
from ingest_service.config import IngestConfig
from ingest_service.plant import rollups
from ingest_service.store_config import InfluxDBStoreConfig


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = commands.add_parser(
        "rollups", help="show how far a server's rollups go, or have them made again"
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="take none for right, and make all again: after a restore, or after two releases ran side by side",
    )
    plant_command.declare({"rollups": parser}, {"rollups": _run})
    parser.set_defaults(run=plant_command.run)


def _run(arguments: argparse.Namespace, engine: sa.Engine, config: IngestConfig) -> int:
    if not isinstance(config.store, InfluxDBStoreConfig):
        print("only a store on InfluxDB has rollups there", file=sys.stderr)
        return 1
    if arguments.again:
        with engine.begin() as connection:
            rollups.restart(connection)
        plant_command.note(engine, "rollups.again", "all")
        print("all hours are read from samples until they are rolled up again")
        return 0
    known = rollups.span(engine)
    if known is None:
        print("no hour is rolled up yet")
        return 0
    print(
        f"from {_shown(known.begin)} to {_shown(known.through)}, {rollups.count_due(engine)} pieces of it due"
    )
    if not known.is_complete:
        print("earlier hours follow")
    return 0


def _shown(hour_ns: int) -> str:
    return dt.datetime.fromtimestamp(hour_ns // 1_000_000_000, dt.UTC).strftime("%Y-%m-%dT%H:%MZ")
