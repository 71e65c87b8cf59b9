"""What commands that work on the plant's database have in common: opening it, and saying why they can't."""

from __future__ import annotations

import argparse
import datetime as dt
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ingest_service.access import audit
from ingest_service.config import IngestConfig
from ingest_service.plant.engine import connect
from ingest_service.premises import open_folder
from shopfloor import logs
from shopfloor.configfile import load
from shopfloor.errors import ConfigError, Permanent, StoreUnavailable
from shopfloor.owner import become_owner

_SPAN: Final = re.compile(r"(\d{1,6})([hdw])")
_SPAN_S: Final = {"h": 3600, "d": 86_400, "w": 7 * 86_400}

Action = Callable[[argparse.Namespace, sa.Engine, IngestConfig], int]


def declare(actions: dict[str, argparse.ArgumentParser], runs: dict[str, Action]) -> None:
    """Give each sub-command its function and ``--config``."""
    for name, parser in actions.items():
        parser.set_defaults(action=runs[name])
        parser.add_argument("--config", type=Path, required=True, help="ingest.yaml")


def run(arguments: argparse.Namespace) -> int:
    """Run the sub-command on the plant's database; return the exit status (2 for mistakes in the configuration)."""
    logs.set_up()
    try:
        config = load(arguments.config, IngestConfig)
        become_owner(config.data)
        open_folder(config.data)
        engine = connect(config.plant_address)
        try:
            code: int = arguments.action(arguments, engine, config)
        finally:
            engine.dispose()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (StoreUnavailable, Permanent, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except SQLAlchemyError as error:
        print(f"the plant store failed: {error}", file=sys.stderr)
        return 1
    return code


def note(engine: sa.Engine, action: str, subject: str, **detail: Any) -> None:
    """Keep an entry of the audit log for what this command did."""
    audit.record(engine, audit.Act(audit.here(), "", action, subject, audit.DONE, "", detail))


def moment(text: str) -> int:
    """Return the UTC ns of ``90d``, ``12h`` or ``2w`` from now, or of an ISO 8601 date or time (UTC without an offset)."""
    try:
        if match := _SPAN.fullmatch(text):
            ns = time.time_ns() + int(match[1]) * _SPAN_S[match[2]] * 1_000_000_000
        else:
            at = dt.datetime.fromisoformat(text)
            ns = round((at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp()) * 1_000_000_000
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            "a span such as 90d, 12h or 2w, or a date such as 2027-01-31"
        ) from error
    if not time.time_ns() < ns < 2**63:
        raise argparse.ArgumentTypeError("lies in the past, or beyond the year 2262")
    return ns


def shown(ns: int | None) -> str:
    """Return a time for people: ISO 8601 in UTC, to the second; ``-`` for none."""
    return dt.datetime.fromtimestamp(ns / 1e9, dt.UTC).isoformat(timespec="seconds") if ns else "-"
