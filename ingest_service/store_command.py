"""``shopfloor ingest backup | restore | verify``, whether the service runs or not.

The embedded store with everything beside it; where samples lie on a server, the PlantStore alone.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any, Final

from ingest_service.config import IngestConfig, StoreConfig
from ingest_service.plant import backup as plant_backups
from ingest_service.stores import duckdb_backup as backups
from ingest_service.stores.duckdb_requests import ask
from ingest_service.stores.duckdb_schema import Tuning, connect
from shopfloor import logs
from shopfloor.configfile import load
from shopfloor.errors import ConfigError, StoreUnavailable
from shopfloor.owner import become_owner

_REST: Final = "the samples are copied by the tools of {kind}, after this: docs/operations.md"


def add_arguments(commands: Any) -> None:
    """Declare the sub-commands of ``shopfloor ingest``."""
    backup = commands.add_parser(
        "backup", help="copy the store into a new folder, also while the service runs"
    )
    backup.add_argument("config", type=Path, help="ingest.yaml")
    backup.add_argument("to", type=Path, help="folder that does not exist yet")
    backup.set_defaults(run=_backup)
    restore = commands.add_parser("restore", help="bring a backup into a data folder without a store")
    restore.add_argument("config", type=Path, help="ingest.yaml")
    restore.add_argument("backup", type=Path, help="folder that `backup` made")
    restore.set_defaults(run=_restore)
    verify = commands.add_parser(
        "verify", help="read the store, or a backup of it, and compare it with its checksums"
    )
    verify.add_argument("config", type=Path, help="ingest.yaml")
    verify.add_argument("--backup", type=Path, help="a backup instead of the store itself")
    verify.set_defaults(run=_verify)


def _guarded(arguments: argparse.Namespace, run: Any, run_plant: Any) -> int:
    logs.set_up()
    try:
        config = load(arguments.config, IngestConfig)
        become_owner(config.data)
        if isinstance(config.store, StoreConfig):
            code: int = run(config)
        elif config.plant is None:
            code = run_plant(config)
        else:
            print(
                f"{config.store.kind} and PostgreSQL are servers with tools of their own for this: docs/operations.md",
                file=sys.stderr,
            )
            return 2
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (StoreUnavailable, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return code


def _backup(arguments: argparse.Namespace) -> int:
    def run(config: IngestConfig) -> int:
        to: Path = arguments.to.resolve()
        if to.exists():
            raise StoreUnavailable(f"{to} is there already")
        try:
            connection = _own(config)
        except _InUse:
            made = ask(config.data, {"what": "backup", "to": str(to)})
        else:
            with contextlib.closing(connection):
                manifest = backups.back_up(
                    connection, config.data / backups.FILES, config.data / backups.PLANT, to
                )
            made = {"files": len(manifest["files"]), "bytes": _bytes(manifest)}
        print(f"{to}: {made['files']} files, {made['bytes']} bytes")
        return 0

    def run_plant(config: IngestConfig) -> int:
        to: Path = arguments.to.resolve()
        if to.exists():
            raise StoreUnavailable(f"{to} is there already")
        size = plant_backups.back_up(config.data, to)
        print(f"{to}: 1 file, {size} bytes; {_REST.format(kind=config.store.kind)}")
        return 0

    return _guarded(arguments, run, run_plant)


def _restore(arguments: argparse.Namespace) -> int:
    def run(config: IngestConfig) -> int:
        backups.restore(arguments.backup, config.data)
        problems = backups.verify_closed(config.data)
        for problem in problems:
            print(problem, file=sys.stderr)
        print(f"{config.data}: restored from {arguments.backup}")
        return 1 if problems else 0

    def run_plant(config: IngestConfig) -> int:
        plant_backups.restore(arguments.backup, config.data)
        print(f"{config.data}: restored from {arguments.backup}")
        return 0

    return _guarded(arguments, run, run_plant)


def _verify(arguments: argparse.Namespace) -> int:
    def run(config: IngestConfig) -> int:
        problems: list[str]
        if arguments.backup is not None:
            problems = backups.verify_backup(arguments.backup)
        else:
            try:
                _own(config).close()
            except _InUse:
                problems = ask(config.data, {"what": "verify"})
            else:
                problems = backups.verify_closed(config.data)
        return _say(problems)

    def run_plant(config: IngestConfig) -> int:
        backup = arguments.backup
        return _say(plant_backups.verify_backup(backup) if backup else plant_backups.verify(config.data))

    return _guarded(arguments, run, run_plant)


def _say(problems: list[str]) -> int:
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print("sound")
    return 1 if problems else 0


class _InUse(Exception):
    """Another process owns the store."""


def _own(config: IngestConfig) -> Any:
    path = config.data / backups.DATABASE
    if not path.exists():
        raise StoreUnavailable(f"{path}: there is no store")
    try:
        return connect(path, Tuning())
    except StoreUnavailable as error:
        if "lock" in str(error).lower():
            raise _InUse from error
        raise


def _bytes(manifest: dict[str, Any]) -> int:
    return sum(entry["bytes"] for entry in manifest["files"].values())
