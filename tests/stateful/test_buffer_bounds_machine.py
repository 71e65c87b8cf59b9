"""A buffer that is too small for what comes: whatever its policy, and whatever happens in between, each number that
was given out is received or recorded as lost, and each sample that was taken has one."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_agent.buffer import Parcel, WhenFull, bounds, merging, shape
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch, Lane
from tests.contract.buffer_contract import samples

_MAX_BYTES = 3_000


class BoundedBufferMachine(RuleBasedStateMachine):
    @initialize(
        policy=st.sampled_from(WhenFull),
        row_samples=st.sampled_from([2, 20_000]),
        appends=st.sampled_from([3, 256]),
    )
    def open(self, policy: WhenFull, row_samples: int, appends: int) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="buffer-machine-"))
        self.folder = self.root / "0"
        self.lives = 0
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(shape, "ROW_SAMPLES", row_samples)
        self.patches.setattr(merging, "ROW_SAMPLES", 30)
        self.patches.setattr(merging, "_FEWEST", 2)
        self.patches.setattr(bounds, "_MAINTENANCE_APPENDS", appends)
        self.free = 10**9
        self.policy = policy
        self.limits = BufferLimits(_MAX_BYTES, 10**6, policy, 1_000, floor_bytes=500)
        self.buffer = self.opened()
        self.next_time = 0
        self.taken: set[int] = set()
        self.received: dict[tuple[str, int], int] = {}
        self.lost: set[tuple[str, int]] = set()

    def opened(self) -> SqliteBuffer:
        return SqliteBuffer(self.folder, self.limits, "agent", free_bytes=lambda _: self.free)

    @rule(counts=st.lists(st.integers(1, 9), min_size=1, max_size=4), series=st.integers(0, 3))
    def append(self, counts: list[int], series: int) -> None:
        parcels, times = [], set()
        for count in counts:
            mine = list(range(self.next_time, self.next_time + count))
            self.next_time += count
            times |= set(mine)
            parcels.append(Parcel(samples(mine, series)))
        try:
            self.buffer.append(parcels)
        except StoreUnavailable as error:
            if self.policy is not WhenFull.BLOCK or error.retry_after_s is None:
                raise
            return
        self.taken |= times

    @rule(lane=st.sampled_from(Lane), limit=st.integers(1, 12), settled=st.integers(0, 12))
    def deliver(self, lane: Lane, limit: int, settled: int) -> None:
        batch = self.buffer.peek(limit, lane)
        if batch is None:
            return
        self.receive(batch)
        if settled:
            self.buffer.commit(batch.stream_id, min(batch.last_seq, batch.first_seq + settled - 1))

    def receive(self, batch: Batch) -> None:
        for number, time in enumerate(batch.block.source_time.tolist()):
            place = (batch.stream_id, batch.first_seq + number)
            assert self.received.setdefault(place, time) == time, "one number, two samples"

    @rule(limit=st.integers(1, 5), settled=st.booleans())
    def deliver_spans(self, limit: int, settled: bool) -> None:
        spans = self.buffer.spans(limit)
        for span in spans:
            assert span.count == span.last_seq - span.first_seq + 1
            self.lost |= {(span.stream_id, seq) for seq in range(span.first_seq, span.last_seq + 1)}
        if settled:
            self.buffer.commit_spans([span.record_id for span in spans])

    @rule(free=st.sampled_from([0, 10**9]))
    def others_use_the_disk(self, free: int) -> None:
        self.free = free
        self.buffer._bounds.room._checked_s = 0.0

    @rule()
    def begin_stream(self) -> None:
        self.buffer.begin_stream()

    @rule()
    def restart(self) -> None:
        self.buffer.close()
        self.buffer = self.opened()

    @rule()
    def crash(self) -> None:
        """What a SIGKILL leaves: the files as they are, nothing written on the way out."""
        self.lives += 1
        copy = self.root / str(self.lives)
        shutil.copytree(self.folder, copy)
        self.buffer._holding.file._db.close()
        self.folder = copy
        self.buffer = self.opened()

    @invariant()
    def it_keeps_within_its_bounds(self) -> None:
        if hasattr(self, "buffer"):
            stats = self.buffer.stats()
            assert 0 <= stats.pending_bytes <= stats.used_bytes
            assert stats.pending_samples >= stats.live_samples >= 0
            # What is on its way is never dropped, and one transaction may come on top.
            assert stats.used_bytes <= _MAX_BYTES + 4_000
            assert self.policy is not WhenFull.BLOCK or stats.dropped_samples_total == 0

    def teardown(self) -> None:
        if not hasattr(self, "buffer"):
            return
        self.patches.undo()
        for lane in (Lane.BACKLOG, Lane.LIVE):
            while (batch := self.buffer.peek(50, lane)) is not None:
                self.receive(batch)
                self.buffer.commit(batch.stream_id, batch.last_seq)
        self.deliver_spans(10_000, settled=True)
        assert self.buffer.stats().pending_samples == self.buffer.stats().pending_bytes == 0
        times = list(self.received.values())
        assert len(times) == len(set(times)), "one sample under two numbers"
        assert set(times) <= self.taken
        numbers = set(self.received) | self.lost
        assert len(numbers) == len(self.taken), "every sample is received or recorded as lost"
        for stream in {stream for stream, _ in numbers}:
            seqs = sorted(seq for name, seq in numbers if name == stream)
            assert seqs == list(range(1, len(seqs) + 1)), "no hole without a record"
        self.buffer.close()
        shutil.rmtree(self.root)


TestBoundedBuffer = BoundedBufferMachine.TestCase
TestBoundedBuffer.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
