"""``shopfloor certs init | server | agent | renew | list``: a private authority for services and agents of a plant."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from ingest_service.authority.findings import Finding, examine
from ingest_service.authority.folder import AUTHORITY, AuthorityFolder
from ingest_service.authority.profile import AuthorityTrouble

_AUTHORITY_DAYS: Final = 3650
_DAYS: Final = 365
_SOON_DAYS: Final = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands."""
    actions = parser.add_subparsers(dest="certs_command", required=True, metavar="COMMAND")
    init = actions.add_parser("init", help="make the authority, once")
    init.add_argument("--title", default="Shopfloor authority", help="its name, for people")
    init.add_argument(
        "--days", type=_days, default=_AUTHORITY_DAYS, help="how long it holds; default %(default)s"
    )
    server = actions.add_parser(
        "server", help="make a certificate of a service, a broker or a proxy, and its key"
    )
    server.add_argument("name", help="name of its files, such as ingest")
    server.add_argument(
        "--host",
        action="append",
        required=True,
        help="DNS name or IP address at which clients reach it; may be said several times",
    )
    agent = actions.add_parser("agent", help="make a certificate that an agent shows, and its key")
    agent.add_argument(
        "name", help="name in the certificate, such as gateway-hk01; `token create --certificate` takes it"
    )
    agent.add_argument("--host", action="append", default=[], help="further name in the certificate")
    renew = actions.add_parser(
        "renew", help="sign certificates again: those named, or those that run out soon"
    )
    renew.add_argument("names", nargs="*", metavar="NAME", help=f"{AUTHORITY!r} for the authority's own")
    renew.add_argument("--host", action="append", default=[], help="other names for it; one NAME only")
    renew.add_argument("--new-key", action="store_true", help="for a new key; the one before stays beside it")
    listing = actions.add_parser(
        "list", help="list all certificates, and what is to be done; exits with 1 where something is"
    )
    listing.add_argument("--json", action="store_true", help="one object a line")
    for command in (server, agent, renew):
        command.add_argument(
            "--days",
            type=_days,
            help=f"how long it holds; default {_DAYS}, and {_AUTHORITY_DAYS} for the authority",
        )
    for command in (renew, listing):
        command.add_argument(
            "--within", type=_days, default=_SOON_DAYS, help="days that are soon; default %(default)s"
        )
    for name, run in (
        ("init", _init),
        ("server", _issue),
        ("agent", _issue),
        ("renew", _renew),
        ("list", _list),
    ):
        actions.choices[name].add_argument(
            "--folder", type=Path, default=Path("certs"), help="where everything lies; default: %(default)s"
        )
        actions.choices[name].set_defaults(run=run)


def main(arguments: argparse.Namespace) -> int:
    """Run what was asked for; return the exit status (2 for what makes no sense)."""
    folder = AuthorityFolder(arguments.folder)
    try:
        if arguments.certs_command == "list":
            return _list(arguments, folder)
        with folder.held():
            code: int = arguments.run(arguments, folder)
    except (AuthorityTrouble, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return code


def _init(arguments: argparse.Namespace, folder: AuthorityFolder) -> int:
    made = folder.establish(arguments.title, arguments.days)
    _told(folder, AUTHORITY, made=made)
    if made:
        print(
            f"  keep {folder.file(AUTHORITY, 'key')} where no service runs; who has it can make certificates"
        )
        print(f"  {folder.file(AUTHORITY)} goes to services (tls.client_ca) and agents (uplink.ca_file)")
    return 0


def _issue(arguments: argparse.Namespace, folder: AuthorityFolder) -> int:
    name = arguments.name
    made = folder.issue(name, arguments.certs_command, arguments.host, arguments.days or _DAYS)
    _told(folder, name, made=made)
    if made and arguments.certs_command == "agent":
        print(f"  take {name}.key and {name}.crt to the gateway (uplink.key, uplink.cert)")
        print(f"  shopfloor token create --role agent --certificate {name} ... binds a token to it")
    elif made:
        print(f"  take {name}.key and {name}.crt to where it runs (tls.key, tls.certificate)")
    return 0


def _renew(arguments: argparse.Namespace, folder: AuthorityFolder) -> int:
    names: list[str] = arguments.names
    if (arguments.host or arguments.new_key) and len(names) != 1:
        print("--host and --new-key are about one NAME", file=sys.stderr)
        return 2
    if not names:
        names = [one.name for one in examine(folder, timedelta(days=arguments.within)) if one.is_due]
        if not names:
            print(f"nothing runs out within {arguments.within} days")
    for name in names:
        days = arguments.days or (_AUTHORITY_DAYS if name == AUTHORITY else _DAYS)
        folder.renew(name, days, hosts=arguments.host, new_key=arguments.new_key)
        _told(folder, name, made=True)
        to = "every service and agent" if name == AUTHORITY else "where it is used"
        print(f"  bring {name}.crt{f' and {name}.key' if arguments.new_key else ''} to {to}")
    return 0


def _list(arguments: argparse.Namespace, folder: AuthorityFolder) -> int:
    found = examine(folder, timedelta(days=arguments.within))
    if not found:
        folder.read(AUTHORITY)
    for one in found:
        if arguments.json:
            print(json.dumps(_described(one)))
            continue
        until = f"until {one.ends:%Y-%m-%d}" if one.ends else "unreadable"
        print(one.name, one.kind, until, ", ".join(one.hosts) or "-", sep="\t")
        for problem in one.problems:
            print(f"  {problem}")
    return 1 if any(one.problems for one in found) else 0


def _told(folder: AuthorityFolder, name: str, *, made: bool) -> None:
    until = folder.read(name).not_valid_after_utc
    print(f"{folder.file(name)}: {'made' if made else 'there already'}, holds until {until:%Y-%m-%d}")


def _described(one: Finding) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "hosts": one.hosts,
        "begins": one.begins and one.begins.isoformat(),
        "ends": one.ends and one.ends.isoformat(),
        "is_due": one.is_due,
        "problems": one.problems,
    }


def _days(text: str) -> int:
    days = int(text)
    if not 0 < days <= 36_500:
        raise argparse.ArgumentTypeError("days from 1 to 36500")
    return days
