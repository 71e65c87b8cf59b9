"""``shopfloor token create | list | revoke``; works while the service runs."""

from __future__ import annotations

import argparse
import sys
import time

import sqlalchemy as sa

from ingest_service import plant_command
from ingest_service.auth import Role, list_tokens, make_token, revoke_token
from ingest_service.config import IngestConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands."""
    actions = parser.add_subparsers(dest="token_command", required=True, metavar="COMMAND")
    create = actions.add_parser("create", help="make a token and print it, this once")
    create.add_argument("--role", required=True, choices=[str(role) for role in Role])
    create.add_argument(
        "--asset", required=True, help="asset path that it reaches, such as acme/hk01; '' for everything"
    )
    create.add_argument("--name", default="", help="whose it is, for people")
    create.add_argument(
        "--expires", type=plant_command.moment, help="until when: 90d, 12h, 2w or 2027-01-31; default: never"
    )
    create.add_argument(
        "--certificate", default="", help="name that the client certificate beside it has to bear"
    )
    actions.add_parser("list", help="list all tokens, without their secrets")
    revoke = actions.add_parser("revoke", help="make a token useless, within seconds")
    revoke.add_argument("token_id", type=int, help="number that `list` shows")
    plant_command.declare(actions.choices, {"create": _create, "list": _list, "revoke": _revoke})


def main(arguments: argparse.Namespace) -> int:
    """Run what was asked for; return the exit status (2 for mistakes in the configuration)."""
    return plant_command.run(arguments)


def _create(arguments: argparse.Namespace, engine: sa.Engine, _config: IngestConfig) -> int:
    text, row = make_token(
        engine,
        Role(arguments.role),
        arguments.asset,
        arguments.name,
        expires_at=arguments.expires,
        certificate=arguments.certificate,
    )
    plant_command.note(
        engine, "token.create", f"token {row.token_id}", role=row.role, asset=row.asset, name=row.name
    )
    print(text)
    return 0


def _list(_arguments: argparse.Namespace, engine: sa.Engine, _config: IngestConfig) -> int:
    now = time.time_ns()
    for row in list_tokens(engine):
        columns = (
            row.token_id,
            row.role,
            row.asset or "(everything)",
            row.state(now),
            plant_command.shown(row.created_at),
            plant_command.shown(row.expires_at),
            row.certificate or "-",
            row.name,
        )
        print(*columns, sep="\t")
    return 0


def _revoke(arguments: argparse.Namespace, engine: sa.Engine, _config: IngestConfig) -> int:
    if not revoke_token(engine, arguments.token_id):
        print(f"there is no valid token {arguments.token_id}", file=sys.stderr)
        return 1
    plant_command.note(engine, "token.revoke", f"token {arguments.token_id}")
    return 0
