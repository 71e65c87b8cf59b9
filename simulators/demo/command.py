"""``shopfloor demo``: three plants on this computer, live; or a run that proves that no sample is lost."""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import signal
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

from shopfloor.errors import ConfigError, ShopfloorError
from simulators.demo import broker, kills
from simulators.demo.evidence import keep_evidence
from simulators.demo.folder import data_folder
from simulators.demo.headless import run_headless
from simulators.demo.plan import Plan, make_plan, port_names, write_agent_config, write_ingest_config
from simulators.demo.ports import HOST, assign_ports
from simulators.demo.session import Session
from simulators.demo.status import StatusLine
from simulators.scenario import THREE_PLANTS, load_scenario

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h)?")
_SECONDS: Final = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, None: 1.0}
_FOR_EVER_S: Final = 10.0 * 365 * 86_400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("demo-data"),
        metavar="DIR",
        help="everything lies here (./demo-data)",
    )
    parser.add_argument("--fresh", action="store_true", help="first delete what an earlier demo left there")
    parser.add_argument(
        "--for",
        dest="duration_s",
        type=parse_duration,
        metavar="60s",
        help="run for so long from when all is ready, stop the machines, account for every value, and end",
    )
    parser.add_argument(
        "--json", action="store_true", help="print nothing but the result, as one line of JSON"
    )
    parser.add_argument(
        "--kill",
        type=_kinds,
        default=(),
        metavar="agent,ingest,broker",
        help="kill -9 these several times at random moments and start them again",
    )
    parser.add_argument("--seed", type=int, help="of the random moments; chosen and shown where omitted")
    parser.add_argument(
        "--broker",
        default="nats",
        metavar="nats|mosquitto|URL",
        help="which MQTT broker to start, or use (nats)",
    )
    parser.add_argument("--port", type=int, default=8080, help="of the page; another if it is taken (8080)")
    parser.add_argument("--scenario", type=Path, default=THREE_PLANTS, metavar="FILE", help="the plants")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def main(arguments: argparse.Namespace) -> int:
    """Run the demo; returns the exit status (0: all is well, 1: not, 2: something asked for can't be)."""
    began_s = time.monotonic()
    headless = arguments.duration_s is not None
    # Standard output belongs to the result where a program reads it.
    stream = sys.stderr if arguments.json else sys.stdout
    status = StatusLine(stream)
    seed = random.randrange(10_000) if arguments.seed is None else arguments.seed
    if arguments.kill and headless and arguments.duration_s < kills.SHORTEST_S:
        return _refuse(f"--kill needs a run of at least {kills.SHORTEST_S:g} s")
    if arguments.json and not headless:
        return _refuse("--json goes with --for: a demo without an end has no result")
    try:
        with _interruptible(), data_folder(arguments.data, fresh=arguments.fresh) as folder:
            plan = prepare(folder, arguments.scenario, arguments.broker, arguments.port)
            session = Session(plan, arguments.broker, status.say)
            try:
                status.say(f"starting; data in {folder}, logs in {folder / 'logs'}")
                session.start(began_s, record=headless)
                status.say(f"ready after {session.seconds_to_ready:.1f} s: {plan.url}")
                if arguments.open:
                    webbrowser.open(plan.url)
                if headless:
                    return _prove(session, arguments, seed, status.say)
                _show(session, arguments.kill, seed, status)
            finally:
                status.say("stopping")
                session.stop()
    except KeyboardInterrupt:
        return 130 if headless else 0
    except ConfigError as error:
        return _refuse(str(error))
    except broker.BrokerUnavailable as error:
        return _refuse(str(error))
    except ShopfloorError as error:
        print(f"shopfloor demo: {error}", file=sys.stderr)
        return 1
    return 0


def prepare(folder: Path, scenario: Path, broker_kind: str, port: int) -> Plan:
    """Choose ports and write the configuration of every part into ``folder``.

    Raises:
        ConfigError: the scenario is wrong.
        BrokerUnavailable: ``broker_kind`` is neither a known kind nor an address.
        NoPort: no port is free.
    """
    ports = assign_ports(folder, port_names(load_scenario(scenario)), {"page": port})
    if broker_kind in broker.KINDS:
        url = f"mqtt://{HOST}:{ports['mqtt']}"
    else:
        host, broker_port = broker.parse_address(broker_kind)
        url = f"mqtt://{host}:{broker_port}"
    plan = make_plan(folder, scenario, ports, url)
    write_ingest_config(plan)
    for site in plan.sites:
        write_agent_config(plan, site)
    return plan


def _prove(session: Session, arguments: argparse.Namespace, seed: int, say: Callable[[str], None]) -> int:
    schedule = (
        kills.plan_kills(_killable(session.plan, arguments.kill), arguments.duration_s, seed)
        if arguments.kill
        else ()
    )
    if schedule:
        say(f"{len(schedule)} kills, seed {seed}")
    report, comparison = run_headless(session, arguments.duration_s, schedule, seed, say)
    print(report.line(), flush=True)
    shortcomings = report.shortcomings()
    for line in (*shortcomings, *comparison.first_examples()):
        print(line, file=sys.stderr)
    if not comparison.clean:
        say(f"all differences and the parts' own figures: {keep_evidence(session.plan, comparison)}")
    return 1 if shortcomings else 0


def _show(session: Session, kinds: tuple[str, ...], seed: int, status: StatusLine) -> None:
    """Keep everything running until interrupted."""
    status.say("Ctrl-C ends it; the data stays")
    if not kinds:
        session.run(_FOR_EVER_S, look=lambda _: status.show(session))
    for round_number in range(10**9):
        schedule = kills.plan_kills(_killable(session.plan, kinds), kills.ROUND_S, seed + round_number)
        session.run(kills.ROUND_S, schedule, lambda _: status.show(session))


def _killable(plan: Plan, kinds: tuple[str, ...]) -> dict[str, list[str]]:
    agents = [site.agent for site in plan.sites]
    return {kind: agents if kind == "agent" else [kind] for kind in kinds}


def parse_duration(text: str) -> float:
    """Return the seconds of ``60s``, ``5min``, ``1.5h`` or a plain number of seconds."""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds <= _FOR_EVER_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 60s, 5min or 1h")
    return seconds


def _kinds(text: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(kind.strip() for kind in text.split(",") if kind.strip()))
    unknown = [kind for kind in chosen if kind not in kills.KINDS]
    if unknown or not chosen:
        raise argparse.ArgumentTypeError(f"{text!r}: any of {', '.join(kills.KINDS)}, joined by commas")
    return chosen


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let TERM and HUP end the demo as Ctrl-C does."""

    def interrupt(_number: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _refuse(message: str) -> int:
    print(f"shopfloor demo: {message}", file=sys.stderr)
    return 2
