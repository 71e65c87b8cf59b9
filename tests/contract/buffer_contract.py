"""What every Buffer does; an implementation subclasses BufferContract and says how one is opened."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import numpy as np
import pytest

from edge_agent.buffer import Buffer, Parcel, WhenFull
from shopfloor import wire
from shopfloor.asset import AssetPath
from shopfloor.block import (
    STATUS_CLOCK_AHEAD,
    STATUS_NOT_CONVERTIBLE,
    Quality,
    Sample,
    SampleBlock,
    block_of,
    make_block,
)
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Lane, SpanKind
from shopfloor.signal import SeriesKey

SERIES = [SeriesKey(AssetPath(f"acme/hk01/a/l/c{number}"), "s.a") for number in range(4)]


def samples(times: list[int], series: int = 0, value: float | None = None) -> SampleBlock:
    return block_of(
        Sample(SERIES[series], time, time + 5, float(time) if value is None else value, 0, 0)
        for time in times
    )


def texts(rows: dict[int, str]) -> SampleBlock:
    return block_of(Sample(SERIES[0], time, time + 5, np.nan, 0, 0, text) for time, text in rows.items())


def times_of(buffer: Buffer, lane: Lane = Lane.LIVE) -> list[int]:
    """Deliver everything of a lane and return its source times."""
    found: list[int] = []
    while (batch := buffer.peek(3, lane)) is not None:
        found += batch.block.source_time.tolist()
        buffer.commit(batch.stream_id, batch.last_seq)
    return found


class BufferContract:
    """Subclass it; pytest collects the subclass."""

    @abstractmethod
    def open(
        self,
        folder: Path,
        *,
        max_bytes: int = 2**30,
        when_full: WhenFull = WhenFull.DROP_OLDEST,
        window: int = 1000,
    ) -> Buffer: ...

    @pytest.fixture
    def buffer(self, tmp_path: Path) -> Buffer:
        self.folder = tmp_path
        return self.open(tmp_path)

    def test_samples_are_numbered_one_after_another_and_come_out_in_order(self, buffer: Buffer) -> None:
        assert buffer.append([Parcel(samples([1, 2, 3])), Parcel(samples([4]))]).seq == 4
        assert buffer.append([Parcel(samples([5]))]).seq == 5
        batch = buffer.peek(10)
        assert batch is not None
        assert (batch.first_seq, batch.last_seq, batch.lane) == (1, 5, Lane.LIVE)
        assert batch.block.source_time.tolist() == [1, 2, 3, 4, 5]
        buffer.close()

    def test_peek_changes_nothing_and_commit_is_idempotent(self, buffer: Buffer) -> None:
        buffer.append([Parcel(samples([1, 2, 3]))])
        first, again = buffer.peek(2), buffer.peek(2)
        assert first is not None
        assert again is not None
        assert first.block.source_time.tolist() == again.block.source_time.tolist() == [1, 2]
        for _ in range(2):
            buffer.commit(first.stream_id, 2)
        buffer.commit(first.stream_id, 1)
        buffer.commit("unknown", 99)
        assert buffer.stats().pending == ((first.stream_id, 3, 3),)
        rest = buffer.peek(10)
        assert rest is not None
        assert (rest.first_seq, rest.block.source_time.tolist()) == (3, [3])
        buffer.commit(rest.stream_id, 3)
        assert buffer.peek(10) is None
        assert buffer.stats().pending_samples == 0
        assert buffer.stats().delivered_samples_total == 3
        buffer.close()

    def test_everything_survives_closing(self, buffer: Buffer) -> None:
        buffer.append(
            [Parcel(samples([1, 2, 3])), Parcel(texts({10: "a"}), "scope", {"k": b"v", "gone": b"x"})]
        )
        buffer.append([Parcel(samples([]), "scope", {"gone": b""})])
        buffer.commit(buffer.peek(2).stream_id, 2)  # type: ignore[union-attr]
        buffer.close()
        buffer.close()
        again = self.open(self.folder)
        assert again.state("scope") == {"k": b"v"}
        assert again.state("other") == {}
        batch = again.peek(10, Lane.BACKLOG)
        assert batch is not None
        assert (batch.first_seq, batch.block.source_time.tolist(), dict(batch.block.text)) == (
            3,
            [3, 10],
            {1: "a"},
        )
        assert again.peek(10) is None, "what an earlier life left is backlog"
        again.close()

    def test_a_repeat_is_left_out_also_after_a_restart(self, buffer: Buffer) -> None:
        buffer.append([Parcel(samples([1, 2])), Parcel(texts({3: "x"}))])
        buffer.append([Parcel(samples([2, 1])), Parcel(texts({3: "x"})), Parcel(samples([4]))])
        assert buffer.stats().repeats_total == 3
        batch = buffer.peek(100)
        assert batch is not None
        buffer.commit(batch.stream_id, batch.last_seq)
        buffer.close()
        again = self.open(self.folder)
        again.append([Parcel(samples([1, 2, 4, 5])), Parcel(texts({3: "x"}))])
        assert times_of(again) == [5]
        again.close()

    def test_the_newest_of_a_series_is_known_however_long_ago(self, tmp_path: Path) -> None:
        buffer = self.open(tmp_path, window=10)
        buffer.append([Parcel(samples([1], series=1))])
        for time in range(100, 2100):
            buffer.append([Parcel(samples([time]))])
            if time % 50 == 0:
                times_of(buffer)
        times_of(buffer)
        buffer.close()
        again = self.open(tmp_path, window=10)
        again.append([Parcel(samples([1], series=1))])
        assert again.stats().repeats_total == 1
        again.close()

    def test_two_values_at_one_time_are_both_kept(self, buffer: Buffer) -> None:
        buffer.append(
            [
                Parcel(samples([5], value=1.0)),
                Parcel(samples([5], value=2.0)),
                Parcel(samples([6], value=9.0)),
            ]
        )
        buffer.append([Parcel(samples([5], value=2.0)), Parcel(samples([5], value=3.0))])
        batch = buffer.peek(100)
        assert batch is not None
        got = sorted(zip(batch.block.source_time.tolist(), batch.block.value.tolist(), strict=True))
        assert got == [(5, 1.0), (6, 9.0), (7, 2.0), (8, 3.0)]
        assert buffer.stats().repeats_total == 1
        assert buffer.stats().moved_total == 2
        buffer.close()

    def test_a_reading_found_again_when_its_time_is_no_longer_ahead_is_a_repeat(self, buffer: Buffer) -> None:
        buffer.append(
            [Parcel(block_of([Sample(SERIES[0], 9, 1, 1.0, Quality.UNCERTAIN, STATUS_CLOCK_AHEAD)]))]
        )
        buffer.append([Parcel(block_of([Sample(SERIES[0], 9, 9, 1.0, Quality.GOOD, 0)]))])
        assert buffer.stats().repeats_total == 1
        buffer.close()

    def test_what_is_late_is_welcome(self, buffer: Buffer) -> None:
        buffer.append([Parcel(samples([100]))])
        buffer.append([Parcel(samples([50, 60]))])
        buffer.append([Parcel(samples([60, 70]))])
        assert times_of(buffer) == [100, 50, 60, 70]
        buffer.close()

    def test_a_new_stream_goes_live_and_the_old_one_is_backlog(self, buffer: Buffer) -> None:
        first = buffer.append([Parcel(samples([1, 2]))])
        buffer.begin_stream()
        buffer.begin_stream()
        second = buffer.append([Parcel(samples([3]))])
        assert second.seq == 1
        assert first.stream_id != second.stream_id
        assert buffer.stats().streams == 2
        assert times_of(buffer, Lane.BACKLOG) == [1, 2]
        assert times_of(buffer) == [3]
        buffer.close()

    def test_the_oldest_give_way_and_each_is_accounted_for(self, tmp_path: Path) -> None:
        buffer = self.open(tmp_path, max_bytes=10_000)
        for time in range(1000):
            buffer.append([Parcel(samples([time]))])
        assert buffer.stats().used_bytes <= 10_000
        spans = buffer.spans(1000)
        assert {span.kind for span in spans} == {SpanKind.DROPPED}
        gone = {seq for span in spans for seq in range(span.first_seq, span.last_seq + 1)}
        left = [time + 1 for time in times_of(buffer)]
        assert gone.isdisjoint(left)
        assert gone | set(left) == set(range(1, 1001))
        assert 1000 in left, "the newest stays"
        assert sum(span.count for span in spans) == buffer.stats().dropped_samples_total == len(gone)
        buffer.commit_spans([span.record_id for span in spans])
        assert buffer.spans(10) == []
        buffer.close()

    def test_numbers_of_dropped_samples_are_not_given_out_again(self, tmp_path: Path) -> None:
        buffer = self.open(tmp_path, max_bytes=1)
        used = {buffer.append([Parcel(samples([time]))]).stream_id for time in range(3)}
        assert buffer.stats().pending_samples == 0
        buffer.close()
        for _ in range(3):
            again = self.open(tmp_path)
            place = again.append([Parcel(samples([100]))])
            assert place.stream_id not in used
            again.close()

    def test_what_is_on_its_way_is_not_dropped(self, tmp_path: Path) -> None:
        buffer = self.open(tmp_path, max_bytes=10_000)
        buffer.append([Parcel(samples([0, 1, 2]))])
        batch = buffer.peek(3)
        assert batch is not None
        for time in range(10, 1000):
            buffer.append([Parcel(samples([time]))])
        spans = buffer.spans(1000)
        assert spans
        assert all(span.first_seq > 3 for span in spans)
        buffer.commit(batch.stream_id, 3)
        buffer.close()

    def test_the_newest_give_way_if_told_so(self, tmp_path: Path) -> None:
        buffer = self.open(tmp_path, max_bytes=20_000, when_full=WhenFull.DROP_NEWEST)
        for time in range(500):
            buffer.append([Parcel(samples([time]))])
        left = times_of(buffer)
        gone = sum(span.count for span in buffer.spans(1000))
        assert left == list(range(len(left)))
        assert len(left) + gone == 500
        assert gone > 0
        buffer.close()

    def test_a_full_buffer_can_make_its_sources_wait(self, tmp_path: Path) -> None:
        buffer = self.open(tmp_path, max_bytes=20_000, when_full=WhenFull.BLOCK)
        taken = 0
        with pytest.raises(StoreUnavailable) as caught:
            for time in range(500):
                buffer.append([Parcel(samples([time]))])
                taken += 1
        assert caught.value.retry_after_s is not None
        assert times_of(buffer) == list(range(taken))
        buffer.append([Parcel(samples([taken]))])
        assert times_of(buffer) == [taken]
        assert buffer.spans(10) == []
        buffer.close()

    def test_a_refused_batch_is_set_aside_and_recorded(self, buffer: Buffer) -> None:
        buffer.append([Parcel(samples([1, 2, 3, 4]))])
        batch = buffer.peek(2)
        assert batch is not None
        buffer.quarantine(batch, "because")
        assert times_of(buffer) == [3, 4]
        (span,) = buffer.spans(10)
        assert (span.kind, span.first_seq, span.last_seq, span.count, span.reason) == (
            SpanKind.QUARANTINED, 1, 2, 2, "because",
        )  # fmt: skip
        assert span.stream_id == batch.stream_id
        buffer.close()

    def test_a_large_block_comes_out_whole_and_in_order(self, buffer: Buffer) -> None:
        count = 70_000
        block = make_block(SERIES, np.arange(count) % 4, np.arange(count), 5, np.arange(count) / 8)
        assert buffer.append([Parcel(block)]).seq == count
        times: list[int] = []
        while (batch := buffer.peek(9_000)) is not None:
            assert batch.first_seq == len(times) + 1
            assert len(batch.block) <= 9_000
            assert np.array_equal(batch.block.value, batch.block.source_time / 8)
            times += batch.block.source_time.tolist()
            buffer.commit(batch.stream_id, batch.last_seq)
        assert times == list(range(count))
        buffer.close()

    def test_long_texts_are_taken_and_travel_in_batches_that_a_service_takes(self, buffer: Buffer) -> None:
        rows = {time: f"{time:05}" + "ü" * 30_000 for time in range(400)}
        buffer.append([Parcel(texts(rows))])
        got: dict[int, str] = {}
        while (batch := buffer.peek(10_000)) is not None:
            got |= dict(zip(batch.block.source_time.tolist(), batch.block.text.values(), strict=True))
            # The decoder of a service bounds what a message may hold: this one has to read it.
            assert wire.decode_batch(wire.encode_batch(batch)).last_seq == batch.last_seq
            buffer.commit(batch.stream_id, batch.last_seq)
        assert got == rows
        assert buffer.spans(10) == []
        buffer.close()

    @pytest.mark.parametrize(
        "text", ["x" * 70_000, "ü" * 33_000, "\ud800"], ids=["long", "long in UTF-8", "surrogate"]
    )
    def test_a_text_that_no_decoder_takes_costs_itself_and_no_other(self, buffer: Buffer, text: str) -> None:
        buffer.append([Parcel(texts({1: "before", 2: text, 3: "after"}))])
        batch = buffer.peek(10)
        assert batch is not None
        assert dict(batch.block.text) == {0: "before", 2: "after"}
        assert batch.block.quality.tolist() == [Quality.GOOD, Quality.BAD, Quality.GOOD]
        assert batch.block.status.tolist() == [0, STATUS_NOT_CONVERTIBLE, 0]
        buffer.append([Parcel(texts({2: text}))])
        assert buffer.stats().repeats_total == 1
        buffer.close()

    def test_a_few_values_of_a_source_with_many_series_take_little_space(self, buffer: Buffer) -> None:
        series = tuple(SeriesKey(AssetPath(f"acme/hk01/a/l/c{n % 97}"), f"zone_{n}.t") for n in range(10_000))
        block = make_block(series, np.arange(100) * 97, np.arange(100), 5, np.arange(100))
        buffer.append([Parcel(block)])
        assert buffer.stats().used_bytes < 2_000
        batch = buffer.peek(100)
        assert batch is not None
        assert [sample.series for sample in batch.block.rows()] == [series[n * 97] for n in range(100)]
        buffer.close()

    def test_what_waits_together_keeps_the_order_of_each_source(self, buffer: Buffer) -> None:
        sources = [
            tuple(SeriesKey(AssetPath(f"acme/hk01/a/l/p{n}"), f"s_{k}") for k in range(3)) for n in range(3)
        ]
        parcels, expected = [], []
        for poll in range(3_000):
            for number, series in enumerate(sources):
                if number < 2 or poll < 5:
                    parcels.append(Parcel(make_block(series, [0, 2], [poll, poll], poll + 1, [number, poll])))
                    expected += [(series[0], poll, float(number)), (series[2], poll, float(poll))]
        last = buffer.append(parcels)
        assert last.seq == len(expected)
        got: list[tuple[SeriesKey, int, float]] = []
        while (batch := buffer.peek(5_000)) is not None:
            assert batch.first_seq == len(got) + 1
            got += [(row.series, row.source_time, row.value) for row in batch.block.rows()]
            buffer.commit(batch.stream_id, batch.last_seq)
        assert sorted(got) == sorted(expected)
        for series in sources:
            mine = [row for row in got if row[0] in series]
            assert mine == [row for row in expected if row[0] in series]
        buffer.close()

    def test_each_dropped_span_says_what_when_and_why(self, tmp_path: Path) -> None:
        buffer = self.open(tmp_path, max_bytes=10_000)
        for time in range(1000):
            buffer.append([Parcel(samples([time]))])
        spans = buffer.spans(1000)
        assert spans
        for span in spans:
            assert (span.reason, span.at_least) == ("buffer full", False)
            # samples() receives each five nanoseconds after its time, and its number is one more.
            assert (span.from_time, span.to_time) == (span.first_seq - 1 + 5, span.last_seq - 1 + 5)
            assert span.stream_id
        buffer.close()

    def test_a_newer_window_is_kept_however_large_its_rows_are(self, tmp_path: Path) -> None:
        buffer = self.open(tmp_path, window=1_000)
        for time in range(300):
            buffer.append([Parcel(samples([time]))])
        buffer.append([Parcel(samples(list(range(1_000, 4_000))))])
        times_of(buffer)
        buffer.close()
        again = self.open(tmp_path, window=1_000)
        again.append([Parcel(samples([3_500, 3_000, 3_999]))])
        assert again.stats().repeats_total == 3
        again.close()
