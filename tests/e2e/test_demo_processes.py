"""The demo's processes: none outlives it, none leaves children, all have a log of bounded size."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from simulators.demo import process as processes
from simulators.demo.broker import mosquitto_command, nats_command
from simulators.demo.ports import assign_ports, listens
from simulators.demo.process import Part, Process, bound_log
from simulators.demo.supervisor import Supervisor

SLEEPER = "import time, sys; print('up', flush=True); time.sleep(600)"
WITH_CHILD = (
    "import subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print(child.pid, flush=True); time.sleep(600)"
)
PARENT = """
import sys, time
from pathlib import Path
from simulators.demo.process import Part, Process
part = Part("sleeper", "agent", [sys.executable, "-c", sys.argv[2]], Path(sys.argv[1]), lambda: True)
print(Process(part).pid, flush=True)
time.sleep(600)
"""


def eventually(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if condition():
            return True
        time.sleep(0.02)
    return False


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    started: list[Process] = []

    def begin(code: str) -> Process:
        part = Part("part", "agent", [sys.executable, "-c", code], tmp_path / "part.log", lambda: True)
        started.append(Process(part))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


def said(process: Process) -> str:
    assert eventually(lambda: "\n" in process.part.log.read_text())
    return process.part.log.read_text().strip()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_part_dies_with_a_demo_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "part.log"), SLEEPER], stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        pid = int(demo.stdout.readline())
        assert eventually(lambda: (tmp_path / "part.log").read_text() == "up\n")
        demo.send_signal(signal.SIGKILL)
    assert eventually(lambda: gone(pid))


def test_a_kill_takes_the_children_along(start: Callable[[str], Process]) -> None:
    process = start(WITH_CHILD)
    child = int(said(process))
    assert not gone(child)
    process.kill()
    assert process.exit_code() == -signal.SIGKILL
    assert eventually(lambda: gone(child))
    process.kill()  # once more does no harm


def test_an_interrupt_of_the_terminal_does_not_reach_the_parts(start: Callable[[str], Process]) -> None:
    process = start(SLEEPER)
    assert os.getpgid(process.pid) == process.pid
    assert os.getsid(process.pid) == process.pid


def test_usage_counts_children(start: Callable[[str], Process]) -> None:
    process = start(WITH_CHILD)
    said(process)
    usage = process.usage()
    assert usage is not None
    assert usage.peak_rss_bytes > psutil.Process(process.pid).memory_info().rss
    process.kill()
    assert process.usage() is None


def test_a_log_keeps_one_older_part_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_LIMIT_BYTES", 100)
    log = tmp_path / "agent.log"
    log.write_text("x" * 101)
    bound_log(log)
    bound_log(log)
    assert log.read_text() == ""
    assert (tmp_path / "agent.1.log").read_text() == "x" * 101
    bound_log(tmp_path / "none.log")


@pytest.mark.parametrize("kind", ["nats", "mosquitto"])
def test_a_broker_listens_on_loopback_only_ends_when_told_and_starts_again(tmp_path: Path, kind: str) -> None:
    ports = assign_ports(tmp_path, ["mqtt", "nats"], {})
    command = (
        nats_command(tmp_path / "broker", ports["mqtt"], ports["nats"])
        if kind == "nats"
        else mosquitto_command(tmp_path / "broker", ports["mqtt"])
    )
    said_: list[str] = []
    supervisor = Supervisor(said_.append)
    part = Part("broker", "broker", command, tmp_path / "broker.log", lambda: listens(ports["mqtt"]))
    try:
        for _ in range(2):
            supervisor.start(part)
            supervisor.wait_ready(["broker"], 20)
            process = supervisor.process("broker")
            assert process is not None
            addresses = {
                each.laddr.ip
                for each in psutil.Process(process.pid).net_connections("inet")
                if each.status == psutil.CONN_LISTEN
            }
            assert addresses == {"127.0.0.1"}
            supervisor.stop()
            assert gone(process.pid)
    finally:
        supervisor.stop()
    assert said_ == []
