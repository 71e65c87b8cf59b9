"""Gathers what stores, loss records, quarantine and heartbeats know of streams, and accounts for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import sqlalchemy as sa

from ingest_service.admission import OWN_STREAMS
from ingest_service.ledger import ALWAYS, Account, Edge, Facts, account
from ingest_service.plant import discards, quarantine, spans, stream_notes
from ingest_service.plant.discards import Discard
from ingest_service.plant.spans import Loss
from ingest_service.plant.store import PlantStore
from ingest_service.plant.stream_notes import StreamNote
from ingest_service.stores import Run, SampleStore, TimeSpan, below

MAX_STREAMS: Final = 1000
"""Streams that may be asked for by name."""


class Book(Protocol):
    """What is asked about agents."""

    def asset_ever(self, agent_id: str) -> str | None:
        """Return the asset that an agent serves or, retired, served; None for an unknown one."""
        ...

    def edges(self) -> dict[str, tuple[str, Edge]]:
        """Return stream -> (agent, what its newest heartbeat says) for the streams that heartbeats name."""
        ...

    def edge_of(self, agent_id: str) -> Edge | None:
        """Return what an agent's newest heartbeat says of a stream that it does not name."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """Which streams, and what span of time; nothing stands for everything."""

    streams: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    """Of agents: those that serve one of these or what lies below."""
    reach: str = ""
    """The asset path that the reader may see."""
    span: TimeSpan = ALWAYS

    def means(self, stream_id: str, agent_id: str, asset: str | None) -> bool:
        """Tell whether a stream is asked for."""
        if self.streams:
            if stream_id not in self.streams:
                return False
        elif stream_id.startswith(OWN_STREAMS):
            # What was re-admitted counts as stored where it came from.
            return False
        if self.agents and agent_id not in self.agents:
            return False
        if asset is None:
            return not self.reach and not self.assets
        return below(asset, self.reach) and (
            not self.assets or any(below(asset, path) for path in self.assets)
        )


@dataclass(frozen=True, slots=True)
class StreamAccount:
    """One stream's figures and what they rest on."""

    facts: Facts
    asset: str | None
    account: Account


async def accounts(
    question: Question, store: SampleStore, plant: PlantStore, book: Book, clock_ns: Callable[[], int]
) -> list[StreamAccount]:
    """Return the streams that are asked for, by id; raises StoreUnavailable."""
    named = list(question.streams) or None
    runs = _by_stream(await store.ledger(named, ALWAYS))
    within = runs if question.span == ALWAYS else _by_stream(await store.ledger(named, question.span))
    lost, thrown, notes = await plant.run(_records, plant.engine, named)
    known = _facts(runs, within, lost, thrown, notes, book)
    chosen = [
        (facts, asset)
        for facts in known
        if question.means(facts.stream_id, facts.agent_id, asset := book.asset_ever(facts.agent_id))
    ]
    return await plant.run(_account, plant.engine, chosen, question.span, clock_ns())


def _account(
    engine: sa.Engine, chosen: Iterable[tuple[Facts, str | None]], span: TimeSpan, now: int
) -> list[StreamAccount]:
    return [
        StreamAccount(
            facts, asset, account(facts, partial(quarantine.lying, engine, facts.stream_id), span, now)
        )
        for facts, asset in chosen
    ]


Records = tuple[list[tuple[str, str, Loss]], list[Discard], list[StreamNote]]


def _records(engine: sa.Engine, streams: Sequence[str] | None) -> Records:
    return (
        spans.of_streams(engine, streams),
        discards.of_streams(engine, streams),
        stream_notes.load(engine, streams),
    )


def _by_stream(runs: Iterable[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.stream_id, []).append(run)
    return found


def _facts(
    runs: dict[str, list[Run]],
    within: dict[str, list[Run]],
    lost: Iterable[tuple[str, str, Loss]],
    thrown: Iterable[Discard],
    notes: Iterable[StreamNote],
    book: Book,
) -> list[Facts]:
    edges = book.edges()
    # The store knows best whose a stream is; a loss record may come before its first batch.
    agents = {stream: agent for stream, (agent, _) in edges.items()}
    losses: dict[str, list[Loss]] = {}
    for stream, agent, loss in lost:
        losses.setdefault(stream, []).append(loss)
        if agent:
            agents[stream] = agent
    discarded: dict[str, list[Discard]] = {}
    for one in thrown:
        discarded.setdefault(one.stream_id, []).append(one)
        agents[one.stream_id] = one.agent_id
    noted = {note.stream_id: note for note in notes}
    agents |= {stream: note.agent_id for stream, note in noted.items()}
    agents |= {stream: of_stream[0].agent_id for stream, of_stream in runs.items()}
    found = []
    for stream in sorted({*agents, *losses}):
        agent = agents.get(stream, "")
        note = noted.get(stream, StreamNote(stream, agent, 0, 0, None))
        found.append(
            Facts(
                stream,
                agent,
                runs.get(stream, ()),
                within.get(stream, ()),
                losses.get(stream, ()),
                discarded.get(stream, ()),
                edges[stream][1] if stream in edges else book.edge_of(agent),
                note.vanished_through,
                note.vanished_at,
                note.repeated,
            )
        )
    return found
