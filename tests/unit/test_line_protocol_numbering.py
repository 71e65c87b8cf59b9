"""Samples without numbers get those behind their stream's watermark, together where they wait together."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingest_service.agents import AgentBook
from ingest_service.auth import Identity, Role
from ingest_service.line_protocol import numbering
from ingest_service.line_protocol.numbering import Instance, TokenStream
from ingest_service.line_protocol.unpacking import BodyTooLarge, NotGzip, unpacked
from ingest_service.stores import NOTHING_REFUSED, Refused, Watermark
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch
from shopfloor.signal import SeriesKey

SERIES = (SeriesKey(parse_asset("acme/m"), "s"),)
OTHER = (SeriesKey(parse_asset("acme/m"), "t"),)
IDENTITY = Identity(7, Role.AGENT, "acme", "telegraf")


def block(*values: float, series: tuple[SeriesKey, ...] = SERIES) -> SampleBlock:
    return make_block(series, np.zeros(len(values)), np.arange(len(values)), 0, values)


class Behind:
    """Admission, store and plant in one: remembers batches, and fails or waits where it is told to."""

    engine = None
    quarantined = 0

    def __init__(self) -> None:
        self.through = 0
        self.batches: list[tuple[int, list[float]]] = []
        self.forgotten: list[tuple[str, int]] = []
        self.failures = 0
        self.open = asyncio.Event()
        self.open.set()

    async def watermark(self, _stream_id: str) -> Watermark:
        return Watermark(self.through, self.through)

    async def run(self, function: Any, *arguments: Any) -> None:
        assert function is numbering.forget_unacknowledged
        self.forgotten.append(arguments[1:])

    async def admit(self, batch: Batch, _identity: Identity, _refused: Refused) -> None:
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("disk full")
        self.through = batch.last_seq
        self.batches.append((batch.first_seq, batch.block.value.tolist()))


def stream(behind: Behind) -> TokenStream:
    return TokenStream("lines.7", "lines", behind, behind, behind)  # type: ignore[arg-type]


async def test_what_waits_goes_together() -> None:
    behind = Behind()
    behind.open.clear()
    one = stream(behind)
    first = one.write(IDENTITY, block(1, 2), NOTHING_REFUSED)
    await asyncio.sleep(0)
    rest = [one.write(IDENTITY, block(value), NOTHING_REFUSED) for value in (3, 4, 5)]
    behind.open.set()
    await asyncio.gather(first, *rest)
    await one.close()
    assert behind.batches == [(1, [1, 2]), (3, [3, 4, 5])]
    assert one.idle


async def test_other_tables_and_refused_rows_go_alone() -> None:
    behind = Behind()
    behind.open.clear()
    one = stream(behind)
    refused = Refused(np.array([0]), np.array([0], np.uint8), ("line_unmapped",))
    parts = [
        (block(0), NOTHING_REFUSED),
        (block(1), NOTHING_REFUSED),
        (block(2, series=OTHER), refused),
        (block(3), refused),
        (block(4), NOTHING_REFUSED),
        (block(), NOTHING_REFUSED),
    ]
    written = [one.write(IDENTITY, *part) for part in parts]
    behind.open.set()
    await asyncio.gather(*written)
    assert behind.batches == [(1, [0, 1]), (3, [2]), (4, [3]), (5, [4])]


async def test_after_a_failure_what_was_put_aside_is_taken_back() -> None:
    behind = Behind()
    one = stream(behind)
    await one.write(IDENTITY, block(1), NOTHING_REFUSED)
    behind.failures = 1
    with pytest.raises(StoreUnavailable):
        await one.write(IDENTITY, block(2), NOTHING_REFUSED)
    await one.write(IDENTITY, block(3), NOTHING_REFUSED)
    await one.write(IDENTITY, block(4), NOTHING_REFUSED)
    assert behind.batches == [(1, [1]), (2, [3]), (3, [4])]
    assert behind.forgotten == [("lines.7", 0), ("lines.7", 1)]


async def test_a_write_that_is_broken_off_is_no_promise() -> None:
    behind = Behind()
    behind.open.clear()
    one = stream(behind)
    written = [one.write(IDENTITY, block(value), NOTHING_REFUSED) for value in (1, 2)]
    later = one.write(IDENTITY, block(3, series=OTHER), NOTHING_REFUSED)
    await asyncio.sleep(0)
    assert one._writing is not None
    one._writing.cancel()
    await one.close()
    for future in (*written, later):
        assert isinstance(future.exception(), StoreUnavailable)
    assert one.idle


def test_one_process_at_a_time_has_an_instances_name(tmp_path: Path) -> None:
    path = tmp_path / "instance"
    first = Instance(path)
    other = Instance(path)
    assert first.name != other.name
    other.close()
    first.close()
    again = Instance(path)
    assert again.name == first.name
    again.close()
    path.write_text("damaged")
    anew = Instance(path)
    assert anew.name.isalnum()
    anew.close()
    kept = Instance(path)
    assert kept.name == anew.name
    kept.close()


def test_packed_bodies() -> None:
    assert unpacked(gzip.compress(b"a" * 1000) + gzip.compress(b"b") + b"\0\0", 2000) == b"a" * 1000 + b"b"
    assert unpacked(gzip.compress(b"a" * 1000), 1000) == b"a" * 1000
    with pytest.raises(BodyTooLarge):
        unpacked(gzip.compress(b"a" * 1001), 1000)
    with pytest.raises(BodyTooLarge):
        unpacked(gzip.compress(b"a" * 600) * 2, 1000)
    for broken in (b"", b"x", gzip.compress(b"a")[:-1], gzip.compress(b"a") + b"x", gzip.compress(b"") * 101):
        with pytest.raises(NotGzip):
            unpacked(broken, 1000)


def test_who_writes_without_heartbeats_has_contact_for_a_while() -> None:
    book = AgentBook()
    book.take_write("unknown", 0, 10)
    assert book.ids() == []
    book.take_batch("lines.7", SERIES, "acme")
    assert not book.has_contact("lines.7", 0)
    book.take_write("lines.7", 1000, 60)
    assert book.has_contact("lines.7", 1059)
    assert book.contact("acme/m", 1059).ok
    assert not book.has_contact("lines.7", 1060)
