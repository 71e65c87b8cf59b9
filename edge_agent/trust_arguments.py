"""The command line of ``shopfloor edge trust``, apart from what reads certificates: an agent that runs needs none of that."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  it has no public name

MIN_PREFIX: Final = 6
"""So many characters of a thumbprint say which is meant, at least."""


def add_arguments(commands: Commands) -> None:
    """Declare ``trust`` and what it can do."""
    trust = commands.add_parser("trust", help="list, accept and reject the certificates of OPC UA servers")
    actions = trust.add_subparsers(dest="trust_command", required=True, metavar="ACTION")
    where = "agent.yaml, or a folder of certificates"
    listing = actions.add_parser("list", help="list all certificates, those that wait for a decision first")
    listing.add_argument("config", type=Path, help=where)
    accept = actions.add_parser("accept", help="trust a certificate that a server showed")
    reject = actions.add_parser("reject", help="trust a certificate no longer")
    for action in (accept, reject):
        action.add_argument("config", type=Path, help=where)
        action.add_argument("thumbprint", help=f"or how it begins, at least {MIN_PREFIX} characters")
    for action in (listing, accept, reject):
        action.add_argument("--json", action="store_true", help="print JSON")
    trust.set_defaults(verbose=False)
