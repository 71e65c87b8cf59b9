"""``shopfloor user add | list | disable | enable | password``; works while the service runs."""

from __future__ import annotations

import argparse
import getpass
import sys

import sqlalchemy as sa

from ingest_service import plant_command
from ingest_service.access import passwords, users
from ingest_service.auth import PEOPLE, Role
from ingest_service.config import IngestConfig
from shopfloor.errors import Permanent


class NoPassword(Permanent):
    """None was given, or two that differ."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands; a password is asked for, or read as a line of standard input, never an argument."""
    actions = parser.add_subparsers(dest="user_command", required=True, metavar="COMMAND")
    add = actions.add_parser("add", help="add a user of the page, with a password")
    add.add_argument("--role", required=True, choices=sorted(PEOPLE))
    add.add_argument("--asset", required=True, help="asset path that it reaches; '' for everything")
    actions.add_parser("list", help="list all users")
    actions.add_parser("disable", help="end a user's sessions and let it in no more")
    actions.add_parser("enable", help="let a user in again")
    actions.add_parser("password", help="give a user another password")
    for name in ("add", "disable", "enable", "password"):
        actions.choices[name].add_argument("name", help="name of the user: a-z, 0-9, '.', '_', '@', '-'")
    plant_command.declare(
        actions.choices,
        {"add": _add, "list": _list, "disable": _disable, "enable": _enable, "password": _password},
    )


def main(arguments: argparse.Namespace) -> int:
    """Run what was asked for; return the exit status (2 for mistakes in the configuration)."""
    return plant_command.run(arguments)


def _add(arguments: argparse.Namespace, engine: sa.Engine, config: IngestConfig) -> int:
    name = users.parse_user(arguments.name)
    hashed = _ask(name, config)
    row = users.add_user(engine, name, hashed, Role(arguments.role), arguments.asset)
    plant_command.note(engine, "user.create", f"user {name}", role=row.role, asset=row.asset)
    return 0


def _list(_arguments: argparse.Namespace, engine: sa.Engine, _config: IngestConfig) -> int:
    for row in users.list_users(engine):
        state = "enabled" if row.disabled_at is None else "disabled"
        print(
            row.name,
            row.role,
            row.asset or "(everything)",
            state,
            plant_command.shown(row.created_at),
            sep="\t",
        )
    return 0


def _disable(arguments: argparse.Namespace, engine: sa.Engine, _config: IngestConfig) -> int:
    return _change(arguments.name, engine, disabled=True)


def _enable(arguments: argparse.Namespace, engine: sa.Engine, _config: IngestConfig) -> int:
    return _change(arguments.name, engine, disabled=False)


def _change(name: str, engine: sa.Engine, *, disabled: bool) -> int:
    if not users.change_user(engine, name, disabled=disabled):
        return _unknown(name)
    plant_command.note(engine, "user.change", f"user {name}", disabled=disabled)
    return 0


def _password(arguments: argparse.Namespace, engine: sa.Engine, config: IngestConfig) -> int:
    if users.find_user(engine, arguments.name) is None:
        return _unknown(arguments.name)
    users.set_password(engine, arguments.name, _ask(arguments.name, config))
    plant_command.note(engine, "user.password", f"user {arguments.name}")
    return 0


def _ask(name: str, config: IngestConfig) -> str:
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password of {name}: ")
        if getpass.getpass("Once more: ") != password:
            raise NoPassword("the two differ")
    else:
        password = sys.stdin.readline(passwords.LONGEST + 2).rstrip("\r\n")
        if not password:
            raise NoPassword("a password is expected as a line of standard input")
    passwords.check_strength(password, name, config.access.password_length)
    return passwords.hash_password(password)


def _unknown(name: str) -> int:
    print(f"there is no user {name}", file=sys.stderr)
    return 1
