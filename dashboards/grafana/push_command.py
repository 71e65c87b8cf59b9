"""``shopfloor dashboards push``."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dashboards.grafana.alerts import Engine
from dashboards.grafana.push import engine_of, push
from dashboards.grafana.push_config import PushConfig
from dashboards.grafana.push_items import Action, How, Outcome
from dashboards.grafana.push_remote import GrafanaDenied, GrafanaUnavailable, Remote
from shopfloor.configfile import load
from shopfloor.errors import ConfigError

_MOST_CHANGES: Final = 20
_KEPT: Final = 3

Boards = Callable[[Engine, str], Sequence[Mapping[str, Any]]]
"""Gives the dashboards in a language, with links to the live page's address."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("config", type=Path, metavar="grafana.yaml", help="where to, and the data source")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument(
        "--force", action="store_true", help="overwrite also what somebody changed there; renew secrets"
    )
    parser.add_argument("--all", action="store_true", help=f"show more than {_MOST_CHANGES} changes a thing")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(arguments: argparse.Namespace, boards: Boards) -> int:
    """Push; return 0, 1 where something failed, 2 for a mistake in the file, 3 where something was kept as it is there."""
    try:
        config = load(arguments.config, PushConfig)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    counts: Counter[Action] = Counter()
    try:
        with Remote(config.grafana) as remote:
            version = remote.version()
            if not arguments.json:
                print(f"Grafana {version or '(it hides its version)'} at {config.grafana.url}")
            how = How(dry_run=arguments.dry_run, force=arguments.force)
            for outcome in push(config, remote, boards(engine_of(config), config.live_url), how):
                counts[outcome.action] += 1
                _show(outcome, arguments)
    except (GrafanaUnavailable, GrafanaDenied) as error:
        print(f"shopfloor dashboards push: {error}", file=sys.stderr)
        if counts:
            print("what is listed above is done; pushing again goes on from there", file=sys.stderr)
        return 1
    if not arguments.json:
        told = ", ".join(f"{counts[action]} {action}" for action in Action if counts[action])
        print(f"{'dry run, nothing was changed: ' if arguments.dry_run else ''}{told}")
    if counts[Action.FAIL]:
        return 1
    return _KEPT if counts[Action.KEEP] else 0


def _show(outcome: Outcome, arguments: argparse.Namespace) -> None:
    if arguments.json:
        changes = [str(one) for one in outcome.changes]
        print(json.dumps({**outcome._asdict(), "changes": changes}), flush=True)
        return
    reason = f": {outcome.reason}" if outcome.reason else ""
    print(f"{outcome.action:<10} {outcome.kind:<15} {outcome.name}{reason}", flush=True)
    most = len(outcome.changes) if arguments.all else _MOST_CHANGES
    for one in outcome.changes[:most]:
        print(f"    {one}")
    if len(outcome.changes) > most:
        print(f"    … and {len(outcome.changes) - most} more (--all)")
