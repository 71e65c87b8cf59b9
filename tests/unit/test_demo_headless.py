"""When the demo's proof is taken: not before all has come, not later than it must."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest

from shopfloor.asset import parse_asset
from shopfloor.block import Int64, SampleBlock, make_block
from shopfloor.signal import SeriesKey
from simulators.demo.agents import Agents, Progress
from simulators.demo.gaps import GapCount
from simulators.demo.headless import DRAIN_TIMEOUT_S, Accounts, settle
from simulators.demo.plan import Plan, make_plan, port_names
from simulators.demo.service import ServiceTrouble
from simulators.scenario import THREE_PLANTS, load_scenario

KEY = SeriesKey(parse_asset("acme/hk01/moulding/cell-a/imm-01"), "cycle.time")
EMITTED = make_block((KEY,), np.zeros(10), 1_000_000 * np.arange(10), 0, np.arange(10))


class World:
    """A clock, and a store whose content and agents whose state follow from the time."""

    def __init__(
        self,
        stored: Callable[[float], SampleBlock],
        taken: Callable[[float], int] = lambda _: 10,
        pending: Callable[[float], int] = lambda _: 0,
    ) -> None:
        self.now_s = 50.0
        self.reads = 0
        self.said: list[str] = []
        self._stored, self._taken, self._pending = stored, taken, pending

    def everything(self, assets: Sequence[str], emitted_ns: Int64, since_ns: int) -> SampleBlock:
        assert (assets, len(emitted_ns), since_ns) == (["acme/hk01"], 10, 0)
        self.reads += 1
        return self._stored(self.now_s - 50.0)

    def progress(self) -> Progress:
        passed_s = self.now_s - 50.0
        taken, pending = self._taken(passed_s), self._pending(passed_s)
        return Progress(pending == 0, pending, taken, ((taken, pending),))

    def settle(self) -> Accounts:
        def sleep(seconds: float) -> None:
            self.now_s += seconds

        return settle(
            self,
            EMITTED,
            (),
            ["acme/hk01"],
            0,
            self.progress,
            self.said.append,
            clock=lambda: self.now_s,
            sleep=sleep,
        )


def test_rest_is_believed_after_a_while_and_the_last_move_is_the_drain_s_end() -> None:
    world = World(lambda _: EMITTED, taken=lambda passed_s: min(int(passed_s), 3))
    accounts = world.settle()
    assert accounts.comparison.clean
    assert accounts.drained
    assert accounts.drain_s == pytest.approx(3.0, abs=0.51)
    assert world.now_s - 50.0 == pytest.approx(8.0, abs=1.1)
    assert world.reads == 1


def test_what_waits_at_the_edge_is_waited_for() -> None:
    world = World(lambda _: EMITTED, pending=lambda passed_s: 0 if passed_s > 30 else 7)
    accounts = world.settle()
    assert accounts.drained
    assert accounts.drain_s == pytest.approx(30.0, abs=0.51)


def test_missing_values_are_waited_for_though_all_is_at_rest() -> None:
    world = World(lambda passed_s: EMITTED if passed_s > 20 else EMITTED.take(np.arange(8)))
    accounts = world.settle()
    assert accounts.comparison.clean
    assert world.said[0] == "2 values are not stored yet"
    assert 20 < world.now_s - 50.0 < 30


def test_missing_values_end_the_wait_at_its_bound() -> None:
    world = World(lambda _: EMITTED.take(np.arange(8)))
    accounts = world.settle()
    assert accounts.comparison.missing == 2
    assert world.now_s - 50.0 == pytest.approx(DRAIN_TIMEOUT_S, abs=1.0)


def test_a_value_too_many_is_not_waited_for() -> None:
    world = World(lambda _: EMITTED.take(np.array([*range(10), 3])))
    accounts = world.settle()
    assert (accounts.comparison.missing, accounts.comparison.duplicated) == (0, 1)
    assert world.reads == 1


def test_agents_that_never_rest_are_reported() -> None:
    world = World(lambda _: EMITTED, pending=lambda _: 1)
    accounts = world.settle()
    assert not accounts.drained
    assert accounts.comparison.clean


def test_a_service_that_is_back_late_is_asked_again_and_one_that_stays_away_is_trouble() -> None:
    def stored(passed_s: float) -> SampleBlock:
        if passed_s < back_after_s:
            raise ServiceTrouble("can't read the samples")
        return EMITTED

    back_after_s = 12.0
    assert World(stored).settle().comparison.clean
    back_after_s = 1_000.0
    with pytest.raises(ServiceTrouble):
        World(stored).settle()


def plan_in(folder: Path) -> Plan:
    ports = {name: 20_000 + at for at, name in enumerate(port_names(load_scenario(THREE_PLANTS)))}
    return make_plan(folder, THREE_PLANTS, ports, "mqtt://127.0.0.1:1883")


def health(*, state: str = "running", pending: int = 0, connected: bool = True) -> dict[str, object]:
    return {
        "status": "ok",
        "sources": [{"name": "machines", "protocol": "opcua", "state": state, "message": "", "since": 1}],
        "buffer": {
            "pending_samples": pending,
            "waiting_spans": 0,
            "appended_samples_total": 100,
            "delivered_samples_total": 100 - pending,
            "repeats_total": 3,
            "dropped_samples_total": 0,
            "quarantined_samples_total": 0,
        },
        "uplink": {"connected": connected},
    }


@pytest.mark.parametrize(
    ("ill", "at_rest", "collecting", "pending"),
    [
        (health(), True, True, 0),
        (health(pending=4), False, True, 4),
        (health(state="unavailable"), False, False, 0),
        (health(connected=False), False, True, 0),
        (None, False, False, 0),
    ],
    ids=["well", "pending", "source down", "service away", "silent"],
)
def test_all_agents_have_to_be_at_rest(
    tmp_path: Path, ill: dict[str, object] | None, *, at_rest: bool, collecting: bool, pending: int
) -> None:
    plan = plan_in(tmp_path)
    odd_port = plan.ports[plan.sites[1].agent]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.port != odd_port:
            return httpx.Response(200, json=health())
        return httpx.Response(500) if ill is None else httpx.Response(200, json=ill)

    agents = Agents(plan, transport=httpx.MockTransport(answer))
    progress = agents.progress()
    assert (progress.at_rest, agents.all_collecting(), progress.pending) == (at_rest, collecting, pending)
    assert progress.same_as(agents.progress())
    assert not progress.same_as(None)


def test_gaps_are_counted_over_kills(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    counts = {plan.ports[site.agent]: 0 for site in plan.sites}
    counts[plan.ports["page"]] = 0
    agent = plan.sites[0].agent

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/metrics"
        port = request.url.port
        assert port is not None
        if port == plan.ports["page"]:
            return httpx.Response(
                200, text=f"# TYPE x counter\nshopfloor_ingest_gaps_total {counts[port]}.0\n"
            )
        text = (
            'shopfloor_source_events_total{source="machines",what="history_values"} 900.0\n'
            f'shopfloor_source_events_total{{source="machines",what="gap"}} {counts[port]}.0\n'
            'shopfloor_source_events_total{source="meters",what="gap"} 1.0\n'
        )
        return httpx.Response(200, text=text)

    gaps = GapCount(plan, transport=httpx.MockTransport(answer))
    assert gaps.total() == 3
    counts[plan.ports[agent]] = 4
    gaps.before_kill(agent)
    gaps.before_kill("broker")
    counts[plan.ports[agent]] = 0
    counts[plan.ports["page"]] = 2
    assert gaps.total() == 5 + 3 + 2
