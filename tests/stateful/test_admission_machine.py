"""Any sequence of batches, repeats, overlaps, gaps, refusals and restarts, against a model that is a dictionary."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ingest_service.admission import Admission
from ingest_service.auth import Identity, Role
from ingest_service.metrics import Metrics
from ingest_service.plant.store import PlantStore
from ingest_service.stores import Selector, TimeSpan
from ingest_service.stores.duckdb import DuckDBStore
from ingest_service.stores.duckdb_schema import Tuning
from shopfloor.asset import parse_asset
from shopfloor.block import make_block
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey
from tests.plant_database import empty_plant

T0 = 1_760_000_000_000_000_000
INSIDE = SeriesKey(parse_asset("acme/hk01/a/b/c"), "x")
OUTSIDE = SeriesKey(parse_asset("acme/dg01"), "x")
STREAMS = ("one", "two")


def is_bad(seq: int) -> bool:
    """Whether the sample of this number lies outside of the token's reach: the same in every repeat."""
    return seq % 7 == 3


def batch_of(stream: str, first_seq: int, n: int) -> Batch:
    seq = np.arange(first_seq, first_seq + n)
    bad = (seq % 7 == 3).astype(np.uint32)
    block = make_block((INSIDE, OUTSIDE), bad, T0 + STREAMS.index(stream) + seq * 1000, T0, seq)
    return Batch("gateway", stream, Lane.LIVE, first_seq, block)


class AdmissionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        empty_plant(Path(self.folder.name, "plant.sqlite"))
        self.loop = asyncio.new_event_loop()
        self.marks = dict.fromkeys(STREAMS, 0)
        self.kept: dict[str, set[int]] = {stream: set() for stream in STREAMS}
        self.quarantined: dict[str, set[int]] = {stream: set() for stream in STREAMS}
        self.open()

    def open(self) -> None:
        path = Path(self.folder.name)
        self.plant = PlantStore(path / "plant.sqlite")
        self.store = DuckDBStore(path / "samples.duckdb", Tuning(memory_bytes=128 * 2**20, threads=1))
        self.admission = Admission(
            self.store,
            self.plant,
            self,
            Metrics(),
            series_limit=100,
            series_known=lambda series: (self.store.index.unknown(series), len(self.store.index)),
            quarantine_limit=10_000,
            clock_ns=lambda: T0,
        )

    def asset_of(self, agent_id: str) -> str | None:
        return "acme/hk01" if agent_id == "gateway" else None

    def has_reported(self, agent_id: str) -> bool:
        return agent_id == "gateway"

    def stream_agent(self, stream_id: str) -> str | None:
        return self.store.stream_agent(stream_id)

    def close(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.plant.close()

    @rule(stream=st.sampled_from(STREAMS), back=st.integers(-4, 15), n=st.integers(0, 20))
    def send(self, stream: str, back: int, n: int) -> None:
        """Begin ``back`` numbers before the end (negative: leave a gap)."""
        first_seq = max(1, self.marks[stream] + 1 - back)
        self.expect(stream, first_seq, n, self.loop.run_until_complete(self.admit(stream, first_seq, n)))

    @rule(stream=st.sampled_from(STREAMS), n=st.integers(1, 20), times=st.integers(2, 5))
    def send_at_the_same_time(self, stream: str, n: int, times: int) -> None:
        first_seq = self.marks[stream] + 1

        async def together() -> list[int]:
            return await asyncio.gather(*(self.admit(stream, first_seq, n) for _ in range(times)))

        for through in self.loop.run_until_complete(together()):
            self.expect(stream, first_seq, n, through)

    @rule()
    def restart(self) -> None:
        self.close()
        self.open()

    async def admit(self, stream: str, first_seq: int, n: int) -> int:
        identity = Identity(1, Role.AGENT, "acme/hk01", "")
        receipt = await self.admission.admit(batch_of(stream, first_seq, n), identity)
        assert receipt.received_through == receipt.durable_through
        return receipt.durable_through

    def expect(self, stream: str, first_seq: int, n: int, through: int) -> None:
        new = range(max(first_seq, self.marks[stream] + 1), first_seq + n)
        for seq in new:
            (self.quarantined if is_bad(seq) else self.kept)[stream].add(seq)
        self.marks[stream] = max(self.marks[stream], first_seq + n - 1) if n else self.marks[stream]
        assert through == self.marks[stream]

    @invariant()
    def every_sample_is_stored_or_quarantined_exactly_once(self) -> None:
        span = TimeSpan(-(2**63), 2**63 - 1)
        raw = self.loop.run_until_complete(self.store.read(Selector(), span, 1_000_000))
        found = sorted(
            (STREAMS[time % 1000], int(value))
            for time, value in zip(
                (raw.block.source_time - T0).tolist(), raw.block.value.tolist(), strict=True
            )
        )
        assert found == sorted((stream, seq) for stream in STREAMS for seq in self.kept[stream])
        rows = sorted((row["stream_id"], row["seq"]) for row in self.plant.list_quarantine(10_000))
        assert rows == sorted((stream, seq) for stream in STREAMS for seq in self.quarantined[stream])

    @invariant()
    def the_ledger_adds_up(self) -> None:
        for stream in STREAMS:
            runs = self.loop.run_until_complete(self.store.runs(stream))
            assert sum(run.stored for run in runs) == len(self.kept[stream])
            assert sum(run.rejected for run in runs) == len(self.quarantined[stream])
            covered = [seq for run in runs for seq in range(run.first_seq, run.last_seq + 1)]
            assert covered == sorted(self.kept[stream] | self.quarantined[stream])

    def teardown(self) -> None:
        self.close()
        self.loop.close()
        self.folder.cleanup()


AdmissionMachine.TestCase.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
TestAdmissionMachine = AdmissionMachine.TestCase
