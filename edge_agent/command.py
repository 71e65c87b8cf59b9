"""``shopfloor edge``: run an agent, look at what it needs, look into a server."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path

from edge_agent import (
    browse_command,
    buffer_command,
    doctor_command,
    message_command,
    run_command,
    trust_arguments,
)
from edge_agent.config import Config
from edge_agent.version import agent_version
from shopfloor import configfile, logs
from shopfloor.errors import ConfigError, ShopfloorError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands."""
    parser.add_argument("--version", action="version", version=f"shopfloor {agent_version()}")
    commands = parser.add_subparsers(dest="edge_command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run an agent until TERM or Ctrl-C")
    run_command.add_arguments(run)
    check = commands.add_parser("check", help="look at a configuration and this machine, without connecting")
    doctor = commands.add_parser(
        "doctor", help="connect to everything as well, and say of each part and node how it is"
    )
    doctor_command.add_arguments(check, doctor)
    browse = commands.add_parser("browse", help="show what there is to read on an OPC UA server")
    browse_command.add_arguments(browse)
    trust_arguments.add_arguments(commands)
    buffer = commands.add_parser("buffer", help="show what the buffer holds, or export what waits in it")
    buffer_command.add_arguments(buffer)
    message_command.add_arguments(check)
    for sub in (run, check, doctor, browse, buffer):
        sub.add_argument("--verbose", action="store_true", help="log more")


def main(arguments: argparse.Namespace) -> int:
    """Run a sub-command; returns the exit status (2: the configuration is wrong)."""
    logs.set_up(verbose=arguments.verbose, form=getattr(arguments, "log_format", None))
    if arguments.edge_command == "trust":
        from edge_agent import trust_command  # noqa: PLC0415 - an agent that runs need not load it

        return trust_command.main(arguments)
    if arguments.edge_command == "check" and arguments.message is not None:
        return message_command.run(arguments)
    if arguments.edge_command == "browse":
        return browse_command.run(arguments)
    if arguments.edge_command == "check":
        return doctor_command.check(arguments)
    if arguments.edge_command == "doctor":
        return doctor_command.doctor(arguments)
    try:
        if arguments.edge_command == "buffer":
            return buffer_command.run(arguments, configfile.load(arguments.config, Config))
        agent = run_command.run(arguments.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return _run(arguments.config, agent)


def _run(path: Path, work: Coroutine[None, None, int]) -> int:
    try:
        return asyncio.run(work)
    except (ShopfloorError, OSError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 1
