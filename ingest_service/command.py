"""``shopfloor ingest serve``, and what else there is to do with the service's data."""

from __future__ import annotations

import argparse
import contextlib
import sys
from importlib.metadata import version
from pathlib import Path

from ingest_service import (
    audit_command,
    check_command,
    ledger_command,
    migrate_command,
    quarantine_command,
    rollups_command,
    store_command,
)
from ingest_service.config import IngestConfig
from ingest_service.premises import take_addresses
from shopfloor import logs, memory
from shopfloor.configfile import load
from shopfloor.errors import ConfigError, StoreUnavailable
from shopfloor.loading import loading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands."""
    parser.add_argument("--version", action="version", version=f"shopfloor {version('shopfloor')}")
    commands = parser.add_subparsers(dest="ingest_command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="take batches from agents and show what they say")
    serve.add_argument("config", type=Path, help="ingest.yaml")
    serve.set_defaults(run=_serve)
    check_command.add_arguments(commands)
    audit_command.add_arguments(commands)
    quarantine_command.add_arguments(commands)
    ledger_command.add_arguments(commands)
    store_command.add_arguments(commands)
    rollups_command.add_arguments(commands)
    migrate_command.add_arguments(commands)


def main(arguments: argparse.Namespace) -> int:
    """Run the sub-command; return the exit status (2 for mistakes in the configuration)."""
    code: int = arguments.run(arguments)
    return code


def _serve(arguments: argparse.Namespace) -> int:
    """Serve until TERM or Ctrl-C."""
    logs.set_up()
    try:
        config = load(arguments.config, IngestConfig)
        logs.hide_secrets(config)
        # First of all: stores may take long to open, and whoever waits for them would learn of it late.
        addresses = take_addresses(config.host, config.port)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{arguments.config}: {error}", file=sys.stderr)
        return 1
    memory.keep_little()
    with contextlib.ExitStack() as open_addresses:
        for address in addresses:
            open_addresses.enter_context(address)
        with loading():
            from ingest_service.server import make_server  # noqa: PLC0415 - most of what `serve` alone needs
        try:
            server = make_server(config)
        except (StoreUnavailable, OSError) as error:
            print(f"{arguments.config}: {error}", file=sys.stderr)
            return 1
        try:
            server.run(addresses)
        except SystemExit:
            # uvicorn has logged why, and would end the process with a status of its own.
            print(f"{arguments.config}: can't serve at {config.listen}", file=sys.stderr)
            return 1
        return 0 if server.started else 1
