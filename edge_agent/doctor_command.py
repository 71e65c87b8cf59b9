"""``shopfloor edge check`` and ``shopfloor edge doctor``: what is wrong, before and while an agent runs."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_agent.config import Config
from shopfloor import configfile
from shopfloor.errors import ConfigError
from shopfloor.findings import Section, as_json, as_lines, is_sound
from shopfloor.owner import become_owner

_LISTEN_S = 5.0


def add_arguments(check: argparse.ArgumentParser, doctor: argparse.ArgumentParser) -> None:
    """Declare what both take."""
    check.add_argument("--offline", action="store_true", help="does nothing: it never connects")
    doctor.add_argument(
        "--listen",
        type=float,
        default=_LISTEN_S,
        metavar="SECONDS",
        help=f"how long to wait for messages of brokers (default {_LISTEN_S:g})",
    )
    for parser in (check, doctor):
        parser.add_argument("config", type=Path, help="agent.yaml")
        parser.add_argument("--json", action="store_true", help="one object of JSON instead of tables")


def check(arguments: argparse.Namespace) -> int:
    """Look at the file and at this machine; returns the exit status (1: something fails, 2: the file is wrong)."""
    from edge_agent.doctor.offline import look_at_this_machine  # noqa: PLC0415 - see `doctor`

    config = _load(arguments.config)
    if config is None:
        return 2
    return _say(look_at_this_machine(arguments.config, config), as_one_object=arguments.json)


def doctor(arguments: argparse.Namespace) -> int:
    """Connect to everything as well; returns the exit status as `check` does."""
    # An agent that runs declares this command as well, and has no need of what it does.
    from edge_agent.doctor.connected import look_at_everything  # noqa: PLC0415
    from edge_agent.doctor.offline import look_at_this_machine  # noqa: PLC0415

    config = _load(arguments.config)
    if config is None:
        return 2
    here = look_at_this_machine(arguments.config, config)
    there = asyncio.run(look_at_everything(config, arguments.listen))
    return _say([*here, *there], as_one_object=arguments.json)


def _load(path: Path) -> Config | None:
    try:
        config = configfile.load(path, Config)
        if become_owner(config.data):
            # Once more, with the rights of the agent: what root can read need not be readable for it.
            config = configfile.load(path, Config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return None
    return config


def _say(sections: Sequence[Section], *, as_one_object: bool) -> int:
    if as_one_object:
        print(json.dumps(as_json(sections)))
    else:
        print("\n".join(as_lines(sections)))
    return 0 if is_sound(sections) else 1
