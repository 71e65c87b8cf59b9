"""Fills holes from the server's history, oldest first, while live data flows beside it.

A hole shrinks with every page that became durable; a kill repeats one page. Values that the server keeps within the
overlap are read twice and stored once. What the server does not give now is set aside: it is tried again later, and
holds up nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain
from typing import Final, NamedTuple, Never

from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.coverage import Hole, Span, State
from edge_agent.sources.opcua.decode import Columns
from edge_agent.sources.opcua.history_pages import NO_HISTORY, Cursor, HistoryPages, HistoryRefused
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.nodes import NO_SAMPLES
from edge_agent.sources.opcua.session import status_name
from edge_agent.trouble import Trouble

_SECOND_NS: Final = 1_000_000_000
_MAX_BACKOFF_S: Final = 60.0
_MAX_PAGES: Final = 1_000
"""Requests of one hole before others have their turn."""
_WELL_S: Final = 60.0
"""So long nothing may be refused before that counts as over: what is set aside is tried again within this time."""
_EMPTY: Final = frozenset({StatusCodes.BadNoData, StatusCodes.BadBoundNotFound})
"""There is a history, but nothing in this span."""


class _Turn(NamedTuple):
    """When a hole that was not filled at once is tried again."""

    times: int
    """How often it was not; those with fewer come first."""
    due_s: float = 0.0
    delay_s: float = 0.0


_FIRST: Final = _Turn(0)


class Backfill:
    """The reader of history of one session.

    Args:
        live: the session.
        trouble: outlives it: what is refused in one session after the other is one trouble.
    """

    def __init__(self, live: Live, trouble: Trouble) -> None:
        self._live = live
        self._trouble = trouble
        history = live.config.history
        self._settle_ns = round(history.settle_s * _SECOND_NS)
        self._slice_ns = round(history.slice_h * 3_600 * _SECOND_NS)
        self._pages = HistoryPages(live)
        self._turns: dict[int, _Turn] = {}
        """By hole."""

    async def run(self) -> Never:
        """Fill holes for ever, one request at a time."""
        while True:
            hole, wait_s = self._choose()
            if hole is None:
                if not self._live.coverage.holes:
                    self._trouble.over(well_s=_WELL_S)
                await self._pause(wait_s)
                continue
            try:
                await self._read_slice(hole)
            except HistoryRefused as error:
                self._postpone(hole, str(error))
            if not self._turns:
                self._trouble.over(well_s=_WELL_S)

    def _choose(self) -> tuple[Hole | None, float | None]:
        """Return the hole whose turn it is; without one, how long to wait (None: until something happens).

        It is the one that begins first, of those with a node that works, among those that were refused least often.
        """
        holes, working = self._live.coverage.holes, self._live.nodes.ids
        self._turns = {number: turn for number, turn in self._turns.items() if number in holes}
        now_s = asyncio.get_running_loop().time()
        settled = self._live.session.server_now() - self._settle_ns
        chosen: tuple[int, int, Hole] | None = None
        soonest: float | None = None
        for hole in holes.values():
            if not any(node in working for node in hole.nodes):
                continue
            turn = self._turns.get(hole.number, _FIRST)
            wait_s = max(turn.due_s - now_s, _unsettled_s(hole, settled))
            if wait_s > 0:
                soonest = wait_s if soonest is None else min(soonest, wait_s)
            elif chosen is None or (turn.times, hole.start) < chosen[:2]:
                chosen = turn.times, hole.start, hole
        return (None, soonest) if chosen is None else (chosen[2], None)

    async def _pause(self, wait_s: float | None) -> None:
        if self._trouble.times:
            wait_s = _WELL_S if wait_s is None else min(wait_s, _WELL_S)
        self._live.history_wanted.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._live.history_wanted.wait()
        except TimeoutError:
            return

    async def _read_slice(self, hole: Hole) -> None:
        """Read up to `_MAX_PAGES` pages of a hole; raises HistoryRefused where all of it has to wait."""
        await self._sort_out(hole)
        if not hole.nodes:
            return
        settled = self._live.session.server_now() - self._settle_ns
        end = min(hole.end, settled, hole.start + self._slice_ns)
        cursors = self._pages.cursors(hole.nodes, hole.start)
        for _ in range(_MAX_PAGES):
            cursors = await self._read_page(hole, cursors, end)
            if not cursors:
                self._turns.pop(hole.number, None)
                return
        await self._pages.release(cursors)
        self._turns[hole.number] = _Turn(self._turns.get(hole.number, _FIRST).times + 1)

    async def _sort_out(self, hole: Hole) -> None:
        """Leave in the hole only nodes that can be read now; the others wait, or are lost."""
        live = self._live
        away = [node for node in hole.nodes if node not in live.nodes.ids]
        mute = [node for node in hole.nodes if node in live.nodes.ids and node not in live.nodes.readable]
        if mute:
            await self._give_up(hole, mute, "the server keeps no history of it")
        if away:
            start, end = hole.start, hole.end
            state = live.coverage.narrow(hole, away) | live.coverage.add_hole(away, start, end)
            await self._save(state)

    async def _read_page(self, hole: Hole, cursors: list[Cursor], end: int) -> list[Cursor]:
        """Read the next page of one group of cursors, put it, and return what is still to be read."""
        # A request has one start: cursors that go on by continuation point share it, others go one by one.
        first = cursors[0]
        together = [
            cursor
            for cursor in cursors
            if (cursor.start, cursor.page, cursor.continuation is None)
            == (first.start, first.page, first.continuation is None)
        ][: self._live.session.limits.history]
        chosen = set(map(id, together))
        rest = [cursor for cursor in cursors if id(cursor) not in chosen]
        columns = Columns()
        try:
            pages = await self._pages.request(together, end, columns)
        except HistoryRefused as refusal:
            if not refusal.nodes:
                raise
            rest = [cursor for cursor in cursors if cursor.node not in refusal.nodes]
            await self._set_aside(hole, refusal.nodes, str(refusal))
            await self._go_on(hole, rest, end)
            return rest
        if pages is None:
            return cursors
        refused: dict[int, list[Cursor]] = {}
        done: list[Cursor] = []
        for cursor, page in zip(together, pages, strict=True):
            if page.status >> 30 >= 2 and page.status & 0xFFFF_0000 not in _EMPTY:
                refused.setdefault(page.status & 0xFFFF_0000, []).append(cursor)
            else:
                (rest if cursor.moves(page, end) else done).append(cursor)
        block, _ = await self._live.samples(columns, self._live.clock())
        reached = min((cursor.reached for cursor in chain(rest, *refused.values())), default=end)
        block = self._live.nodes.worded(block)
        await self._live.sink.put(block, self._live.coverage.progress(hole, reached))
        self._live.sink.count("history_values", len(block))
        endless = [cursor for cursor in rest if cursor.endless]
        await self._pages.release([*done, *endless])
        if not refused and not endless:
            return rest
        rest = [cursor for cursor in rest if not cursor.endless]
        if StatusCodes.BadNoContinuationPoints in refused:
            await self._ask_for_fewer(rest)
        if endless:
            nodes = [cursor.node for cursor in endless]
            await self._set_aside(hole, nodes, "its history goes on without anything in it")
        for code, failed in refused.items():
            await self._refuse(hole, [cursor.node for cursor in failed], code)
        await self._go_on(hole, rest, end)
        return rest

    async def _ask_for_fewer(self, held: Sequence[Cursor]) -> None:
        """Ask for fewer nodes at once from now on, as the server keeps a place for each; not if it is one already."""
        limits = self._live.session.limits
        if limits.history > 1:
            await self._pages.release(held)
            limits.history //= 2
            raise HistoryRefused("the server is out of continuation points")

    async def _go_on(self, hole: Hole, rest: Sequence[Cursor], end: int) -> None:
        """Let a hole be as far as its other nodes are, after some were taken out of it."""
        if hole.number in self._live.coverage.holes:
            reached = min((cursor.reached for cursor in rest), default=end)
            await self._save(self._live.coverage.progress(hole, reached))

    async def _refuse(self, hole: Hole, nodes: list[int], code: int) -> None:
        """Deal with nodes whose history the server would not give."""
        if code in NO_HISTORY:
            await self._give_up(hole, nodes, f"the server does not give its history ({status_name(code)})")
        else:
            await self._set_aside(hole, nodes, status_name(code))

    async def _set_aside(self, hole: Hole, nodes: Sequence[int], reason: str) -> None:
        """Make a hole of its own for nodes whose turn comes again later.

        Raises:
            HistoryRefused: they are all that there are in the hole: it is what has to wait.
        """
        more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        reason = f"{self._live.nodes.configs[nodes[0]].label}{more}: {reason}"
        members, start, end = set(nodes), hole.start, hole.end
        if members == set(hole.nodes):
            raise HistoryRefused(reason)
        coverage = self._live.coverage
        await self._save(coverage.narrow(hole, nodes) | coverage.add_hole(nodes, start, end))
        for other in coverage.holes.values():
            if other is not hole and members.issuperset(other.nodes) and other.start <= start <= other.end:
                self._postpone(other, reason)

    def _postpone(self, hole: Hole, reason: str) -> None:
        """Try a hole again later, each time after twice as long."""
        self._live.sink.count("history_refused")
        self._trouble.met(f"{reason}; trying again")
        before = self._turns.get(hole.number, _FIRST)
        delay_s = min(2 * before.delay_s or self._live.config.retry_s, _MAX_BACKOFF_S)
        due_s = asyncio.get_running_loop().time() + delay_s
        self._turns[hole.number] = _Turn(before.times + 1, due_s, delay_s)

    async def _give_up(self, hole: Hole, nodes: list[int], reason: str) -> None:
        self._live.nodes.readable.difference_update(nodes)
        await self._live.record_lost([Span(tuple(nodes), hole.start, hole.end)], reason)
        await self._save(self._live.coverage.narrow(hole, nodes))

    async def _save(self, state: State) -> None:
        await self._live.sink.put(NO_SAMPLES, state)


def _unsettled_s(hole: Hole, settled: int) -> float:
    """Return in how many seconds a part of a hole can be expected in the history, not above 0 for now."""
    if hole.end <= settled or settled - hole.start >= _SECOND_NS:
        return 0.0
    return (hole.end - settled) / 1e9
