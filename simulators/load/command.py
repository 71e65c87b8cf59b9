"""``shopfloor simulate load``: OPC UA servers, MQTT publishers or Sparkplug edge nodes with as much load as is asked for.

Every value can be foreseen (`simulators.load.plan`), so that a receiver can tell whether one is missing. Where the
asked rate can't be held, it says so.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from shopfloor import logs
from shopfloor.errors import ConfigError, ShopfloorError
from simulators.load.channel import Counters, Job, MqttJob, OpcuaJob, Protocol
from simulators.load.fleet import Fleet
from simulators.load.mqtt_window import MAX_WINDOW
from simulators.load.plan import (
    MAX_HZ,
    MAX_MACHINES,
    MAX_SIGNALS,
    MAX_VALUES_PER_TICK,
    MIN_HZ,
    LoadPlan,
    share,
)
from simulators.load.report import Report, progress, report, shortcomings

PASSWORD_VARIABLE: Final = "SHOPFLOOR_LOAD_PASSWORD"  # noqa: S105 - a name, no password
_PORT_BASE: Final = 24_840
_MAX_PROCESSES: Final = 64
_PROGRESS_S: Final = 3.0
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|)")
_SECONDS: Final = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("--protocol", choices=("opcua", "mqtt", "sparkplug"), required=True)
    parser.add_argument("--machines", type=int, default=500, metavar="N", help="default: 500")
    parser.add_argument("--signals", type=int, default=100, metavar="N", help="of a machine; default: 100")
    parser.add_argument(
        "--hz", type=float, default=1.0, help="new values of every signal a second; default: 1"
    )
    parser.add_argument(
        "--servers",
        "--processes",
        dest="processes",
        type=int,
        metavar="N",
        help="processes: OPC UA servers, MQTT connections or Sparkplug edge nodes; default: one a core",
    )
    parser.add_argument(
        "--for", dest="duration_s", type=_duration, metavar="60s", help="default: until Ctrl-C or TERM"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON line at the end, and nothing else"
    )
    opcua = parser.add_argument_group("OPC UA")
    opcua.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="default: 127.0.0.1")
    opcua.add_argument(
        "--port-base", type=int, default=_PORT_BASE, help=f"ports count up from here; default: {_PORT_BASE}"
    )
    mqtt = parser.add_argument_group("MQTT and Sparkplug")
    mqtt.add_argument("--broker", default="mqtt://127.0.0.1:1883", metavar="URL", help="mqtt://HOST[:PORT]")
    mqtt.add_argument("--username", help=f"its password is taken from {PASSWORD_VARIABLE}")
    mqtt.add_argument(
        "--topic", default="load", help="what topics begin with; of Sparkplug the group; default: load"
    )
    mqtt.add_argument(
        "--qos", type=int, choices=(0, 1), default=1, help="of MQTT; default: 1. Sparkplug has 0"
    )
    mqtt.add_argument(
        "--values-per-message",
        type=int,
        default=0,
        metavar="N",
        help="default: all of a machine in one message",
    )
    mqtt.add_argument(
        "--window",
        type=int,
        default=1000,
        metavar="N",
        help="QoS 1: unacknowledged messages at most; default: 1000",
    )


def main(arguments: argparse.Namespace) -> int:
    """Run; returns 0 after the time asked for, TERM or Ctrl-C, 2 for wrong arguments, 1 for what else goes wrong."""
    logs.set_up()
    try:
        plan, jobs = make_jobs(arguments, int(time.time()) * 1000)
        check_ports(jobs)
        found = asyncio.run(_run(arguments, plan, jobs))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (ShopfloorError, OSError) as error:
        print(f"shopfloor simulate load: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(msgspec.json.encode(found).decode(), flush=True)
    else:
        print(_summary(found))
    for shortcoming in shortcomings(found.totals):
        print(f"shopfloor simulate load: {shortcoming}", file=sys.stderr)
    return 0


def make_jobs(arguments: argparse.Namespace, epoch_ms: int) -> tuple[LoadPlan, list[Job]]:
    """Return the load and what each process does of it; raises ConfigError with every mistake at once."""
    problems = _problems(arguments)
    host, port = "", 0
    if arguments.protocol != "opcua":
        try:
            host, port = _broker(arguments.broker)
        except ValueError:
            problems.append(f"--broker {arguments.broker}: a broker is written mqtt://HOST[:PORT]")
    if problems:
        raise ConfigError(problems)
    plan = LoadPlan(arguments.machines, arguments.signals, arguments.hz, epoch_ms)
    processes = arguments.processes or min(os.cpu_count() or 1, plan.machines)
    parts = list(enumerate(share(plan.machines, processes)))
    if arguments.protocol == "opcua":
        return plan, [
            OpcuaJob(plan, number, part.start, part.stop, arguments.listen, arguments.port_base + number)
            for number, part in parts
        ]
    return plan, [
        MqttJob(
            plan,
            number,
            part.start,
            part.stop,
            host,
            port,
            arguments.topic,
            f"shopfloor-load-{os.getpid()}-{number + 1}",
            arguments.qos,
            arguments.values_per_message,
            arguments.window,
            arguments.protocol == "sparkplug",
            arguments.username,
            os.environ.get(PASSWORD_VARIABLE) if arguments.username is not None else None,
        )
        for number, part in parts
    ]


def _problems(arguments: argparse.Namespace) -> list[str]:
    machines, signals, processes = arguments.machines, arguments.signals, arguments.processes
    problems = []
    for option, found, most in (
        ("--machines", machines, MAX_MACHINES),
        ("--signals", signals, MAX_SIGNALS),
        ("--window", arguments.window, MAX_WINDOW),
    ):
        if not 1 <= found <= most:
            problems.append(f"{option} {found}: must be 1 to {most}")
    if not problems and machines * signals > MAX_VALUES_PER_TICK:
        problems.append(
            f"--machines {machines} --signals {signals}: together at most {MAX_VALUES_PER_TICK} values"
        )
    if not MIN_HZ <= arguments.hz <= MAX_HZ:
        problems.append(f"--hz {arguments.hz:g}: must be {MIN_HZ:g} to {MAX_HZ:g}")
    most_processes = max(1, min(machines, _MAX_PROCESSES))
    if processes is not None and not 1 <= processes <= most_processes:
        problems.append(f"--servers {processes}: must be 1 to {most_processes}")
    if arguments.protocol == "opcua" and not 1 <= arguments.port_base <= 65_536 - (
        processes or _MAX_PROCESSES
    ):
        problems.append(f"--port-base {arguments.port_base}: must leave room for a port a server up to 65535")
    each = arguments.values_per_message
    if each < 0 or (each > 0 and signals % each):
        problems.append(f"--values-per-message {each}: must divide the {signals} signals of a machine")
    if each and arguments.protocol != "mqtt":
        problems.append("--values-per-message: only with --protocol mqtt")
    if not arguments.topic or set(arguments.topic) & set("+#\0") or arguments.topic.startswith(("/", "$")):
        problems.append(f"--topic {arguments.topic!r}: must be a topic without wildcards")
    elif arguments.protocol == "sparkplug" and "/" in arguments.topic:
        problems.append(f"--topic {arguments.topic}: a Sparkplug group has no slash")
    return problems


def _broker(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if parts.scheme != "mqtt" or not parts.hostname or parts.path or parts.query or parts.username:
        raise ValueError(url)
    return parts.hostname, parts.port or 1883


def check_ports(jobs: Sequence[Job]) -> None:
    """Raise ConfigError naming every port that a server of ours could not listen on."""
    problems = []
    for job in jobs:
        if not isinstance(job, OpcuaJob):
            continue
        try:
            family = socket.getaddrinfo(job.host, job.port, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((job.host, job.port))
        except OSError as error:
            problems.append(f"can't listen on opc.tcp://{job.host}:{job.port}: {error.strerror or error}")
    if problems:
        raise ConfigError(problems)


def _duration(text: str) -> float:
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 60s, 5min or 1h")
    return seconds


async def _run(arguments: argparse.Namespace, plan: LoadPlan, jobs: Sequence[Job]) -> Report:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    protocol: Protocol = arguments.protocol
    async with Fleet(plan, jobs) as fleet:
        starting = asyncio.create_task(fleet.start())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
        else:
            starting.result()
            if not arguments.json:
                print(_begun(plan, jobs, fleet.startup_s), flush=True)
            await _watch(arguments, protocol, fleet, stop)
            await fleet.stop()
        return report(
            protocol,
            plan,
            fleet.counters,
            processes=len(jobs),
            startup_s=fleet.startup_s,
            seconds=fleet.elapsed_s,
        )


async def _watch(
    arguments: argparse.Namespace, protocol: Protocol, fleet: Fleet, stop: asyncio.Event
) -> None:
    duration_s: float = arguments.duration_s or float("inf")
    before, before_s = Counters(), 0.0
    while not stop.is_set() and fleet.elapsed_s < duration_s:
        await fleet.watch(stop, min(_PROGRESS_S, duration_s - fleet.elapsed_s))
        now, now_s = fleet.counters, fleet.elapsed_s
        if not arguments.json and now_s - before_s > _PROGRESS_S / 2:
            print(progress(protocol, before, now, now_s - before_s), flush=True)
            before, before_s = now, now_s


def _begun(plan: LoadPlan, jobs: Sequence[Job], startup_s: float) -> str:
    where = [
        f"opc.tcp://{job.host}:{job.port}" if isinstance(job, OpcuaJob) else f"mqtt://{job.host}:{job.port}"
        for job in jobs
    ]
    places = ", ".join(dict.fromkeys(where))
    return (
        f"{plan.machines} machines with {plan.signals} signals at {plan.hz:g} Hz from {len(jobs)} processes, "
        f"ready after {startup_s:.1f} s: {places}"
    )


def _summary(found: Report) -> str:
    totals = found.totals
    return (
        f"{found.seconds:.1f} s: {totals.sent_values:,} values in {totals.sent_messages:,} messages "
        f"({found.sent_values_per_s:,.0f} and {found.sent_messages_per_s:,.0f} a second), "
        f"{totals.acknowledged_messages:,} acknowledged; {found.cpu_cores:.2f} cores"
    )
