"""What every Source does; a subclass says how its peer is started, spoken through and stopped.

Behind the source stand the agent's own sink, intake and buffer, so that "nothing lost, nothing twice" is judged by
what would leave for the service, and a kill is a buffer that is opened again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from shopfloor.asset import parse_asset
from shopfloor.errors import SourceUnavailable, StoreUnavailable
from shopfloor.messages import SourceState
from shopfloor.signal import SeriesKey
from tests.contract.source_agent import Agent
from tests.contract.source_peer import Peer, Said, Traces, expect_no_more, somebody_else
from tests.links import Link

_BOUND_S = 20.0
"""Much longer than any timeout that the sources under test are configured with."""


def expect_once(agent: Agent, said: Sequence[Said]) -> None:
    """Check that every number was delivered once, under its own series and time, and nothing else was."""
    delivered = Counter(Said(row.series, row.source_time, row.value) for row in agent.numbers)
    assert delivered == Counter(said)
    assert agent.moved == 0
    assert agent.gaps == []


def missing(agent: Agent, said: Sequence[Said]) -> list[Said]:
    """Return what was not delivered yet."""
    return sorted(set(said) - {Said(row.series, row.source_time, row.value) for row in agent.numbers})


async def delivered(agent: Agent, said: Sequence[Said], task: asyncio.Task[Any] | None = None) -> None:
    """Wait until the agent has delivered all of it."""
    await agent.until(lambda: not missing(agent, said), lambda: f"delivered: {missing(agent, said)}", task)


class SourceContract:
    """Subclass it and give it a fixture ``peer``; pytest collects the subclass."""

    @pytest.fixture
    def agent(self, tmp_path: Path) -> Agent:
        return Agent(tmp_path / "agent")

    def test_it_says_what_it_is_before_it_runs(self, peer: Peer) -> None:
        source = peer.source()
        assert source.name
        assert source.protocol in {"opcua", "mqtt", "sparkplug"}
        declared = {
            SeriesKey(parse_asset(each.asset), each.signal): each.unit for each in source.declarations()
        }
        assert declared == peer.units
        assert all(declared.values()), "a unit that is not configured can't be forgotten"
        assert {key.asset for key in peer.units} == set(source.assets)

    async def test_what_machines_say_arrives_as_they_said_it(self, peer: Peer, agent: Agent) -> None:
        source = peer.source()
        before = time.time_ns()
        async with agent.alive(source), agent.running(source) as task:
            said = await peer.say(range(1, 41))
            await delivered(agent, said, task)
        expect_once(agent, said)
        assert all(before <= row.received_time <= time.time_ns() for row in agent.numbers)
        assert {(row.status, row.text) for row in agent.numbers} == {(0, None)}
        assert [state for state, _ in agent.reports][:2] == [SourceState.CONNECTING, SourceState.RUNNING]
        assert {state for state, _ in agent.reports} == {SourceState.CONNECTING, SourceState.RUNNING}

    @pytest.mark.parametrize("who", ["nobody", "a_silent_one", "one_who_hangs_up", "a_web_server"])
    async def test_without_its_peer_it_is_unavailable_soon(self, peer: Peer, agent: Agent, who: str) -> None:
        async with somebody_else(who) as port:
            source = peer.source(port, patient=False)
            async with agent.alive(source):
                before = Traces.now(port)
                with pytest.raises(SourceUnavailable, match=str(port)):
                    async with asyncio.timeout(_BOUND_S):
                        await source.run(agent)
                expect_no_more(before, port)
        assert {state for state, _ in agent.reports} == {SourceState.CONNECTING}
        assert agent.delivered == []

    async def test_cancelled_at_any_moment_it_leaves_nothing_behind(self, peer: Peer, agent: Agent) -> None:
        source = peer.source()
        async with agent.alive(source):
            before = Traces.now(peer.port)
            for moment in (*range(12), 0.005, 0.02, 0.05, 0.1):
                task = asyncio.create_task(source.run(agent))
                await _pass(moment)
                task.cancel()
                ended, _ = await asyncio.wait([task], timeout=_BOUND_S)
                assert ended, f"cancelled after {moment!r} it goes on"
                # A broker may have turned it away before: it is still tidying up after the last connection.
                assert task.cancelled() or isinstance(task.exception(), SourceUnavailable)
                expect_no_more(before, peer.port, f"by one cancelled after {moment!r}")
            async with agent.running(source) as task:
                assert Traces.now(peer.port).sockets != before.sockets
                said = await peer.say(range(1, 5))
                await delivered(agent, said, task)
            expect_no_more(before, peer.port)
            async with agent.running(source):
                # Not before: a message that comes again would be held before the source is said to run.
                agent.hold_before = True
                said += await peer.say(range(5, 9))
                await agent.until(lambda: agent.waiting > 0, lambda: "a put waits")
            expect_no_more(before, peer.port)
            assert agent.waiting == 0
            agent.hold_before = False
            async with agent.running(source) as task:
                await delivered(agent, said, task)
        expect_once(agent, said)

    async def test_killed_while_a_put_waits_it_has_acknowledged_nothing(
        self, peer: Peer, agent: Agent
    ) -> None:
        source = peer.source()
        async with agent.alive(source), agent.running(source):
            agent.hold_before = True
            said = await peer.say(range(1, 31))
            await agent.until(lambda: agent.waiting > 0, lambda: "a put waits")
        assert agent.numbers == []
        agent.hold_before = False
        source = peer.source()
        async with agent.alive(source), agent.running(source) as task:
            said += await peer.say(range(31, 41))
            await delivered(agent, said, task)
        expect_once(agent, said)

    async def test_what_is_handed_over_twice_is_stored_once(self, peer: Peer, agent: Agent) -> None:
        """Killed between the commit and the acknowledgement."""
        source = peer.source()
        async with agent.alive(source), agent.running(source):
            agent.hold_after = True
            said = await peer.say(range(1, 31))
            await agent.until(lambda: bool(agent.numbers), lambda: "something is durable")
        assert agent.numbers
        agent.hold_after = False
        source = peer.source()
        async with agent.alive(source), agent.running(source) as task:
            said += await peer.say(range(31, 41))
            await delivered(agent, said, task)
            await agent.until(lambda: agent.repeats > 0, lambda: "something came twice", task)
        expect_once(agent, said)

    async def test_it_remembers_only_what_the_sink_remembers(
        self, peer: Peer, agent: Agent, tmp_path: Path
    ) -> None:
        """The same object with another agent's sink owes to that one what the first never had acknowledged."""
        source = peer.source()
        async with agent.alive(source), agent.running(source):
            agent.hold_after = True
            said = await peer.say(range(1, 11))
            await agent.until(lambda: agent.waiting > 0, lambda: "a put waits")
        other = Agent(tmp_path / "other")
        async with other.alive(source), other.running(source) as task:
            said += await peer.say(range(11, 21))
            await delivered(other, said, task)
        expect_once(other, said)

    @pytest.mark.parametrize("fresh", [False, True], ids=["same_life", "next_life"])
    async def test_a_store_that_refuses_ends_it_and_loses_nothing(
        self, peer: Peer, agent: Agent, fresh: bool
    ) -> None:
        source = peer.source()
        async with AsyncExitStack() as life:
            await life.enter_async_context(agent.alive(source))
            async with agent.running(source) as task:
                said = await peer.say(range(1, 11))
                await delivered(agent, said, task)
                agent.refusing = True
                said += await peer.say(range(11, 31))
                with pytest.raises(StoreUnavailable, match="disk"):
                    await asyncio.wait_for(task, _BOUND_S)
            # As long as the disk is full, coming back changes nothing.
            with pytest.raises(StoreUnavailable, match="disk"):
                await asyncio.wait_for(source.run(agent), _BOUND_S)
            agent.refusing = False
            if fresh:
                await life.aclose()
                source = peer.source()
                await life.enter_async_context(agent.alive(source))
            async with agent.running(source) as task:
                said += await peer.say(range(31, 41))
                await delivered(agent, said, task)
        expect_once(agent, said)

    async def test_a_restart_of_its_peer_ends_it_and_loses_nothing(self, peer: Peer, agent: Agent) -> None:
        source = peer.source()
        async with agent.alive(source):
            async with agent.running(source) as task:
                said = await peer.say(range(1, 31))
                await peer.stop()
                with pytest.raises(SourceUnavailable):
                    await asyncio.wait_for(task, _BOUND_S)
            with pytest.raises(SourceUnavailable):
                await asyncio.wait_for(source.run(agent), _BOUND_S)
            await peer.start()
            said += await peer.say(range(31, 61))
            async with agent.running(source) as task:
                said += await peer.say(range(61, 71))
                await delivered(agent, said, task)
        expect_once(agent, said)

    @pytest.mark.parametrize("how", ["cut", "silent"])
    async def test_a_broken_network_ends_it_and_loses_nothing(
        self, peer: Peer, agent: Agent, how: str
    ) -> None:
        link = Link(peer.port)
        await link.start()
        source = peer.source(link.port)
        try:
            async with agent.alive(source):
                async with agent.running(source) as task:
                    said = await peer.say(range(1, 11))
                    await delivered(agent, said, task)
                    if how == "cut":
                        link.reset()
                    else:
                        link.swallow()
                    said += await peer.say(range(11, 31))
                    with pytest.raises(SourceUnavailable):
                        await asyncio.wait_for(task, _BOUND_S)
                link.cut()
                link.heal()
                async with agent.running(source) as task:
                    said += await peer.say(range(31, 41))
                    await delivered(agent, said, task)
        finally:
            await link.stop()
        expect_once(agent, said)

    async def test_killed_again_and_again_while_machines_go_on_it_loses_nothing(
        self, peer: Peer, agent: Agent
    ) -> None:
        source = peer.source()
        async with agent.alive(source), agent.running(source):
            pass  # What was said before anybody ever listened is not promised.
        said: list[Said] = []
        for life, puts in enumerate((1, 2, 4)):
            said += await peer.say(range(30 * life + 1, 30 * life + 11))  # nobody listens
            source = peer.source()
            async with agent.alive(source), agent.running(source) as task:
                target = agent.puts + puts
                said += await peer.say(range(30 * life + 11, 30 * life + 31))
                # Few puts may take everything.
                await agent.until(
                    lambda: agent.puts >= target or not missing(agent, said),  # noqa: B023  used at once
                    lambda: f"{puts} puts",  # noqa: B023  used at once
                    task,
                )
        source = peer.source()
        async with agent.alive(source), agent.running(source) as task:
            await delivered(agent, said, task)
        expect_once(agent, said)

    async def test_nonsense_costs_nothing_else(self, peer: Peer, agent: Agent) -> None:
        source = peer.source()
        async with agent.alive(source), agent.running(source) as task:
            said = await peer.say(range(1, 6))
            await peer.say_nonsense()
            said += await peer.say(range(6, 11))
            await delivered(agent, said, task)
            await agent.until(lambda: bool(agent.counts), lambda: "it is counted", task)
        expect_once(agent, said)
        assert {state for state, _ in agent.reports} == {SourceState.CONNECTING, SourceState.RUNNING}


async def _pass(moment: float) -> None:
    """Let ``moment`` turns of the event loop pass, or seconds if it is a fraction."""
    if isinstance(moment, int):
        for _ in range(moment):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(moment)
