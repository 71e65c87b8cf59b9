"""``shopfloor dashboards``: Grafana dashboards made, held against a database, and pushed."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dashboards.grafana import provisioning, push_command, render
from dashboards.grafana.boards.board import LIVE_URL
from dashboards.grafana.checking.database import Access, Database, influxdb, victoriametrics
from dashboards.grafana.checking.interpolation import Span
from dashboards.grafana.checking.run import Report, check
from dashboards.grafana.checking.structure import problems
from shopfloor.errors import Permanent, Transient

_MOST_SHOWN: Final = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    making = actions.add_parser("render", help="write the dashboards as JSON, for provisioning by files")
    making.add_argument("--to", type=Path, default=render.FOLDER, help="folder; default: the package's own")
    making.add_argument(
        "--provisioning",
        type=Path,
        metavar="FOLDER",
        help="where to write data sources, folder and alert rules as well",
    )
    making.add_argument("--live-url", default=LIVE_URL, help="where browsers find the live page")
    making.add_argument(
        "--check", action="store_true", help="write nothing; fail where a file is not as it would be"
    )
    checking = actions.add_parser(
        "check",
        help="validate the dashboards and execute every query on a database",
        description="Without a database only the structure is validated.",
    )
    checking.add_argument("--influxdb", metavar="URL", help="such as http://127.0.0.1:8086")
    checking.add_argument("--database", default="shopfloor", help="database or bucket of InfluxDB")
    checking.add_argument("--victoriametrics", metavar="URL", help="such as http://127.0.0.1:8428")
    checking.add_argument("--user", default="", help="with --password-file")
    checking.add_argument("--password-file", type=Path)
    checking.add_argument("--token-file", type=Path)
    checking.add_argument("--hours", type=float, default=6.0, help="span of time that is asked for")
    checking.add_argument(
        "--to", metavar="TIME", help="its end, such as 2026-11-26T08:00:00+08:00; default: now"
    )
    checking.add_argument(
        "--var",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable's value; default: what is found",
    )
    checking.add_argument("--json", action="store_true", help="one line of JSON")
    push_command.add_arguments(actions.add_parser("push", help="fill a remote Grafana by its HTTP interface"))


def main(arguments: argparse.Namespace) -> int:
    """Run a sub-command; return the exit status: 0, 1 where something is wrong, 2 for a mistake in what was asked."""
    runs: dict[str, Callable[[argparse.Namespace], int]] = {"render": _render, "check": _check, "push": _push}
    return runs[arguments.action](arguments)


def _push(arguments: argparse.Namespace) -> int:
    def boards(language: str, live_url: str) -> Sequence[Mapping[str, Any]]:
        return list(render.dashboards(render.LANGUAGES[language], live_url).values())

    return push_command.run(arguments, boards)


def _render(arguments: argparse.Namespace) -> int:
    if arguments.check:
        found = render.stale(arguments.to, arguments.live_url)
        found += provisioning.stale(arguments.provisioning) if arguments.provisioning else []
        print("\n".join(found), file=sys.stderr, end="\n" if found else "")
        return 1 if found else 0
    try:
        for path in render.write(arguments.to, arguments.live_url):
            print(path)
        for path in provisioning.write(arguments.provisioning) if arguments.provisioning else ():
            print(path)
    except OSError as error:
        print(f"shopfloor dashboards render: {error}", file=sys.stderr)
        return 1
    return 0


def _check(arguments: argparse.Namespace) -> int:
    try:
        span = _span(arguments.to, arguments.hours)
        chosen = _chosen(arguments.var)
        databases = _databases(arguments)
    except (ValueError, OSError) as error:
        print(f"shopfloor dashboards check: {error}", file=sys.stderr)
        return 2
    wrong: list[str] = []
    reports: dict[str, Report] = {}
    for name, language in render.LANGUAGES.items():
        made = render.dashboards(language)
        wrong += [f"{name}: {problem}" for problem in problems(made)]
        if name in databases:
            try:
                reports[name] = check(made, databases[name], span, chosen)
            except (Permanent, Transient, ValueError) as error:
                print(f"shopfloor dashboards check: {error}", file=sys.stderr)
                return 1
    _show(reports, wrong, as_json=arguments.json)
    return 1 if wrong or any(one.failed or one.empty for one in reports.values()) else 0


def _show(reports: Mapping[str, Report], wrong: Sequence[str], *, as_json: bool) -> None:
    found = [*wrong, *(f"{name}: {problem}" for name, one in reports.items() for problem in one.problems)]
    for line in found[:_MOST_SHOWN]:
        print(line, file=sys.stderr)
    if len(found) > _MOST_SHOWN:
        print(f"… and {len(found) - _MOST_SHOWN} more", file=sys.stderr)
    figures = {name: one.figures() for name, one in reports.items()}
    keys = ("dashboards", "panels", "queries", "failed", "empty")
    total: dict[str, Any] = {key: sum(one[key] for one in figures.values()) for key in keys}
    total["failed"] += len(wrong)
    if as_json:
        print(json.dumps({**total, **figures}))
        return
    for name, one in figures.items():
        print(
            f"{name}: {one['queries']} queries of {one['panels']} panels on {one['dashboards']} dashboards: "
            f"{one['failed']} failed, {one['empty']} empty, {one['quiet']} empty as they may be"
        )
    if not figures:
        print(f"structure: {len(wrong)} problems; no database was named to execute the queries on")


def _span(to: str | None, hours: float) -> Span:
    if not 0 < hours <= 24 * 3660:
        raise ValueError("--hours: a span of up to ten years stands here")
    end = dt.datetime.fromisoformat(to) if to else dt.datetime.now(dt.UTC)
    if end.tzinfo is None:
        raise ValueError(f"--to: {to} needs its offset from UTC, such as +08:00")
    end_ms = round(end.timestamp() * 1000)
    return Span(end_ms - round(hours * 3_600_000), end_ms)


def _chosen(words: Sequence[str]) -> dict[str, str]:
    for word in words:
        if "=" not in word:
            raise ValueError(f"--var: {word!r} is not NAME=VALUE")
    return dict(word.split("=", 1) for word in words)


def _databases(arguments: argparse.Namespace) -> dict[str, Database]:
    def secret(path: Path | None) -> str:
        return path.read_text(encoding="utf-8").strip() if path else ""

    def access(url: str, database: str = "") -> Access:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is no address such as http://127.0.0.1:8086")
        return Access(
            url.rstrip("/"),
            database,
            arguments.user,
            secret(arguments.password_file),
            secret(arguments.token_file),
        )

    found = {}
    if arguments.influxdb:
        found["influxql"] = influxdb(access(arguments.influxdb, arguments.database))
    if arguments.victoriametrics:
        found["metricsql"] = victoriametrics(access(arguments.victoriametrics))
    return found
