"""``shopfloor ingest ledger``, ``agents`` and ``alarms``: what became of all samples, who sends them, what is wrong."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import quote

import msgspec

from ingest_service import service_command
from ingest_service.plant_command import shown
from ingest_service.service_command import ServiceClient
from shopfloor.tables import size_text, table

_FIGURES = ("handed_over", "stored", "quarantined", "dropped", "pending", "missing")


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the sub-commands."""
    ledger = commands.add_parser("ledger", help="what became of every sample that was handed over")
    for name, help_text in (
        ("stream", "this stream; may be repeated"),
        ("agent", "of this agent; may be repeated"),
        ("asset", "of agents that serve this asset, or what lies below; may be repeated"),
    ):
        ledger.add_argument(f"--{name}", action="append", default=[], help=help_text)
    ledger.add_argument("--from", default="", help="whose fate was known then or later: ms, or ISO 8601")
    ledger.add_argument("--to", default="", help="and before")
    ledger.add_argument("--json", action="store_true", help="the answer as it is")
    service_command.declare(ledger, _ledger)
    agents = commands.add_parser("agents", help="who sends, and how it is there")
    actions = agents.add_subparsers(dest="agents_command", metavar="COMMAND", required=True)
    listing = actions.add_parser("list", help="contact, lag, buffer, version, sources")
    listing.add_argument("--json", action="store_true", help="the answer as it is")
    service_command.declare(listing, _agents)
    retire = actions.add_parser("retire", help="take one out of the registry; its streams keep their ledger")
    retire.add_argument("agent_id")
    service_command.declare(retire, _retire)
    alarms = commands.add_parser("alarms", help="what is wrong, and who has seen it")
    actions = alarms.add_subparsers(dest="alarms_command", metavar="COMMAND", required=True)
    listing = actions.add_parser("list", help="those of now, or past ones")
    listing.add_argument("--state", choices=["active", "over", "all"], default="active")
    listing.add_argument("--json", action="store_true", help="the answer as it is")
    service_command.declare(listing, _alarms)
    acknowledge = actions.add_parser("acknowledge", help="note that you have seen one")
    acknowledge.add_argument("alarm_id")
    service_command.declare(acknowledge, _acknowledge)


def _ledger(arguments: argparse.Namespace, client: ServiceClient) -> int:
    """Print the figures; 1 where samples are missing."""
    asked = {"from": getattr(arguments, "from"), "to": arguments.to}
    asked |= {name: getattr(arguments, name) for name in ("stream", "agent", "asset")}
    asked = {name: value for name, value in asked.items() if value}
    answer = client.ask("GET", "/v1/ledger", **asked)
    if arguments.json:
        print(msgspec.json.encode(answer).decode())
    else:
        rows = [_row(one["stream"], one["agent"], one) for one in answer["streams"]]
        rows.append(_row("total", f"{answer['total']['streams']} streams", answer["total"]))
        titles = ["stream", "agent", *(name.replace("_", " ") for name in _FIGURES), "repeated"]
        print("\n".join(table(titles, rows, right=range(2, 9), giving=0, width=140)))
        if answer["next"]:
            print(f"... and further streams, behind {answer['next']}; the total counts them too")
        for reason, samples in answer["total"]["dropped_by_reason"].items():
            print(f"dropped: {samples} samples: {reason}")
        for one in answer["streams"]:
            for gap in one["gaps"]:
                print(
                    f"missing: stream {one['stream']} {gap['first_seq']}-{gap['last_seq']}, "
                    f"found {_when(gap['found'])}: {gap['reason']}"
                )
        for lost in answer["without_numbers"]:
            least = "at least " if lost["at_least"] else ""
            print(
                f"without numbers: {lost['kind']} of {lost['agent']} {lost['source']}, {_when(lost['from'])} to "
                f"{_when(lost['to'])}, {least}{lost['samples']} samples: {lost['reason']}"
            )
    return 1 if answer["total"]["missing"] else 0


def _row(stream: str, agent: str, figures: dict[str, Any]) -> list[str]:
    return [stream, agent, *(str(figures[name]) for name in (*_FIGURES, "repeated"))]


def _agents(arguments: argparse.Namespace, client: ServiceClient) -> int:
    answer = client.ask("GET", "/v1/agents")
    if arguments.json:
        print(msgspec.json.encode(answer).decode())
        return 0
    rows = []
    for one in answer["agents"]:
        buffer = one["buffer"] or {}
        running = sum(source["state"] == "running" for source in one["sources"])
        hours = buffer.get("hours_left")
        rows.append(
            [
                one["id"],
                one["asset"],
                "yes" if one["contact"] else "NO",
                _when(one["last_contact"]),
                "-" if one["lag_s"] is None else f"{one['lag_s']:.0f} s",
                size_text(buffer["used_bytes"]) if buffer else "-",
                "-" if hours is None else f"{hours:.0f} h",
                one["version"] or "-",
                one.get("config_hash", "-")[:8],
                f"{running} of {len(one['sources'])}",
            ]
        )
    titles = [
        "agent",
        "asset",
        "contact",
        "last heard",
        "lag",
        "buffer",
        "lasts",
        "version",
        "configuration",
        "sources",
    ]
    print("\n".join(table(titles, rows, giving=1, width=150)))
    for one in answer["agents"]:
        if one["outside"]:
            print(f"{one['id']} speaks for what its token does not reach: {', '.join(one['outside'])}")
    return 0


def _retire(arguments: argparse.Namespace, client: ServiceClient) -> int:
    client.ask("DELETE", f"/v1/agents/{quote(arguments.agent_id, safe='')}")
    print(f"{arguments.agent_id} is retired; if it still sends, it comes back")
    return 0


def _alarms(arguments: argparse.Namespace, client: ServiceClient) -> int:
    answer = client.ask("GET", "/v1/alarms", state=arguments.state)
    if arguments.json:
        print(msgspec.json.encode(answer).decode())
        return 0
    rows = [
        [
            one["id"],
            one["kind"],
            one["subject"],
            _when(one["since"]),
            _when(one["until"]),
            one["acknowledged_by"] or "-",
            one["message"],
        ]
        for one in answer["alarms"]
    ]
    print("\n".join(table(["id", "kind", "of", "since", "until", "seen by", "what"], rows)))
    return 0


def _acknowledge(arguments: argparse.Namespace, client: ServiceClient) -> int:
    done = client.ask("POST", f"/v1/alarms/{quote(arguments.alarm_id, safe='')}/acknowledge")
    print(f"{done['kind']} of {done['subject']}: seen by {done['acknowledged_by']}")
    return 0


def _when(at_ms: int | None) -> str:
    return shown(None if at_ms is None else at_ms * 1_000_000)
