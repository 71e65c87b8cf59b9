"""Who passes to the store when all want to: shares by rows, over tokens and then over agents."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.backpressure import Backpressure, Busy
from ingest_service.fairness import FairGate, FairQueue


@dataclass
class Item:
    key: str
    rows: int
    number: int = 0


def test_equal_items_alternate() -> None:
    queue: FairQueue[Item] = FairQueue()
    for number in range(3):
        for key in ("a", "b"):
            queue.push(key, Item(key, 10, number))
    order = [queue.pop() for _ in range(6)]
    assert [(one.key, one.number) for one in order] == [
        ("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2),
    ]  # fmt: skip
    assert len(queue) == 0
    with pytest.raises(IndexError):
        queue.pop()


def test_a_newcomer_does_not_wait_behind_a_flood() -> None:
    queue: FairQueue[Item] = FairQueue()
    for number in range(1000):
        queue.push("flood", Item("flood", 5000, number))
    for _ in range(500):
        queue.pop()
    queue.push("small", Item("small", 10))
    assert "small" in {queue.pop().key for _ in range(2)}


def test_shares_are_of_rows_and_not_of_batches() -> None:
    queue: FairQueue[Item] = FairQueue()
    for number in range(1000):
        queue.push("large", Item("large", 1000, number))
        queue.push("small", Item("small", 100, number))
    rows: Counter[str] = Counter()
    for _ in range(440):
        item = queue.pop()
        rows[item.key] += item.rows
    assert rows["large"] == pytest.approx(rows["small"], rel=0.05)


@given(
    st.lists(
        st.one_of(st.none(), st.tuples(st.sampled_from("abcd"), st.integers(0, 50))), min_size=1, max_size=200
    )
)
def test_nothing_is_lost_and_each_key_keeps_its_order(steps: list[tuple[str, int] | None]) -> None:
    queue: FairQueue[Item] = FairQueue()
    pushed: dict[str, list[int]] = {}
    popped: dict[str, list[int]] = {}
    for number, step in enumerate(steps):
        if step is not None:
            queue.push(step[0], Item(step[0], step[1], number))
            pushed.setdefault(step[0], []).append(number)
        elif len(queue):
            item = queue.pop()
            popped.setdefault(item.key, []).append(item.number)
    while len(queue):
        item = queue.pop()
        popped.setdefault(item.key, []).append(item.number)
    assert popped == pushed


class Gate:
    """A gate whose passing batches leave when the test says so."""

    def __init__(self, open_rows: int) -> None:
        self.gate = FairGate(open_rows)
        self.passed: list[tuple[int, str]] = []
        self._leave: list[asyncio.Event] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def send(self, token: int, agent: str, rows: int = 10) -> asyncio.Task[None]:
        task = asyncio.create_task(self._pass(token, agent, rows))
        self._tasks.append(task)
        await settle()
        return task

    async def leave(self) -> None:
        """Let the batch that passed first of those inside leave."""
        self._leave.pop(0).set()
        await settle()

    async def empty(self) -> None:
        while self._leave:
            await self.leave()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass(self, token: int, agent: str, rows: int) -> None:
        async with self.gate.turn(token, agent, rows):
            self.passed.append((token, agent))
            self._leave.append(leave := asyncio.Event())
            await leave.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_everything_passes_at_once_where_there_is_room() -> None:
    gate = Gate(100)
    for number in range(10):
        await gate.send(1, f"agent-{number}")
    assert len(gate.passed) == 10
    assert gate.gate.waiting == 0
    await gate.empty()


async def test_a_flooding_token_does_not_hold_up_another() -> None:
    gate = Gate(10)
    for _ in range(50):
        await gate.send(1, "flood")
    await gate.send(2, "quiet")
    assert gate.passed == [(1, "flood")]
    await gate.leave()
    await gate.leave()
    assert (2, "quiet") in gate.passed
    assert gate.gate.waiting == 48
    await gate.empty()
    assert gate.gate.waiting == 0
    assert len(gate.passed) == 51


async def test_a_flooding_agent_does_not_hold_up_another_of_its_token() -> None:
    gate = Gate(10)
    for _ in range(20):
        await gate.send(1, "flood")
    await gate.send(1, "quiet")
    await gate.leave()
    await gate.leave()
    assert (1, "quiet") in gate.passed
    await gate.empty()


async def test_many_agents_of_one_token_get_one_tokens_share() -> None:
    gate = Gate(10)
    for number in range(40):
        await gate.send(1, f"agent-{number}")
    for _ in range(10):
        await gate.send(2, "alone")
    for _ in range(20):
        await gate.leave()
    assert sum(token == 2 for token, _ in gate.passed) >= 9
    await gate.empty()


async def test_a_batch_larger_than_the_gate_goes_alone() -> None:
    gate = Gate(10)
    await gate.send(1, "a", 5)
    await gate.send(2, "b", 50)
    await gate.send(3, "c", 1)
    assert gate.passed == [(1, "a")]
    await gate.leave()
    assert gate.passed == [(1, "a"), (2, "b")]
    await gate.leave()
    assert gate.passed == [(1, "a"), (2, "b"), (3, "c")]
    await gate.empty()


async def test_who_gives_up_waiting_takes_nothing_with_it() -> None:
    gate = Gate(10)
    await gate.send(1, "a")
    given_up = await gate.send(2, "b")
    await gate.send(3, "c")
    given_up.cancel()
    await settle()
    await gate.leave()
    assert gate.passed == [(1, "a"), (3, "c")]
    await gate.leave()
    await gate.send(4, "d")
    assert gate.passed[-1] == (4, "d")
    await gate.empty()


async def test_who_is_cancelled_in_the_moment_of_its_turn_leaves_again() -> None:
    gate = Gate(10)
    await gate.send(1, "a")
    chosen = await gate.send(2, "b")
    gate._leave.pop(0).set()
    await asyncio.sleep(0)
    chosen.cancel()
    await settle()
    await gate.send(3, "c")
    assert gate.passed[-1] == (3, "c")
    await gate.empty()


def test_greedy_tokens_leave_room_for_a_newcomer() -> None:
    pressure = Backpressure(1000, 1000)
    for _ in range(2000):
        for token in range(4):
            try:
                pressure.add(token, 1)
            except Busy:
                continue
    assert pressure.waiting_bytes == pytest.approx(800, abs=4)
    pressure.add(99, 150)
    assert pressure.waiting_bytes <= 1000
