"""The ``shopfloor`` command."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from shopfloor.loading import leave_out, loading

# numpy's linear algebra would start a thread and reserve memory for every core; none of ours uses it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

COMMANDS: Final = {
    "certs": (
        "ingest_service.certs_command",
        "certificates: a private authority, those of services and agents, renew, list",
    ),
    "dashboards": ("dashboards.command", "Grafana dashboards: render, check, push"),
    "demo": ("simulators.demo.command", "three simulated plants, live on this machine"),
    "edge": ("edge_agent.command", "edge agents: run, check, doctor, browse, trust, buffer"),
    "ingest": (
        "ingest_service.command",
        "the ingestion service: serve, ledger, quarantine, agents, alarms, audit",
    ),
    "simulate": ("simulators.command", "simulated machines without the rest"),
    "token": ("ingest_service.token_command", "access tokens: create, list, revoke"),
    "user": ("ingest_service.user_command", "users of the page: add, list, disable, enable, password"),
}
"""Name: the module that declares and runs it, and what it is for. Parts that are not installed stay unloaded."""


_EXTRAS: Final = {
    "dashboards": "dashboards",
    "edge_agent": "edge",
    "ingest_service": "ingest",
    "simulators": "demo",
}
"""What pip installs a part with."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    if argv is None:
        # pyarrow loads it with the first array where it happens to be installed: half a second and 40 MB for nothing.
        leave_out("pandas")
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="shopfloor", description="Shop-floor data collection.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = words[0] if words else None
    module: Any = None
    for name, (module_name, help_text) in COMMANDS.items():
        sub = commands.add_parser(name, help=help_text, description=help_text)
        if name == chosen:
            try:
                module = _load(module_name)
            except ModuleNotFoundError as error:
                part = _EXTRAS[module_name.partition(".")[0]]
                print(
                    f"shopfloor {name}: {error.name} is not installed here; pip install 'shopfloor[{part}]'",
                    file=sys.stderr,
                )
                return 1
            module.add_arguments(sub)
    arguments = parser.parse_args(words)
    return int(module.main(arguments))


def _load(module_name: str) -> Any:
    if module_name in sys.modules:
        return sys.modules[module_name]
    with loading():
        return importlib.import_module(module_name)


if __name__ == "__main__":
    sys.exit(main())
