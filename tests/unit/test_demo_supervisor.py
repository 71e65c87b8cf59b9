"""How the demo starts, watches, kills and ends its parts; with processes that are none."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from simulators.demo.process import Part, Process, Usage, tail
from simulators.demo.supervisor import StartFailed, Supervisor


class World:
    """A clock that only sleeping moves, and every process that was started."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.started: list[FakeProcess] = []
        self.said: list[str] = []
        self.events: list[str] = []

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def supervisor(self) -> Supervisor:
        return Supervisor(
            self.said.append,
            start=self.start,
            clock=lambda: self.now_s,
            sleep=self.sleep,
        )

    def start(self, part: Part) -> FakeProcess:
        process = FakeProcess(self, part)
        self.started.append(process)
        self.events.append(f"start {part.name}")
        return process

    def run(self, supervisor: Supervisor, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            supervisor.tick()
            self.sleep(0.1)


class FakeProcess(Process):
    """What the supervisor sees of a process; nothing is started."""

    def __init__(self, world: World, part: Part) -> None:
        self.part = part
        self.code: int | None = None
        self.stubborn = False
        self.now = Usage(1.0, 50_000_000)
        self._world = world

    def exit_code(self) -> int | None:
        return self.code

    def usage(self) -> Usage | None:
        return None if self.code is not None else Usage(self.now.cpu_s, self.now.peak_rss_bytes)

    def terminate(self) -> None:
        self._world.events.append(f"terminate {self.part.name}")
        if not self.stubborn and self.code is None:
            self.code = 0

    def kill(self) -> None:
        if self.code is None:
            self._world.events.append(f"kill {self.part.name}")
            self.code = -9

    def wait(self, timeout_s: float) -> bool:
        if self.code is None:
            self._world.sleep(timeout_s)
        return self.code is not None

    def send(self, number: signal.Signals) -> None:
        self._world.events.append(f"signal {number} {self.part.name}")


def part(name: str, folder: Path, ready: Callable[[], bool] = lambda: True) -> Part:
    return Part(name, name.partition("-")[0], [name], folder / f"{name}.log", ready, grace_s=3.0)


def test_readiness_is_waited_for(tmp_path: Path) -> None:
    world = World()
    supervisor = world.supervisor()
    supervisor.start(part("ingest", tmp_path, lambda: world.now_s >= 104))
    supervisor.wait_ready(["ingest"], 10)
    assert world.now_s == pytest.approx(104, abs=0.11)


def test_a_part_that_is_never_ready_fails_the_start_with_the_end_of_its_log(tmp_path: Path) -> None:
    world = World()
    supervisor = world.supervisor()
    (tmp_path / "ingest.log").write_text("first\nwaiting for a lock\n")
    supervisor.start(part("ingest", tmp_path, lambda: False))
    with pytest.raises(StartFailed, match=r"(?s)ingest is not ready after 5 s; .*waiting for a lock"):
        supervisor.wait_ready(["ingest"], 5)


def test_a_part_that_ends_while_starting_fails_the_start_at_once(tmp_path: Path) -> None:
    world = World()
    supervisor = world.supervisor()
    (tmp_path / "ingest.log").write_text("ingest.yaml:3:1: unknown key\n")
    supervisor.start(part("ingest", tmp_path, lambda: False))
    world.started[0].code = 2
    with pytest.raises(StartFailed, match=r"(?s)ingest ended with exit code 2 while starting.*unknown key"):
        supervisor.wait_ready(["ingest"], 60)
    assert world.now_s == 100.0


def test_a_part_that_dies_is_named_and_started_again_with_backoff(tmp_path: Path) -> None:
    world = World()
    supervisor = world.supervisor()
    (tmp_path / "agent-hk01.log").write_text("Traceback\nKeyError: 'x'\n")
    supervisor.start(part("agent-hk01", tmp_path))
    began_s = []
    for _ in range(4):
        world.started[-1].code = 1
        dead_s = world.now_s
        known = len(world.started)
        while len(world.started) == known:
            world.run(supervisor, 0.1)
        began_s.append(round(world.now_s - dead_s, 1))
    assert began_s == pytest.approx([0.6, 1.1, 2.1, 4.1], abs=0.11)
    assert "agent-hk01 ended with exit code 1, starting it again in 0.5 s" in world.said[0]
    assert "KeyError" in world.said[0]
    assert supervisor.restarts == 4
    assert supervisor.kills == 0


def test_a_part_that_ran_for_long_is_started_again_soon(tmp_path: Path) -> None:
    world = World()
    supervisor = world.supervisor()
    supervisor.start(part("broker", tmp_path))
    for _ in range(3):
        world.started[-1].code = -11
        world.run(supervisor, 10)
    world.run(supervisor, 31)
    world.started[-1].code = -11
    world.run(supervisor, 0.1)
    assert "broker was killed by signal 11, starting it again in 0.5 s" in world.said[-1]


def test_a_kill_is_counted_not_reported_and_undone_in_time(tmp_path: Path) -> None:
    world = World()
    supervisor = world.supervisor()
    supervisor.start(part("broker", tmp_path))
    assert supervisor.kill("broker", 2.5)
    assert not supervisor.all_running()
    assert supervisor.process("broker") is None
    assert not supervisor.kill("broker", 2.5)
    world.run(supervisor, 2.4)
    assert len(world.started) == 1
    world.run(supervisor, 0.3)
    assert len(world.started) == 2
    assert supervisor.all_running()
    assert (supervisor.kills, supervisor.restarts, world.said) == (1, 0, [])


def test_usage_adds_up_over_restarts_and_memory_keeps_its_peak(tmp_path: Path) -> None:
    world = World()
    supervisor = world.supervisor()
    supervisor.start(part("ingest", tmp_path))
    world.started[0].now = Usage(3.0, 90_000_000)
    supervisor.tick()
    world.started[0].now = Usage(4.0, 70_000_000)
    supervisor.kill("ingest", 1.0)
    world.run(supervisor, 1.2)
    world.started[1].now = Usage(0.5, 60_000_000)
    assert supervisor.usage("ingest") == Usage(4.5, 90_000_000)


def test_parts_end_in_the_reverse_order_and_those_of_a_kind_together(tmp_path: Path) -> None:
    world = World()
    supervisor = world.supervisor()
    for name in ("broker", "ingest", "agent-a", "agent-b"):
        supervisor.start(part(name, tmp_path))
    world.events.clear()
    supervisor.stop()
    assert world.events == ["terminate agent-b", "terminate agent-a", "terminate ingest", "terminate broker"]
    world.run(supervisor, 20)
    assert len(world.started) == 4


def test_who_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    world = World()
    supervisor = world.supervisor()
    supervisor.start(part("agent-a", tmp_path))
    supervisor.start(part("agent-b", tmp_path))
    world.started[0].stubborn = world.started[1].stubborn = True
    supervisor.stop()
    assert [process.code for process in world.started] == [-9, -9]
    assert world.now_s == pytest.approx(103.0)  # one grace for both, not one after the other
    assert "agent-b did not end within 3 s and is killed" in world.said


def test_an_impatient_second_interrupt_leaves_nothing_running(tmp_path: Path) -> None:
    world = World()
    supervisor = world.supervisor()
    for name in ("broker", "ingest", "agent-a"):
        supervisor.start(part(name, tmp_path))
    world.started[2].stubborn = True

    def interrupted(timeout_s: float) -> bool:
        raise KeyboardInterrupt

    world.started[2].wait = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        supervisor.stop()
    assert all(process.code is not None for process in world.started)


def test_a_part_that_is_due_for_a_restart_stays_down_once_stopped(tmp_path: Path) -> None:
    world = World()
    supervisor = world.supervisor()
    supervisor.start(part("broker", tmp_path))
    supervisor.kill("broker", 1.0)
    supervisor.stop()
    world.run(supervisor, 5)
    assert len(world.started) == 1


def test_the_tail_of_a_log_is_short_and_whole(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    log.write_text("".join(f"line {number}\n" for number in range(100_000)))
    assert tail(log, lines=3) == "line 99997\nline 99998\nline 99999"
    assert tail(tmp_path / "none.log") == ""
