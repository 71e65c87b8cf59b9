"""A move whose server does not answer for a while, shows late what it took, or is not allowed to be fast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from ingest_service.moving import progress
from ingest_service.moving.checksum import Sums, sums_of
from ingest_service.moving.mover import Mover
from ingest_service.moving.source import Chunk
from ingest_service.moving.target import Put
from ingest_service.plant.engine import connect
from ingest_service.stores import TimeSpan
from ingest_service.stores.duckdb_catalog import DAY_NS
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.signal import SeriesKey
from tests.plant_database import empty_plant

KEY = SeriesKey(parse_asset("acme/hk01/moulding/cell-a/imm-01"), "a")
ROWS = 100
NOBODY = np.empty(0, np.int64)


class Samples:
    """A source with a chunk of a hundred samples each day."""

    keys = (KEY,)

    def __init__(self, days: int) -> None:
        self.chunks = [
            Chunk(day, 0, np.zeros(1, np.uint32), TimeSpan(day * DAY_NS, (day + 1) * DAY_NS), ROWS)
            for day in range(days)
        ]

    def read(self, chunk: Chunk) -> SampleBlock:
        return make_block((), np.zeros(ROWS), chunk.span.from_ns + np.arange(ROWS), 0, np.arange(ROWS))


class Server:
    """A target that does not answer at times, and shows late what it took."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.away = 0
        self.late = 0
        self.there: dict[int, SampleBlock] = {}

    def write(self, chunk: Chunk, block: SampleBlock) -> Put:
        self._answer()
        self.there[chunk.day] = block
        return Put(NOBODY, block.take(NOBODY))

    def sums(self, chunk: Chunk, _most: int, *, signed_zeros: bool = True) -> Sums:
        self._answer()
        shown = self.there[chunk.day]
        if self.late:
            self.late -= 1
            shown = shown.take(np.arange(ROWS // 2))
        return sums_of([KEY], shown, signed_zeros=signed_zeros)

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    engine = connect(empty_plant(tmp_path / "plant.sqlite"))
    yield Server(engine)
    engine.dispose()


def mover(server: Any, days: int, slept: list[float], samples_per_s: float = 0.0) -> Mover:
    source: Any = Samples(days)
    return Mover(
        source,
        server,
        source.chunks,
        samples_per_s=samples_per_s,
        tell=lambda _phase, _through, _samples: None,
        sleep=slept.append,
    )


def test_a_server_that_is_away_is_waited_for(server: Server) -> None:
    slept: list[float] = []
    server.away = 3
    one = mover(server, 4, slept)
    one.write()
    assert slept == [1, 2, 5]
    server.away = 2
    assert one.compare()
    assert slept == [1, 2, 5, 1, 2]
    assert (one.report.written, one.report.compared, one.report.series_days) == (400, 400, 4)
    # One that stays away ends it; what is there is there.
    server.away = 1000
    longer = mover(server, 5, slept)
    with pytest.raises(StoreUnavailable, match="away"):
        longer.write()
    assert sorted(progress.load(server.engine)) == [(day, 0) for day in range(4)]
    server.away = 0
    again = mover(server, 5, slept)
    again.write()
    assert (again.report.written, again.compare(), again.report.compared) == (100, True, 100)


def test_what_a_server_shows_late_is_no_difference_and_what_is_missing_is_one(server: Server) -> None:
    slept: list[float] = []
    one = mover(server, 3, slept)
    one.write()
    server.late = 1
    assert one.compare()
    assert len(slept) == 1
    server.there[1] = server.there[1].take(np.arange(99))
    assert not one.compare(again=True)
    assert one.report.differences == [
        f"{KEY.asset} {KEY.signal} on 1970-01-02: 100 samples, 99 in the new store"
    ]
    # That chunk is written again, and only that.
    once_more = mover(server, 3, slept)
    once_more.write()
    assert (once_more.report.written, once_more.compare(), once_more.report.compared) == (100, True, 100)
    # Fewer chunks than before: what was kept of the others goes.
    mover(server, 2, slept).write()
    assert sorted(progress.load(server.engine)) == [(0, 0), (1, 0)]


def test_no_faster_than_asked_for(server: Server) -> None:
    slept: list[float] = []
    mover(server, 4, slept, samples_per_s=1.0).write()
    assert len(slept) == 3
    for number, seconds in enumerate(slept, 1):
        assert 0 < seconds <= 100 * number


def test_a_source_that_has_less_than_it_says(server: Server) -> None:
    source: Any = Samples(1)
    chunks = [source.chunks[0]._replace(samples=ROWS + 1)]
    target: Any = server
    with pytest.raises(StoreUnavailable, match="has 101 samples, and 100 can be read"):
        Mover(source, target, chunks, tell=lambda _phase, _through, _samples: None).write()
