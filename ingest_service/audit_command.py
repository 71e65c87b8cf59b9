"""``shopfloor ingest audit``: who did what, from where, when, and what came of it."""

from __future__ import annotations

import argparse

import msgspec
import sqlalchemy as sa

from ingest_service import plant_command
from ingest_service.access.audit import AuditRow, entries
from ingest_service.config import IngestConfig


def add_arguments(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the sub-command."""
    parser = commands.add_parser("audit", help="list who did what, from where, when; newest first")
    parser.add_argument("--limit", type=int, default=100, help="entries, at most; default 100")
    parser.add_argument("--before", type=int, help="only entries older than this number")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    plant_command.declare({"audit": parser}, {"audit": _list})
    parser.set_defaults(run=plant_command.run)


def _list(arguments: argparse.Namespace, engine: sa.Engine, _config: IngestConfig) -> int:
    for row in entries(engine, before=arguments.before, limit=max(1, arguments.limit)):
        print(_as_json(row) if arguments.json else _as_text(row))
    return 0


def _as_json(row: AuditRow) -> str:
    shown = {**row._asdict(), "at": plant_command.shown(row.at), "detail": msgspec.json.decode(row.detail)}
    return msgspec.json.encode(shown).decode()


def _as_text(row: AuditRow) -> str:
    columns = (
        row.audit_id,
        plant_command.shown(row.at),
        row.outcome,
        row.actor,
        row.address or "-",
        row.action,
        row.subject or "-",
        row.detail,
    )
    return "\t".join(str(column) for column in columns)
