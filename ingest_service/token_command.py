"""``shopfloor token create | list | revoke``; works while the service runs."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from pathlib import Path

import sqlalchemy as sa

from ingest_service.auth import Role, create_token, list_tokens, revoke_token
from ingest_service.config import IngestConfig
from ingest_service.plant.engine import connect
from shopfloor import logs
from shopfloor.configfile import load
from shopfloor.errors import ConfigError, InvalidName, StoreUnavailable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands."""
    actions = parser.add_subparsers(dest="token_command", required=True, metavar="COMMAND")
    create = actions.add_parser("create", help="make a token and print it, this once")
    create.add_argument("--role", required=True, choices=[str(role) for role in Role])
    create.add_argument("--asset", required=True, help="asset path that it reaches, such as acme/hk01")
    create.add_argument("--name", default="", help="whose it is, for people")
    create.set_defaults(run=_create)
    actions.add_parser("list", help="list all tokens, without their secrets").set_defaults(run=_list)
    revoke = actions.add_parser("revoke", help="make a token useless, within seconds")
    revoke.add_argument("token_id", type=int, help="number that `list` shows")
    revoke.set_defaults(run=_revoke)
    for action in actions.choices.values():
        action.add_argument("--config", type=Path, required=True, help="ingest.yaml")


def main(arguments: argparse.Namespace) -> int:
    """Run what was asked for; return the exit status (2 for mistakes in the configuration)."""
    logs.set_up()
    try:
        config = load(arguments.config, IngestConfig)
        config.data.mkdir(parents=True, exist_ok=True)
        engine = connect(config.plant_address)
        try:
            code: int = arguments.run(arguments, engine)
        finally:
            engine.dispose()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (StoreUnavailable, InvalidName, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return code


def _create(arguments: argparse.Namespace, engine: sa.Engine) -> int:
    print(create_token(engine, Role(arguments.role), arguments.asset, arguments.name))
    return 0


def _list(_arguments: argparse.Namespace, engine: sa.Engine) -> int:
    for row in list_tokens(engine):
        made = dt.datetime.fromtimestamp(row.created_at / 1e9, dt.UTC).isoformat(timespec="seconds")
        state = "revoked" if row.revoked_at else "valid"
        print(f"{row.token_id}\t{row.role}\t{row.asset}\t{state}\t{made}\t{row.name}")
    return 0


def _revoke(arguments: argparse.Namespace, engine: sa.Engine) -> int:
    done = revoke_token(engine, arguments.token_id)
    if not done:
        print(f"there is no valid token {arguments.token_id}", file=sys.stderr)
    return 0 if done else 1
