"""``shopfloor simulate``: run a scenario, check it, write its truth, or make load."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from shopfloor import logs
from shopfloor.errors import ConfigError, ShopfloorError
from shopfloor.loading import loading
from simulators.check import check_ports, summary
from simulators.load import command as load_command
from simulators.scenario import SCENARIOS, THREE_PLANTS, BrokerConfig, Scenario, load_scenario

_TRUTH_START: Final = "2026-01-05T00:00:00Z"
"""A Monday; fixed, so that the same command gives the same files."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    running = actions.add_parser("run", help="run the plants behind their protocols")
    _add_scenario(running)
    running.add_argument(
        "--data", type=Path, default=Path("simulator-data"), help="folder of logs, truth and checkpoints"
    )
    running.add_argument(
        "--port-base", type=int, help="OPC UA ports count up from here, in the scenario's order"
    )
    running.add_argument("--broker", metavar="URL", help="instead of the scenario's")
    running.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        help="1 to 60: how much faster than real the time passes until it has caught up",
    )
    running.add_argument(
        "--ago",
        type=_hours,
        metavar="HOURS",
        help="begin so long ago (default: 24 with --speed above 1, else 0)",
    )
    running.add_argument(
        "--nodeset-dir", type=Path, help="serve the OPC UA types from the NodeSet2 files of this folder"
    )
    checking = actions.add_parser("check", help="say what is wrong with a scenario, or what it holds")
    _add_scenario(checking)
    truth = actions.add_parser("truth", help="write what is true of some days, without protocols")
    _add_scenario(truth)
    truth.add_argument("--days", type=_days, default=30.0, help="default: 30")
    truth.add_argument(
        "--start", type=_moment, default=_moment(_TRUTH_START), help=f"ISO 8601; default: {_TRUTH_START}"
    )
    truth.add_argument(
        "--out",
        type=Path,
        help="folder; default: SCENARIO.truth beside the scenario, here for those of the package",
    )
    truth.add_argument("--json", action="store_true", help="print one line of JSON")
    load_command.add_arguments(
        actions.add_parser("load", help="a load generator: many machines, many signals")
    )


def _add_scenario(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(sorted(path.name for path in SCENARIOS.glob("*.yaml")))
    parser.add_argument(
        "scenario", type=_scenario, nargs="?", default=THREE_PLANTS, help=f"a file, or one of {names}"
    )
    parser.add_argument("--seed", type=int, help="instead of the scenario's")
    parser.add_argument("--site", action="append", metavar="ASSET", help="only this site; may be repeated")


def _scenario(text: str) -> Path:
    """Return a scenario's file: a path, or the name of one that comes with the package."""
    path = Path(text)
    own = SCENARIOS / (path.name if path.suffix else f"{text}.yaml")
    return own if not path.exists() and path.parent == Path() and own.exists() else path


def _speed(text: str) -> float:
    speed = float(text)
    if not 1.0 <= speed <= 60.0:
        raise argparse.ArgumentTypeError("must be between 1 and 60")
    return speed


def _hours(text: str) -> float:
    hours = float(text)
    if not 0.0 <= hours <= 24.0 * 366:
        raise argparse.ArgumentTypeError("must be between 0 and 8784")
    return hours


def _days(text: str) -> float:
    days = float(text)
    if not 0.0 < days <= 3_660.0:
        raise argparse.ArgumentTypeError("must be above 0 and at most 3660")
    return days


def _moment(text: str) -> int:
    """Return an ISO 8601 time as UTC ms; without an offset it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an ISO 8601 time") from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def main(arguments: argparse.Namespace) -> int:
    """Run; returns 0 after TERM or Ctrl-C, 2 where the configuration is wrong, 1 for what else goes wrong."""
    logs.set_up()
    # Its servers run here: what goes wrong in one of their callbacks is said nowhere else.
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    try:
        if arguments.action == "load":
            return load_command.main(arguments)
        scenario = chosen_scenario(
            load_scenario(arguments.scenario),
            seed=arguments.seed,
            sites=arguments.site,
            port_base=getattr(arguments, "port_base", None),
            broker=getattr(arguments, "broker", None),
        )
        return _ACTIONS[arguments.action](arguments, scenario)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (ShopfloorError, OSError) as error:
        print(f"shopfloor simulate: {error}", file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace, scenario: Scenario) -> int:
    check_ports(scenario, arguments.scenario, ports_from_file=arguments.port_base is None)
    with loading():
        from simulators.protocols.opcua_nodesets import find_nodesets  # noqa: PLC0415 - servers: `run` alone has any
        from simulators.run import Clock, run  # noqa: PLC0415

    if arguments.nodeset_dir is not None:
        find_nodesets(arguments.nodeset_dir)
    ago_h = arguments.ago if arguments.ago is not None else 24.0 if arguments.speed > 1.0 else 0.0
    clock = Clock(arguments.speed, ago_h)
    asyncio.run(run(scenario, arguments.data, clock, arguments.nodeset_dir))
    return 0


def _check(arguments: argparse.Namespace, scenario: Scenario) -> int:
    check_ports(scenario, arguments.scenario, ports_from_file=True)
    for line in summary(scenario):
        print(line)
    return 0


def _truth(arguments: argparse.Namespace, scenario: Scenario) -> int:
    beside = arguments.scenario.with_suffix(".truth")
    # The package's own scenarios lie where nobody looks, and perhaps nobody may write.
    out = arguments.out or (Path(beside.name) if beside.parent == SCENARIOS else beside)
    with loading():
        from simulators.truth_run import write_truth  # noqa: PLC0415 - what writes Parquet

    written = write_truth(scenario, out, arguments.start, arguments.days)
    if arguments.json:
        print(msgspec.json.encode(written).decode())
    else:
        print(
            f"{written.rows:,} rows about {written.units} units in {out}: "
            f"{written.unit_days_per_min:,.0f} unit-days a minute"
        )
    return 0


_ACTIONS: Final = {"run": _run, "check": _check, "truth": _truth}


def chosen_scenario(
    scenario: Scenario,
    *,
    seed: int | None = None,
    sites: Sequence[str] | None = None,
    port_base: int | None = None,
    broker: str | None = None,
) -> Scenario:
    """Return the scenario with what the command line says instead; raises ConfigError."""
    known = [site.asset for site in scenario.sites]
    unknown = sorted(set(sites or ()) - set(known))
    if unknown:
        raise ConfigError([f"--site {name}: the scenario has {', '.join(known)}" for name in unknown])
    if seed is not None and seed < 0:
        raise ConfigError([f"--seed {seed}: must not be negative"])
    changes: dict[str, object] = {} if seed is None else {"seed": seed}
    if broker is not None:
        try:
            url = BrokerConfig(url=broker).url
        except ValueError as error:
            raise ConfigError(["--broker: a broker is written mqtt://HOST[:PORT]"]) from error
        changes["broker"] = scenario.broker.model_copy(update={"url": url})
    chosen = list(scenario.sites)
    if port_base is not None:
        if not 1 <= port_base <= 65_536 - len(chosen):
            raise ConfigError(
                [f"--port-base {port_base}: must leave room for {len(chosen)} ports up to 65535"]
            )
        chosen = [
            site.model_copy(update={"opcua_port": port_base + number}) for number, site in enumerate(chosen)
        ]
    changes["sites"] = tuple(site for site in chosen if not sites or site.asset in sites)
    return scenario.model_copy(update=changes)
