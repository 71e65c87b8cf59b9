"""One run of the demo from its first process to its last."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from simulators.demo.agents import Agents
from simulators.demo.broker import parse_address, reserve_session
from simulators.demo.gaps import GapCount
from simulators.demo.kills import Kill
from simulators.demo.live import LiveRecorder
from simulators.demo.parts import (
    INGEST,
    SIMULATORS,
    agent_part,
    broker_part,
    ensure_tokens,
    ingest_part,
    simulators_part,
)
from simulators.demo.plan import Plan, mqtt_client, mqtt_filters
from simulators.demo.service import Service
from simulators.demo.supervisor import TICK_S, StartFailed, Supervisor

_START_TIMEOUT_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.25


class Session:
    """All parts of one plan. Use `start`, then `run` as often as you like, then `stop`."""

    def __init__(self, plan: Plan, broker: str, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.supervisor = Supervisor(say)
        self.service = Service(plan.url)
        self.agents = Agents(plan)
        self.gaps = GapCount(plan)
        self.live = LiveRecorder(plan.url)
        self.seconds_to_first_machine: float | None = None
        self.seconds_to_ready = 0.0
        self.ready_ns = 0
        """When everything was ready, UTC ns."""
        self._broker = broker
        self._say = say

    def start(self, began_s: float, *, record: bool) -> None:
        """Start all parts and return when every machine is on the page.

        The agents' sessions at the broker come before the machines: it keeps what a meter says only for those who
        have asked.

        Args:
            began_s: when the demo began, by `time.monotonic`.
            record: whether to subscribe to the live stream.

        Raises:
            BrokerUnavailable, TokenFailed: see there.
            StartFailed: a part ended, or something was not ready in time.
        """
        plan, supervisor = self.plan, self.supervisor
        broker = broker_part(plan, self._broker)
        if broker is not None:
            supervisor.start(broker)
            supervisor.wait_ready([broker.name], _START_TIMEOUT_S)
        self._reserve_sessions()
        supervisor.start(simulators_part(plan))
        ensure_tokens(plan)
        supervisor.start(ingest_part(plan, self.service))
        for site in plan.sites:
            supervisor.start(agent_part(plan, site, self.agents))
        supervisor.wait_ready([INGEST], _START_TIMEOUT_S)
        if record:
            self.live.start()
        supervisor.wait_ready([*(site.agent for site in plan.sites), SIMULATORS], _START_TIMEOUT_S)
        self._wait(
            lambda: self._every_machine_is_seen(began_s), _START_TIMEOUT_S, "not every machine is on the page"
        )
        self.ready_ns = time.time_ns()
        self.seconds_to_ready = time.monotonic() - began_s

    def run(
        self, duration_s: float, kills: Sequence[Kill] = (), look: Callable[[float], None] | None = None
    ) -> None:
        """Keep the parts running for a while, and kill what the schedule says.

        Args:
            duration_s: seconds from now.
            kills: in order of time, counted from now.
            look: called several times a second with the seconds so far; it must not take long.
        """
        began_s = time.monotonic()
        waiting = list(kills)
        while (now_s := time.monotonic() - began_s) < duration_s:
            self.supervisor.tick()
            for kill in [kill for kill in waiting if kill.at_s <= now_s]:
                # A part that is down at this moment is killed as soon as it is back.
                if self.supervisor.process(kill.part) is not None:
                    self.gaps.before_kill(kill.part)
                if self.supervisor.kill(kill.part, kill.down_s):
                    self._say(f"killed {kill.part}; it starts again in {kill.down_s:.1f} s")
                    waiting.remove(kill)
            if look is not None:
                look(now_s)
            time.sleep(TICK_S)

    def stop_machines(self, timeout_s: float) -> bool:
        """Let the machines stop and hand over all they said; False where they did not confirm it in time."""
        deadline_s = time.monotonic() + timeout_s
        signalled = None
        while time.monotonic() < deadline_s:
            self.supervisor.tick()
            process = self.supervisor.process(SIMULATORS)
            if process is not None and process is not signalled:
                process.send(signal.SIGUSR2)
                signalled = process
            if self.plan.stopped_file.exists():
                return True
            time.sleep(TICK_S)
        return False

    def stop(self) -> None:
        """End everything: agents, machines, service, broker. Nothing is left running."""
        try:
            self.supervisor.stop(self._stop_order())
        finally:
            self.supervisor.stop()
            self.live.stop()
            self.service.close()
            self.agents.close()
            self.gaps.close()

    def _stop_order(self) -> list[str]:
        names = self.supervisor.names()
        agents = [site.agent for site in self.plan.sites]
        return [name for name in (*agents, SIMULATORS, INGEST) if name in names]

    def _reserve_sessions(self) -> None:
        if not self.plan.first_start:
            return  # the broker has kept them
        host, port = parse_address(self.plan.broker_url)
        for site in self.plan.scenario.sites:
            filters = mqtt_filters(self.plan, site)
            if filters:
                reserve_session(host, port, mqtt_client(site), filters)

    def _every_machine_is_seen(self, began_s: float) -> bool:
        seen = self.service.machines_in_contact()
        if seen and self.seconds_to_first_machine is None:
            self.seconds_to_first_machine = time.monotonic() - began_s
        return seen >= sum(site.machines for site in self.plan.sites) and self.agents.all_collecting()

    def _wait(self, condition: Callable[[], bool], timeout_s: float, complaint: str) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline_s:
                raise StartFailed(
                    f"{complaint} after {timeout_s:g} s{self._troubles()}; logs: {self.plan.folder}/logs"
                )
            self.supervisor.tick()
            time.sleep(_LOOK_EVERY_S)

    def _troubles(self) -> str:
        found = []
        for site in self.plan.sites:
            health = self.agents.health(site)
            if health is None:
                found.append(f"{site.agent} does not answer")
            else:
                found += [
                    f"{site.agent}: {source.name} is {source.state} {source.message}".rstrip()
                    for source in health.sources
                    if source.state != "running"
                ]
        return f" ({'; '.join(found)})" if found else ""
