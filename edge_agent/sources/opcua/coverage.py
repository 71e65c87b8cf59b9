"""What of a server's past is already in the buffer, and what still has to be read from its history.

All times are the server's. Of every series the source knows up to where it is complete; what lies between is a hole:

::

    …──────── complete ────────┤ hole ├──── complete ────┤ live mark          now
                                                         moves with every acknowledged message

The live mark is one per group and moves several times a second; holes and the list of members change rarely and are
written then. Every change is returned as the state to be put together with the samples that justify it, so that the
buffer's transaction makes both durable or neither. This module only keeps the books: no clock, no network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

_HOUR_NS: Final = 3_600 * 1_000_000_000
_MAX_HOLES: Final = 2_000

State = dict[str, bytes]


class Mark(NamedTuple):
    """A moment by both clocks, UTC ns."""

    server: int
    agent: int


@dataclass(slots=True, eq=False)
class Hole:
    """A span of server time that is not complete for some nodes."""

    number: int
    nodes: tuple[int, ...]
    """Numbers of the nodes in the configuration."""
    start: int
    end: int


class Span(NamedTuple):
    """A span that nobody can read again, and the nodes that it concerns."""

    nodes: tuple[int, ...]
    start: int
    end: int


class Change(NamedTuple):
    """State to put, and what was found lost for ever on the way."""

    state: State
    lost: tuple[Span, ...] = ()


def series_id(asset: str, signal: str) -> str:
    """Return the short name under which a series' coverage is kept."""
    return hashlib.blake2b(f"{asset}\0{signal}".encode(), digest_size=8).hexdigest()


class Coverage:
    """The books of one source.

    Args:
        source: its name; keys begin with it, because two sources may read one server.
        ids: the `series_id` of every node, by number.
        state: what was saved, by whatever source of this server: a renamed source goes on where it stood.
        overlap_ns: margin on both sides of a hole.
        batch: nodes that share a hole, at most.
    """

    def __init__(
        self, source: str, ids: Sequence[str], state: Mapping[str, bytes], *, overlap_ns: int, batch: int
    ) -> None:
        self._source = source
        self._ids = list(ids)
        self._overlap_ns = overlap_ns
        self._batch = batch
        self._groups: dict[int, str] = {}
        self._live: dict[str, Mark] = {}
        self._stopped: dict[int, Mark] = {}
        self._stale_keys: list[str] = []
        self._adopted: list[Hole] = []
        self.holes: dict[int, Hole] = {}
        self._next_number = 1
        self._load(state)

    def add(self, ids: Sequence[str]) -> None:
        """Keep the books of more nodes, behind those that there are; nothing was ever read of them."""
        self._ids.extend(ids)

    def covered_to(self, node: int) -> Mark | None:
        """Return up to where a node is complete (holes aside), None where it was never seen."""
        group = self._groups.get(node)
        return self._live[group] if group is not None else self._stopped.get(node)

    def join(
        self, group: str, nodes: Iterable[int], at: Mark, *, readable: Collection[int], backfill_ns: int
    ) -> Change:
        """Note that ``nodes`` are live from ``at`` on: what lies before becomes a hole, or is lost.

        Args:
            group: their group, whose live mark speaks for them from now on.
            nodes: numbers of nodes.
            at: not before the server began to watch the last of them.
            readable: those of them that have a history.
            backfill_ns: how far back to begin with a node that was never seen.
        """
        missed: dict[tuple[int, int], list[int]] = {}
        lost: dict[tuple[int, int], list[int]] = {}
        for node in nodes:
            mark = self.covered_to(node)
            span = (at.server - backfill_ns, at.server) if mark is None else self._missed(mark, at)
            if node in readable:
                missed.setdefault(span, []).append(node)
            elif mark is not None:
                lost.setdefault(span, []).append(node)
            self._stopped.pop(node, None)
            self._groups[node] = group
        state: State = {}
        for (start, end), members in missed.items():
            if start < end:
                state |= self.add_hole(members, start, end + self._overlap_ns)
        state |= self._mark(group, self._live.get(group, at))
        state |= self._nodes_state()
        for hole in self._adopted:
            state |= self._hole_state(hole)
        state |= dict.fromkeys(self._stale_keys, b"")
        self._adopted.clear()
        self._stale_keys.clear()
        return Change(state, tuple(Span(tuple(members), *span) for span, members in lost.items()))

    def resume(self, group: str, nodes: Iterable[int]) -> None:
        """Note that ``nodes`` are live as if nothing had interrupted them: the server goes on where it stood.

        What was saved still speaks for them; raises KeyError for a node that was never seen.
        """
        for node in nodes:
            mark = self._stopped.pop(node)
            self._live[group] = min(mark, self._live.get(group, mark))
            self._groups[node] = group

    def leave(self, nodes: Iterable[int]) -> State:
        """Note that nodes are no longer live: they are complete up to their group's mark and no further."""
        for node in nodes:
            mark = self.covered_to(node)
            if mark is not None:
                self._stopped[node] = mark
            self._groups.pop(node, None)
        return self._nodes_state()

    def advance(self, group: str, mark: Mark) -> State:
        """Note that everything that the server had for a group up to ``mark`` goes into the buffer with this.

        Before the first `join` of a group nothing is noted: the mark on disk still speaks for members of the last
        session, and nobody has read yet what they missed.
        """
        return self._mark(group, mark) if group in self._live else {}

    def interrupted(
        self, group: str, nodes: Sequence[int], until: int, *, readable: Collection[int]
    ) -> Change:
        """Note that the server dropped changes of ``nodes`` since the group's live mark (its queue overflowed)."""
        mark = self._live.get(group)
        if mark is None:
            return Change({})
        # A server whose clock was set back meanwhile says a time before the mark.
        start, end = min(mark.server, until), max(mark.server, until)
        kept = [node for node in nodes if node in readable]
        state = self.add_hole(kept, start - self._overlap_ns, end + self._overlap_ns)
        lost = tuple(node for node in nodes if node not in readable)
        return Change(state, (Span(lost, start, end),) if lost else ())

    def add_hole(self, nodes: Sequence[int], start: int, end: int) -> State:
        """Note a span to be read; touching spans of the same nodes become one."""
        state: State = {}
        for first in range(0, len(nodes), self._batch):
            members = tuple(nodes[first : first + self._batch])
            crowded = len(self.holes) >= _MAX_HOLES
            known = next(
                (
                    hole
                    for hole in self.holes.values()
                    if hole.nodes == members and (crowded or (hole.start <= end and start <= hole.end))
                ),
                None,
            )
            if known is None:
                known = Hole(self._next_number, members, start, end)
                self._next_number += 1
                self.holes[known.number] = known
            else:
                known.start, known.end = min(known.start, start), max(known.end, end)
            state |= self._hole_state(known)
        return state

    def progress(self, hole: Hole, start: int) -> State:
        """Note that a hole is filled up to ``start``; it is gone when that is its end."""
        hole.start = max(hole.start, start)
        if hole.start >= hole.end:
            return self.forget(hole)
        return self._hole_state(hole)

    def forget(self, hole: Hole) -> State:
        """Note that nothing of a hole will be read any more."""
        self.holes.pop(hole.number, None)
        hole.start = hole.end
        return {self._key(f"hole/{hole.number}"): b""}

    def narrow(self, hole: Hole, nodes: Collection[int]) -> State:
        """Take nodes out of a hole."""
        hole.nodes = tuple(node for node in hole.nodes if node not in nodes)
        return self._hole_state(hole) if hole.nodes else self.forget(hole)

    def _missed(self, mark: Mark, at: Mark) -> tuple[int, int]:
        """Return from when to when values may have been missed, by the server's clock.

        A server whose clock was set back meanwhile writes times that lie before the mark, and what it wrote until then
        lies behind its present time; the agent's clock tells how much time has really passed. Whichever is earlier, or
        later, counts, within reason: both clocks may be wrong.
        """
        passed = max(0, at.agent - mark.agent)
        start = min(mark.server, max(at.server - passed, mark.server - _HOUR_NS))
        return start - self._overlap_ns, max(at.server, mark.server + min(passed, _HOUR_NS))

    def _mark(self, group: str, mark: Mark) -> State:
        self._live[group] = mark
        return {self._key(f"live/{group}"): json.dumps(mark).encode()}

    def _key(self, name: str) -> str:
        return f"{self._source}/{name}"

    def _hole_state(self, hole: Hole) -> State:
        record = {"series": [self._ids[node] for node in hole.nodes], "from": hole.start, "to": hole.end}
        return {self._key(f"hole/{hole.number}"): json.dumps(record).encode()}

    def _nodes_state(self) -> State:
        groups: dict[str, list[str]] = {}
        for node, group in self._groups.items():
            groups.setdefault(group, []).append(self._ids[node])
        stopped = {self._ids[node]: mark for node, mark in self._stopped.items()}
        return {self._key("nodes"): json.dumps({"groups": groups, "stopped": stopped}).encode()}

    def _load(self, state: Mapping[str, bytes]) -> None:
        numbers = {name: node for node, name in enumerate(self._ids)}
        owners = sorted(key.removesuffix("/nodes") for key in state if key.endswith("/nodes"))
        # Our own word about a series counts before that of another source, whose name may once have been ours.
        owners.sort(key=lambda owner: owner != self._source)
        chosen: dict[int, tuple[str, Mark]] = {}
        for owner in owners:
            for name, mark in _marks(state, owner).items():
                node = numbers.get(name)
                if node is None:
                    continue
                before = chosen.get(node)
                if before is None or (before[0] != self._source and mark.server > before[1].server):
                    chosen[node] = (owner, mark)
        self._stopped = {node: mark for node, (_, mark) in chosen.items()}
        for owner in owners:
            self._load_holes(state, owner, numbers, {node for node, (by, _) in chosen.items() if by == owner})

    def _load_holes(
        self, state: Mapping[str, bytes], owner: str, numbers: Mapping[str, int], adopted: Collection[int]
    ) -> None:
        prefix = f"{owner}/hole/"
        for key in sorted(key for key in state if key.startswith(prefix)):
            record = _parsed(state[key])
            nodes = tuple(
                numbers[name]
                for name in record.get("series", ())
                if name in numbers and numbers[name] in adopted
            )
            own = owner == self._source
            number = int(key.removeprefix(prefix)) if own else self._next_number
            self._next_number = max(self._next_number, number + 1)
            if nodes:
                self.holes[number] = Hole(number, nodes, int(record["from"]), int(record["to"]))
                if not own:
                    self._adopted.append(self.holes[number])
            elif own:
                self._stale_keys.append(key)


def _marks(state: Mapping[str, bytes], owner: str) -> dict[str, Mark]:
    record = _parsed(state[f"{owner}/nodes"])
    marks = {name: Mark(*mark) for name, mark in record.get("stopped", {}).items()}
    for group, names in record.get("groups", {}).items():
        live = state.get(f"{owner}/live/{group}")
        if live is not None:
            mark = Mark(*json.loads(live))
            marks.update(dict.fromkeys(names, mark))
    return marks


def _parsed(raw: bytes) -> dict[str, Any]:
    record = json.loads(raw)
    return record if isinstance(record, dict) else {}
