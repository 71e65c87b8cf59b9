"""Whose batch is next: a gate in front of the store's writer that no agent can fill up for the others.

Start-time fair queuing (Goyal, Vin and Cheng, SIGCOMM 1996), in rows and in two levels: all tokens share alike, and the
agents of one token share alike what it gets. As long as less is on its way to the store than it takes into two
commits, everything passes at once; so fairness costs nothing where it is not needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Generic, Protocol, TypeVar

OPEN_ROWS: Final = 400_000
"""Two full commits of the embedded store: one is being written while the next one gathers."""
_REMEMBERED_KEYS: Final = 10_000


class _Sized(Protocol):
    @property
    def rows(self) -> int: ...


Item = TypeVar("Item", bound=_Sized)


class FairQueue(Generic[Item]):
    """Items by key: who has had the least is next. Keys are forgotten once they have nothing waiting."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Item]] = {}
        self._starts: list[tuple[int, int, str]] = []
        """A heap of (virtual start, tie, key), one entry for each key that waits."""
        self._finished: dict[str, int] = {}
        self._now = 0
        self._tie = 0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def push(self, key: str, item: Item) -> None:
        """Let an item wait; those of one key keep their order."""
        queue = self._waiting.get(key)
        if queue is not None:
            queue.append(item)
            return
        self._waiting[key] = deque((item,))
        self._enter(key)

    def first(self) -> Item:
        """Return who is next, still waiting; IndexError where nobody waits."""
        return self._waiting[self._starts[0][2]][0]

    def pop(self) -> Item:
        """Return who is next and charge its rows to its key; IndexError where nobody waits."""
        start, _, key = heapq.heappop(self._starts)
        queue = self._waiting[key]
        rows = queue[0].rows
        item = queue.popleft()
        self._now = start
        if len(self._finished) > _REMEMBERED_KEYS:
            # Whoever finished in the past begins with the others anyway.
            self._finished = {one: end for one, end in self._finished.items() if end > start}
        # An item without rows costs a turn all the same.
        self._finished[key] = start + max(1, rows)
        if queue:
            self._enter(key)
        else:
            del self._waiting[key]
            if not self._waiting:
                # Nobody is owed anything.
                self._finished.clear()
        return item

    def _enter(self, key: str) -> None:
        start = max(self._now, self._finished.get(key, 0))
        self._tie += 1
        heapq.heappush(self._starts, (start, self._tie, key))


class _Turn:
    """One batch that waits for its turn."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.come: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Share:
    """What waits for one token: its agents share alike."""

    def __init__(self, token_id: int, agents: FairQueue[_Turn]) -> None:
        self.token_id = token_id
        self.agents = agents

    @property
    def rows(self) -> int:
        """Rows of the batch that passes next."""
        return self.agents.first().rows


class FairGate:
    """Lets batches pass to the store, fairly, at most ``open_rows`` at once. Belongs to the event loop."""

    def __init__(self, open_rows: int = OPEN_ROWS) -> None:
        self._open_rows = open_rows
        self._passing_rows = 0
        self._tokens: FairQueue[_Share] = FairQueue()
        self._agents: dict[int, FairQueue[_Turn]] = {}

    @property
    def waiting(self) -> int:
        """Batches that wait for their turn."""
        return sum(map(len, self._agents.values()))

    @contextlib.asynccontextmanager
    async def turn(self, token_id: int, agent_id: str, rows: int) -> AsyncIterator[None]:
        """Wait for a turn; the rows count as on their way until the block is left."""
        await self._enter(token_id, agent_id, rows)
        try:
            yield
        finally:
            self._leave(rows)

    async def _enter(self, token_id: int, agent_id: str, rows: int) -> None:
        if not self._agents and self._fits(rows):
            self._passing_rows += rows
            return
        turn = _Turn(rows)
        agents = self._agents.setdefault(token_id, FairQueue())
        agents.push(agent_id, turn)
        # A token waits once for each of its batches, so that its turns and those of its agents are as many.
        self._tokens.push(str(token_id), _Share(token_id, agents))
        try:
            await turn.come
        except asyncio.CancelledError:
            if turn.come.done() and not turn.come.cancelled():
                self._leave(rows)
            raise

    def _leave(self, rows: int) -> None:
        self._passing_rows -= rows
        while self._agents and self._fits(self._tokens.first().rows):
            share = self._tokens.pop()
            turn = share.agents.pop()
            if not len(share.agents):
                del self._agents[share.token_id]
            if not turn.come.done():
                self._passing_rows += turn.rows
                turn.come.set_result(None)

    def _fits(self, rows: int) -> bool:
        # A batch larger than everything that may pass goes alone.
        return self._passing_rows == 0 or self._passing_rows + rows <= self._open_rows
