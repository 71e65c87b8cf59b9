"""Whatever an edge, a store and an operator do in whatever order: the ledger adds up, and says of every number what is true."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ingest_service.admission import Admission
from ingest_service.agents import AgentBook
from ingest_service.auth import Identity, Role
from ingest_service.bookkeeping import Question, accounts
from ingest_service.ledger import ALWAYS, Account
from ingest_service.metrics import Metrics
from ingest_service.plant import stream_notes
from ingest_service.plant.quarantine_pages import Filter
from ingest_service.plant.store import PlantStore
from ingest_service.readmission import Readmission
from ingest_service.stores import Admitted, TimeSpan
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_schema import Tuning
from shopfloor.asset import parse_asset
from shopfloor.block import make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import (
    Batch,
    BufferReport,
    Heartbeat,
    Lane,
    PendingStream,
    SpanKind,
    SpanRecord,
    new_id,
)
from shopfloor.signal import SeriesKey
from tests.plant_database import empty_plant

INSIDE = SeriesKey(parse_asset("acme/hk01/a/b/c"), "x")
OUTSIDE = SeriesKey(parse_asset("acme/dg01"), "x")
STREAMS = ("one", "two")
FAULTS = st.sampled_from(["", "answer", "store"])
AGENT = Identity(1, Role.AGENT, "acme/hk01", "gateway")
OPERATOR = Identity(2, Role.OPERATOR, "", "anna")


def is_bad(seq: int) -> bool:
    return seq % 5 < 2


@dataclass
class Edge:
    """One stream as its agent knows it, and what is true of each of its numbers."""

    next_seq: int = 1
    waiting: list[int] = field(default_factory=list)
    in_flight: int = 0
    """What went out and was not answered is neither dropped nor forgotten."""
    reported: int = 0
    """What the service was told is waiting, at the highest."""
    fates: dict[int, str] = field(default_factory=dict)

    def loose(self) -> list[int]:
        return [seq for seq in self.waiting if seq > self.in_flight]

    def give_up(self, n: int, fate: str) -> tuple[int, int] | None:
        """Take up to ``n`` numbers off the front, consecutive ones, if nothing before them is in flight."""
        if not self.loose() or len(self.loose()) != len(self.waiting):
            return None
        first = self.waiting[0]
        gone = [seq for place, seq in enumerate(self.waiting[:n]) if seq == first + place]
        self.waiting = self.waiting[len(gone) :]
        self.fates.update(dict.fromkeys(gone, fate))
        return gone[0], gone[-1]


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        empty_plant(Path(self.folder.name, "plant.sqlite"))
        self.loop = asyncio.new_event_loop()
        self.edges = {stream: Edge() for stream in STREAMS}
        self.spans: list[SpanRecord] = []
        self.cuts: list[int] = []
        self.now = 1_760_000_000_000_000_000
        self.open()

    # The service

    def open(self) -> None:
        path = Path(self.folder.name)
        self.plant = PlantStore(path / "plant.sqlite")
        self.store = DuckDBStore(path / "samples.duckdb", Tuning(memory_bytes=128 * 2**20, threads=1))
        self.book = AgentBook(self.plant.load_agents(), time.time_ns)
        self.admission = Admission(
            self.store,
            self.plant,
            self,
            Metrics(),
            series_limit=100,
            series_known=lambda series: (self.store.index.unknown(series), len(self.store.index)),
            quarantine_limit=10_000,
            clock_ns=lambda: self.now,
        )
        self.readmission = Readmission(self.store, self.plant, self.admission, time.time_ns)

    def asset_of(self, agent_id: str) -> str | None:
        return self.book.asset_of(agent_id)

    def has_reported(self, agent_id: str) -> bool:
        return self.book.has_reported(agent_id)

    def stream_agent(self, stream_id: str) -> str | None:
        return self.store.stream_agent(stream_id)

    def close(self) -> None:
        self.plant.save_agents(self.book.changed_rows())
        self.loop.run_until_complete(self.store.close())
        self.plant.close()

    def ledger(self, span: TimeSpan = ALWAYS) -> dict[str, Account]:
        found = accounts(Question(span=span), self.store, self.plant, self.book, time.time_ns)
        return {one.facts.stream_id: one.account for one in self.loop.run_until_complete(found)}

    # What an agent does

    @initialize()
    def begin(self) -> None:
        self.report()
        for stream in STREAMS:
            self.hand_over(stream, 20)

    @rule(stream=st.sampled_from(STREAMS), n=st.integers(1, 12))
    def hand_over(self, stream: str, n: int) -> None:
        edge = self.edges[stream]
        edge.waiting += range(edge.next_seq, edge.next_seq + n)
        edge.next_seq += n

    @rule(
        stream=st.sampled_from(STREAMS),
        n=st.integers(1, 12),
        fault=FAULTS,
    )
    def deliver(self, stream: str, n: int, fault: str) -> None:
        edge = self.edges[stream]
        if not edge.waiting or (len(edge.loose()) == len(edge.waiting) and self.explains(stream)):
            return  # loss records travel before the batches whose holes they explain
        first = edge.waiting[0]
        seqs = [seq for place, seq in enumerate(edge.waiting[:n]) if seq == first + place]
        write = self.store.write
        if fault == "store":

            async def fail(admitted: list[Admitted]) -> list[StoreUnavailable]:
                return [StoreUnavailable("disk full") for _ in admitted]

            self.store.write = fail  # type: ignore[method-assign, assignment]
        try:
            self.loop.run_until_complete(self.admission.admit(self.batch(stream, seqs), AGENT))
        except StoreUnavailable:
            assert fault == "store"
            edge.in_flight = max(edge.in_flight, seqs[-1])
            return
        finally:
            self.store.write = write  # type: ignore[method-assign]
        for seq in seqs:
            edge.fates.setdefault(seq, "bad" if is_bad(seq) else "stored")
        if fault == "answer":
            edge.in_flight = max(edge.in_flight, seqs[-1])
        else:
            edge.waiting = edge.waiting[len(seqs) :]

    @rule(stream=st.sampled_from(STREAMS), n=st.integers(1, 12), fault=FAULTS)
    def go_on(self, stream: str, n: int, fault: str) -> None:
        """What happens nearly all the time, so that it is tried often enough."""
        self.hand_over(stream, n)
        self.send_spans()
        self.deliver(stream, n, fault)

    def explains(self, stream: str) -> bool:
        return any(span.stream_id == stream for span in self.spans)

    def batch(self, stream: str, seqs: list[int]) -> Batch:
        bad = np.array([is_bad(seq) for seq in seqs], np.uint32)
        at = self.now + STREAMS.index(stream) + np.array(seqs) * 1000
        return Batch("gateway", stream, Lane.LIVE, seqs[0], make_block((INSIDE, OUTSIDE), bad, at, at, seqs))

    @rule(stream=st.sampled_from(STREAMS), n=st.integers(1, 6), aside=st.booleans())
    def give_up(self, stream: str, n: int, aside: bool) -> None:
        """The buffer is full, or the service refused a batch."""
        gone = self.edges[stream].give_up(n, "aside" if aside else "dropped")
        if gone is not None:
            self.spans.append(
                SpanRecord(
                    record_id=new_id(),
                    stream_id=stream,
                    first_seq=gone[0],
                    last_seq=gone[1],
                    kind=SpanKind.QUARANTINED if aside else SpanKind.DROPPED,
                    reason="why",
                    from_time=0,
                    to_time=0,
                    count=gone[1] - gone[0] + 1,
                )
            )

    @rule(stream=st.sampled_from(STREAMS), n=st.integers(1, 3))
    def lose(self, stream: str, n: int) -> None:
        """A fault that nobody notices; something behind it is left, or was reported: else it could not be known at all."""
        edge = self.edges[stream]
        if edge.waiting and (len(edge.waiting) > n or edge.waiting[-1] <= edge.reported):
            edge.give_up(n, "missing")

    @rule()
    def send_spans(self) -> None:
        self.plant.put_spans("gateway", self.spans)
        self.spans = []

    @rule()
    def report(self) -> None:
        pending = tuple(
            PendingStream(stream, edge.waiting[0], edge.next_seq - 1)
            for stream, edge in self.edges.items()
            if edge.waiting
        )
        buffer = BufferReport(
            streams=len(pending),
            pending_samples=0,
            oldest_pending_time=None,
            used_bytes=0,
            limit_bytes=1,
            hours_left=None,
            pending=pending,
            waiting_spans=len(self.spans),
        )
        heartbeat = Heartbeat(
            agent_id="gateway",
            asset="acme/hk01",
            version="1",
            wire_version=1,
            config_hash="",
            started=0,
            sent=0,
            buffer=buffer,
        )
        for edge in self.edges.values():
            edge.reported = edge.next_seq - 1 if edge.waiting else edge.reported
        self.book.take_heartbeat(heartbeat, time.time_ns())
        vanished, _ = self.book.take_vanished("gateway")
        marks = {stream: self.loop.run_until_complete(self.store.watermark(stream)) for stream in vanished}
        lost = {one: last for one, last in vanished.items() if last > marks[one].received_through}
        stream_notes.put_vanished(self.plant.engine, "gateway", lost, time.time_ns())

    # What happens to the service

    @rule()
    def restart(self) -> None:
        self.close()
        self.open()

    @rule(what=st.sampled_from(["readmit", "purge"]), seq=st.sampled_from([None, None, 1, 5, 6]))
    def decide(self, what: str, seq: int | None) -> None:
        for stream, edge in self.edges.items():
            chosen = Filter(stream=stream, seq=seq)
            expected = [one for one, fate in edge.fates.items() if fate == "bad" and seq in {None, one}]
            if what == "readmit":
                done = self.loop.run_until_complete(self.readmission.readmit(chosen, OPERATOR)).readmitted
            else:
                done = self.loop.run_until_complete(self.readmission.purge(chosen, OPERATOR))
            # What lies there of a batch that failed is left alone.
            assert done == len(expected)
            edge.fates.update(dict.fromkeys(expected, "readmitted" if what == "readmit" else "purged"))

    @precondition(lambda self: len(self.cuts) < 3)
    @rule()
    def cut(self) -> None:
        self.cuts.append(time.time_ns())

    # What must hold

    @invariant()
    def it_adds_up(self) -> None:
        whole = self.ledger()
        for one in whole.values():
            settled = one.stored + one.quarantined + one.dropped.total() + one.pending + one.missing
            assert one.handed_over == settled
            assert one.missing == sum(gap.last_seq - gap.first_seq + 1 for gap in one.gaps)

    @rule()
    def every_number_is_where_it_is(self) -> None:
        self.send_spans()
        self.report()
        whole = self.ledger()
        for stream, edge in self.edges.items():
            found = whole.get(stream, Account())
            fates = list(edge.fates.values())
            assert found.handed_over == edge.next_seq - 1
            assert found.stored == fates.count("stored") + fates.count("readmitted")
            assert found.readmitted == fates.count("readmitted")
            assert found.quarantined == fates.count("bad") + fates.count("aside")
            assert found.dropped.total() == fates.count("dropped") + fates.count("purged")
            assert found.missing == fates.count("missing")
            assert found.pending == edge.next_seq - 1 - len(fates)
        self.spans_of_time_add_up(whole)

    def spans_of_time_add_up(self, whole: dict[str, Account]) -> None:
        edges = [ALWAYS.from_ns, *self.cuts, ALWAYS.to_ns]
        parts: dict[str, Account] = {}
        for begin, end in itertools.pairwise(edges):
            for stream, one in self.ledger(TimeSpan(begin, end)).items():
                parts.setdefault(stream, Account()).add(one)
        for stream, one in whole.items():
            part = parts[stream]
            for name in ("handed_over", "stored", "readmitted", "quarantined", "pending", "missing"):
                assert getattr(part, name) == getattr(one, name), name
            assert part.dropped == one.dropped

    def teardown(self) -> None:
        self.every_number_is_where_it_is()
        self.close()
        self.loop.close()
        self.folder.cleanup()


LedgerMachine.TestCase.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
TestLedgerMachine = LedgerMachine.TestCase
