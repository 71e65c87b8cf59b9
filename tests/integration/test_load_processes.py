"""A load's processes: what they deliver together, how they end, and what is said before anything starts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket

import pytest

from benchmarks._load_clients import OpcuaCounter
from shopfloor.errors import ShopfloorError
from simulators.load import command
from simulators.load.channel import OpcuaJob
from tests.integration.load_fleet import arguments, children, end, finished, fleet, gone, run_command, until


def free_pair() -> int:
    """Return a port that is free, as is the next."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as another:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            another.bind(("127.0.0.1", port + 1))
            return port


async def test_subscribers_of_several_servers_miss_nothing() -> None:
    words = ["--protocol", "opcua", "--machines", "5", "--signals", "40", "--hz", "50", "--servers", "2"]
    port = free_pair()
    async with fleet(*words, "--port-base", str(port)) as (running, plan):
        await running.start()
        counters = [
            OpcuaCounter(plan, part, f"opc.tcp://127.0.0.1:{port + number}")
            for number, part in enumerate((range(2), range(2, 5)))
        ]
        try:
            for counter in counters:
                await counter.start()
            first, second = counters
            await until(
                lambda: first.values_total > 20 * 80 and second.values_total > 20 * 120, "20 ticks arrive"
            )
            totals = await running.stop()
            await until(
                lambda: sum(each.values_total for each in counters) == totals.sent_values, "all arrives"
            )
        finally:
            for counter in counters:
                await counter.stop()
    assert [counter.verdict() for counter in counters] == [[], []]
    assert totals.discarded_values == 0
    assert totals.sent_values >= 20 * 200


async def test_term_ends_all_processes_and_the_count_is_printed() -> None:
    process = await run_command(
        "--protocol",
        "opcua",
        "--machines",
        "2",
        "--signals",
        "2",
        "--hz",
        "20",
        "--port-base",
        str(free_pair()),
        "--json",
    )
    try:
        await until(lambda: len(children(process.pid)) == 2, "both servers are there")
        pids = children(process.pid)
    finally:
        end(process, signal.SIGTERM)
    code, out, err = await finished(process)
    assert code == 0, err
    (line,) = out.splitlines()
    assert json.loads(line)["load"] == "opcua"
    for pid in pids:
        await gone(pid)


async def test_a_killed_parent_leaves_nothing_behind() -> None:
    process = await run_command(
        "--protocol", "opcua", "--machines", "2", "--signals", "2", "--port-base", str(free_pair())
    )
    try:
        assert process.stdout is not None
        began = (await process.stdout.readline()).decode()
        assert began.startswith("2 machines with 2 signals at 1 Hz from 2 processes, ready after")
        pids = children(process.pid)
        assert len(pids) == 2
    finally:
        end(process, signal.SIGKILL)
    async with asyncio.timeout(20):
        for pid in pids:
            await gone(pid)
    await finished(process)


async def test_a_server_that_dies_ends_the_load_and_is_named() -> None:
    process = await run_command(
        "--protocol", "opcua", "--machines", "2", "--signals", "2", "--port-base", str(free_pair())
    )
    assert process.stdout is not None
    await process.stdout.readline()
    victim, other = children(process.pid)
    os.kill(victim, signal.SIGKILL)
    code, _, err = await finished(process)
    assert code == 1
    assert f"process {victim} ended by itself" in err
    await gone(other)


def test_a_port_in_use_is_named_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--protocol", "opcua", "--machines", "2", "--servers", "2"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert command.main(arguments(*words, "--port-base", str(port))) == 2
    assert f"can't listen on opc.tcp://127.0.0.1:{port}: Address already in use" in capsys.readouterr().err


async def test_a_port_that_is_taken_meanwhile_ends_the_load() -> None:
    words = ["--protocol", "opcua", "--machines", "1", "--signals", "1"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with fleet(*words, "--port-base", str(port)) as (running, _):
            with pytest.raises(ShopfloorError, match=f"can't listen on opc.tcp://127.0.0.1:{port}"):
                await running.start()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--machines", "0"], "--machines 0: must be 1 to 9999"),
        (["--machines", "5000", "--signals", "900"], "together at most 1000000 values"),
        (["--hz", "0"], "--hz 0: must be 0.01 to 100"),
        (["--hz", "nan"], "--hz nan: must be 0.01 to 100"),
        (["--machines", "3", "--servers", "4"], "--servers 4: must be 1 to 3"),
        (["--port-base", "65530"], "--port-base 65530: must leave room"),
        (["--protocol", "mqtt", "--broker", "localhost"], "a broker is written mqtt://HOST[:PORT]"),
        (["--protocol", "mqtt", "--broker", "mqtt://h:99999"], "a broker is written mqtt://HOST[:PORT]"),
        (["--protocol", "mqtt", "--values-per-message", "7"], "must divide the 100 signals"),
        (["--values-per-message", "5"], "only with --protocol mqtt"),
        (["--protocol", "mqtt", "--topic", "a/#"], "a topic without wildcards"),
        (["--protocol", "sparkplug", "--topic", "a/b"], "a Sparkplug group has no slash"),
        (["--window", "40000"], "--window 40000: must be 1 to 30000"),
    ],
)
def test_wrong_arguments_are_named(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [] if "--protocol" in words else ["--protocol", "opcua"]
    assert command.main(arguments(*chosen, *words)) == 2
    assert said in capsys.readouterr().err


def test_machines_are_divided_among_ports() -> None:
    _, jobs = command.make_jobs(arguments("--protocol", "opcua", "--machines", "5", "--servers", "2"), 0)
    assert [(job.first, job.last, job.port) for job in jobs if isinstance(job, OpcuaJob)] == [
        (0, 2, 24_840),
        (2, 5, 24_841),
    ]
