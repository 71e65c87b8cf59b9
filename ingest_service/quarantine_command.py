"""``shopfloor ingest quarantine list | show | export | readmit | purge``."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec

from ingest_service import service_command
from ingest_service.plant_command import shown
from ingest_service.service_command import ServiceClient
from shopfloor.tables import table

_PAGE = 1000


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the sub-commands."""
    parser = commands.add_parser("quarantine", help="samples that were refused: look, take along, decide")
    actions = parser.add_subparsers(dest="quarantine_command", required=True, metavar="COMMAND")
    listing = actions.add_parser("list", help="the newest ones, after a summary by agent and reason")
    _choose(listing)
    listing.add_argument("--limit", type=int, default=20, help="samples, at most; default 20")
    listing.add_argument("--json", action="store_true", help="one JSON object a line, without the summary")
    service_command.declare(listing, _list)
    show = actions.add_parser("show", help="everything about one sample")
    show.add_argument("stream")
    show.add_argument("seq", type=int)
    service_command.declare(show, _show)
    export = actions.add_parser("export", help="all of them, oldest first")
    _choose(export)
    export.add_argument("--format", choices=["jsonl", "csv"], default="jsonl")
    export.add_argument("--output", type=Path, help="file; default: standard output")
    service_command.declare(export, _export)
    for name, action, help_text in (
        ("readmit", _readmit, "store samples after all, if the rules of today take them"),
        ("purge", _purge, "throw samples away; they count as dropped from then on"),
    ):
        act = actions.add_parser(name, help=help_text)
        _choose(act)
        act.add_argument("--seq", type=int, help="one sample of --stream")
        act.add_argument("--all", action="store_true", help="everything in quarantine")
        service_command.declare(act, action)


def _choose(parser: argparse.ArgumentParser) -> None:
    for name, help_text in (
        ("stream", "of this stream"),
        ("agent", "of this agent"),
        ("reason", "such as outside_scope"),
        ("asset", "of this asset, and what lies below"),
        ("from", "quarantined then or later: ms, or ISO 8601"),
        ("to", "quarantined before"),
    ):
        parser.add_argument(f"--{name}", default="", help=help_text)
    parser.add_argument(
        "--readmitted", action="store_true", help="those that were re-admitted instead of those that wait"
    )


def _chosen(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(arguments, name) for name in ("stream", "agent", "reason", "asset", "from", "to")}
    state = {"state": "readmitted"} if arguments.readmitted else {}
    return {name: value for name, value in given.items() if value} | state


def _list(arguments: argparse.Namespace, client: ServiceClient) -> int:
    chosen, cursor, left = _chosen(arguments), None, max(1, arguments.limit)
    rows: list[dict[str, Any]] = []
    while left:
        page = client.ask("GET", "/v1/quarantine", **chosen, cursor=cursor, limit=min(left, _PAGE))
        rows += page["samples"]
        left -= len(page["samples"])
        cursor = page["next"]
        if cursor is None:
            break
    if arguments.json:
        for row in rows:
            print(msgspec.json.encode(row).decode())
        return 0
    groups = client.ask("GET", "/v1/quarantine/summary", state=chosen.get("state", "waiting"))["groups"]
    summary = [
        [one["agent"], one["reason"], str(one["samples"]), _when(one["first"]), _when(one["last"])]
        for one in groups
    ]
    print("\n".join(table(["agent", "reason", "samples", "first", "last"], summary, right=[2])))
    cells = [
        [
            f"{one['stream']}/{one['seq']}",
            _when(one["quarantined"]),
            one["reason"],
            f"{one['asset']} {one['signal']}",
            _value(one),
        ]
        for one in rows
    ]
    print()
    print(
        "\n".join(
            table(["stream/seq", "quarantined", "reason", "series", "value"], cells, giving=3, width=140)
        )
    )
    return 0


def _show(arguments: argparse.Namespace, client: ServiceClient) -> int:
    found = client.ask("GET", f"/v1/quarantine/{arguments.stream}/{arguments.seq}")
    for name, value in found.items():
        print(f"{name:18} {_when(value) if name in {'quarantined', 'readmitted'} else value}")
    return 0


def _export(arguments: argparse.Namespace, client: ServiceClient) -> int:
    chosen = {"state": "all"} | _chosen(arguments)
    output = arguments.output.open("wb") if arguments.output else nullcontext(sys.stdout.buffer)
    with output as file:
        client.stream("/v1/quarantine/export", file.write, **chosen, format=arguments.format)
        file.flush()
    return 0


def _readmit(arguments: argparse.Namespace, client: ServiceClient) -> int:
    done = client.ask("POST", "/v1/quarantine/readmit", _selection(arguments))
    print(f"{done['readmitted']} samples are stored now")
    for reason, count in done["still_refused"].items():
        print(f"{count} stay in quarantine: {reason}")
    return 0


def _purge(arguments: argparse.Namespace, client: ServiceClient) -> int:
    print(
        f"{client.ask('POST', '/v1/quarantine/purge', _selection(arguments))['purged']} samples are thrown away"
    )
    return 0


def _selection(arguments: argparse.Namespace) -> dict[str, Any]:
    found = _chosen(arguments)
    if arguments.seq is not None:
        found["seq"] = arguments.seq
    return found | ({"all": True} if arguments.all else {})


def _when(at_ms: int | None) -> str:
    return shown(None if at_ms is None else at_ms * 1_000_000)


def _value(one: dict[str, Any]) -> str:
    return str(one["text"] if one["text"] is not None else one["value"])[:40]
