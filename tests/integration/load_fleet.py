"""A small load in processes of its own, for the tests of the load generator."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from simulators.load import command
from simulators.load.fleet import Fleet
from simulators.load.plan import LoadPlan
from simulators.load.report import Report


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


@contextlib.asynccontextmanager
async def fleet(*words: str) -> AsyncIterator[tuple[Fleet, LoadPlan]]:
    """Run a load as the command does, started when the caller wants."""
    plan, jobs = command.make_jobs(arguments(*words), int(time.time()) * 1000)
    async with Fleet(plan, jobs) as running:
        yield running, plan


async def run_command(*words: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators.load", *words, stdout=PIPE, stderr=PIPE
    )


async def finished(process: Process) -> tuple[int, str, str]:
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def report_of(process: Process) -> Report:
    code, out, err = await finished(process)
    assert code == 0, err
    return msgspec.json.decode(out, type=Report)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def gone(pid: int) -> None:
    """Wait until a process has ended; its own parent may not have asked for its status yet."""
    while True:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except FileNotFoundError:
            return
        await asyncio.sleep(0.02)


async def until(condition: Any, what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)


def end(process: Process, how: signal.Signals) -> None:
    if process.returncode is None:
        os.kill(process.pid, how)
