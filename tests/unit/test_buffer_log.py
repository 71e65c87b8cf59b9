"""What a full buffer writes into the log: that it drops once, that it has room again once."""

import logging
from pathlib import Path

import pytest

from edge_agent.buffer import Parcel
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from shopfloor.messages import Lane
from tests.contract.buffer_contract import samples


def test_a_full_buffer_says_so_once_and_its_end_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = 1_000.0
    limits = BufferLimits(max_bytes=3_000, disk_reserve_bytes=0, repeat_window_samples=1_000)
    buffer = SqliteBuffer(tmp_path, limits, "a")
    buffer._bounds.trouble.now_s = lambda: now_s
    with caplog.at_level(logging.INFO):
        for number in range(60):
            buffer.append([Parcel(samples(list(range(1_000 * number, 1_000 * (number + 1)))))])
        dropped = buffer.stats().dropped_samples_total
        assert buffer._bounds.trouble.times > 10
        assert caplog.messages == ["buffer: dropping samples (buffer full, drop_oldest)"]
        while (batch := buffer.peek(10_000, Lane.LIVE)) is not None:
            buffer.commit(batch.stream_id, batch.last_seq)
        for _ in range(5):
            buffer._bounds.maintain(())
            now_s += 50.0
    buffer.close()
    _, over = caplog.messages
    assert over.startswith(f"buffer: has room again, {dropped} samples dropped since the start, after ")
