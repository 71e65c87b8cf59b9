"""The buffer against a model: whatever the order of appends, refusals, deliveries, restarts, crashes and damaged pages,
each sample is numbered once, delivered under that number, and never forgotten."""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_agent.buffer import Parcel, bounds, merging
from edge_agent.buffer.sqlite import FILE_NAME, BufferLimits, SqliteBuffer
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Lane
from tests.contract.buffer_contract import samples

PAGE = 4_096
LIMITS = BufferLimits(disk_reserve_bytes=0, repeat_window_samples=1_000)


class BufferMachine(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        # Maintenance with every third append: rows are merged while their neighbours are on their way.
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(bounds, "_MAINTENANCE_APPENDS", 3)
        self.patches.setattr(merging, "_FEWEST", 2)
        self.root = Path(tempfile.mkdtemp(prefix="buffer-machine-"))
        self.folder = self.root / "0"
        self.lives = 0
        self.buffer = SqliteBuffer(self.folder, LIMITS, "agent")
        self.handed_over: set[tuple[int, int]] = set()
        """(series, time) of what append() returned for."""
        self.received: dict[tuple[str, int], tuple[int, int]] = {}
        """What the service got: (stream, seq) to (series, time)."""
        self.acknowledged: dict[str, int] = {}

    @rule(
        series=st.integers(0, 3),
        times=st.lists(st.integers(0, 60), min_size=0, max_size=6),
        state=st.booleans(),
    )
    def append(self, series: int, times: list[int], state: bool) -> None:
        parcel = Parcel(samples(times, series), "s", {"last": b"%d" % len(self.handed_over)} if state else {})
        self.buffer.append([parcel])
        self.handed_over |= {(series, time) for time in times}

    @rule(lane=st.sampled_from(Lane), limit=st.integers(1, 7), keep=st.integers(0, 7))
    def deliver(self, lane: Lane, limit: int, keep: int) -> None:
        """Send a batch; the acknowledgement covers all of it, a part of it, or is lost."""
        batch = self.buffer.peek(limit, lane)
        if batch is None:
            return
        self._receive(batch)
        through = min(batch.last_seq, batch.first_seq + keep - 1)
        if keep:
            self.buffer.commit(batch.stream_id, through)

    def _receive(self, batch) -> None:  # type: ignore[no-untyped-def]
        assert len(batch.block)
        for number, sample in enumerate(batch.block.rows()):
            what = (int(sample.series.asset[-1]), sample.source_time)
            place = (batch.stream_id, batch.first_seq + number)
            assert self.received.setdefault(place, what) == what, "one number, two samples"

    @rule()
    def begin_stream(self) -> None:
        self.buffer.begin_stream()

    @rule()
    def restart(self) -> None:
        self.buffer.close()
        self.buffer = SqliteBuffer(self.folder, LIMITS, "agent")

    @rule()
    def crash(self) -> None:
        """What a SIGKILL leaves: the files as they are, nothing written on the way out."""
        self.lives += 1
        copy = self.root / str(self.lives)
        shutil.copytree(self.folder, copy)
        self.buffer._holding.file._db.close()
        self.folder = copy
        self.buffer = SqliteBuffer(self.folder, LIMITS, "agent")

    @rule(place=st.floats(0, 1, exclude_max=True), running=st.booleans())
    def damage_a_page(self, place: float, running: bool) -> None:
        """Overwrite any page: of rows that wait or were delivered, of streams, of state, the first one."""
        if not running:
            self.crash()
        path = self.folder / FILE_NAME
        self.buffer._holding.file.close()
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        page = int(place * path.stat().st_size) // PAGE
        with path.open("r+b") as file:
            file.seek(page * PAGE)
            file.write(b"\xa5" * PAGE)
        if running:
            # What it does when SQLite meets the page.
            self.buffer._holding._repair("damaged")
            self.buffer._holding.new_stream()
        else:
            self.buffer = SqliteBuffer(self.folder, LIMITS, "agent")

    @rule(series=st.integers(0, 3), times=st.lists(st.integers(0, 60), min_size=1, max_size=6))
    def be_refused(self, series: int, times: list[int]) -> None:
        """A full disk takes nothing, and nothing of it is called a repeat later."""
        database = self.buffer._holding.file._db
        database.execute("PRAGMA query_only = 1")
        with pytest.raises(StoreUnavailable):
            self.buffer.append([Parcel(samples(times, series), "s", {"last": b"never"})])
        database.execute("PRAGMA query_only = 0")

    @invariant()
    def figures_add_up(self) -> None:
        if hasattr(self, "buffer"):
            stats = self.buffer.stats()
            assert stats.pending_samples >= stats.live_samples >= 0
            assert stats.used_bytes >= 0

    def teardown(self) -> None:
        if not hasattr(self, "buffer"):
            return
        self.patches.undo()
        for lane in (Lane.BACKLOG, Lane.LIVE):
            while (batch := self.buffer.peek(5, lane)) is not None:
                self._receive(batch)
                self.buffer.commit(batch.stream_id, batch.last_seq)
        assert self.buffer.stats().pending_samples == 0
        delivered = list(self.received.values())
        assert sorted(delivered) == sorted(self.handed_over), "each sample under exactly one number"
        by_stream: dict[str, list[int]] = {}
        for stream, seq in self.received:
            by_stream.setdefault(stream, []).append(seq)
        for numbers in by_stream.values():
            assert sorted(numbers) == list(range(1, len(numbers) + 1)), "no hole in a stream"
        self.buffer.close()
        shutil.rmtree(self.root)


TestBuffer = BufferMachine.TestCase
TestBuffer.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
