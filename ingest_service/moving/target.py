"""The store on a server that samples move to: written in chunks, read back as readers of the service get them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
import sqlalchemy as sa

from ingest_service.moving.checksum import Sums, sums_of
from ingest_service.moving.decimals import Misfits
from ingest_service.moving.source import Chunk
from ingest_service.stores import TimeSpan
from ingest_service.stores.server_ledger import ServerLedger
from ingest_service.stores.server_points import PointStore
from shopfloor.block import Int64, SampleBlock, UInt32, concat
from shopfloor.errors import Permanent
from shopfloor.signal import SeriesKey

_SERIES: Final = 10
_ROWS: Final = 5000
"""One request reads so many series at most, and about so many samples: of several series at once, InfluxDB 1.x takes twice
to thrice as long for each sample."""
_READERS: Final = 2
_PATIENCE_S: Final = 60.0


class MoveRefused(Permanent):
    """The move can't go on like this; it says what to do."""


class Put(NamedTuple):
    """What of a chunk the server can't hold."""

    ids: Int64
    """int64[k], the numbers of their series."""
    block: SampleBlock
    """k rows."""


class Target:
    """A server and the PlantStore beside it.

    Args:
        points: the server; closed together with this.
        engine: the PlantStore's.
        keys: the series that move here; chunks mean them by their places. They get their numbers here at once.
        misfits: tells further rows that the PlantStore has to keep.

    Raises:
        StoreUnavailable, SQLAlchemyError: one of the two does not answer.
    """

    def __init__(
        self,
        points: PointStore,
        engine: sa.Engine,
        keys: Sequence[SeriesKey],
        misfits: Misfits | None = None,
    ) -> None:
        self.engine = engine
        self._misfits = misfits
        self._points = points
        self._ledger = ServerLedger(engine, _PATIENCE_S)
        self._readers = ThreadPoolExecutor(_READERS, "move-reader")
        points.check()
        self._moving = list(keys)
        self._keys = self._ledger.number(0, self._moving)
        """All series; series ``i + 1`` stands at ``i``."""
        numbers = {key: number for number, key in enumerate(self._keys, 1)}
        self._ids: UInt32 = np.array([numbers[key] for key in self._moving], np.uint32)

    def write(self, chunk: Chunk, block: SampleBlock) -> Put:
        """Write samples, durably; those that the server can't hold are returned. Writing them again changes nothing.

        Raises:
            MoveRefused: the server turns samples away.
            StoreUnavailable: it does not answer now.
        """
        ids = self._ids[chunk.places][block.series_index]
        unfit = self._points.unfit(ids, block)
        if self._misfits is not None:
            unfit |= self._misfits(chunk.places[block.series_index], block)
        fit = np.flatnonzero(~unfit)
        whole = len(fit) == len(block)
        turned = self._points.write(
            self._keys, ids if whole else ids[fit], block if whole else block.take(fit)
        )
        if len(turned.rows):
            raise MoveRefused(
                f"the server turns {len(turned.rows)} samples of one chunk away: {turned.reason}; if it keeps samples "
                "for too short a time, lengthen that, or leave older ones behind with --since"
            )
        rows = np.flatnonzero(unfit)
        return Put(ids[rows].astype(np.int64), block.take(rows))

    def sums(self, chunk: Chunk, most: int, *, signed_zeros: bool = True) -> Sums:
        """Read a chunk's series and span as they are here now, and return the sums of its series.

        Args:
            chunk: which.
            most: samples that a series has there; where it has more here, one more is enough to tell.
            signed_zeros: as for `sums_of`.
        """
        keys = [self._moving[place] for place in chunk.places.tolist()]
        groups = list(_groups(keys, max(1, min(_SERIES, _ROWS // max(1, most)))))
        parts = self._readers.map(lambda group: self._read(chunk, keys, group, most), groups)
        return sums_of(keys, concat([*parts]), signed_zeros=signed_zeros)

    def close(self) -> None:
        """Let go of the server; the engine stays open."""
        self._readers.shutdown()
        self._points.close()

    def _read(self, chunk: Chunk, keys: Sequence[SeriesKey], group: slice, most: int) -> SampleBlock:
        wanted, span, limit = keys[group], TimeSpan(*chunk.span), most + 1
        fetched = self._points.fetch(wanted, span, limit).block
        ids = self._ids[chunk.places[group]].tolist()
        kept_ids, kept = self._ledger.kept(ids, span, limit)
        place_of = {number: place for place, number in enumerate(ids, group.start)}
        index = np.array([place_of[number] for number in kept_ids.tolist()], np.uint32)
        return concat(
            [_with_index(fetched, fetched.series_index + np.uint32(group.start)), _with_index(kept, index)]
        )


def _with_index(block: SampleBlock, index: UInt32) -> SampleBlock:
    return SampleBlock(
        (),
        index,
        block.source_time,
        block.received_time,
        block.value,
        block.quality,
        block.status,
        block.text,
    )


def _groups(keys: Sequence[SeriesKey], most: int) -> Iterator[slice]:
    """Cut series into neighbours of one asset: what is asked of a server is then no more than what is wanted."""
    begin = 0
    for at in range(1, len(keys) + 1):
        if at == len(keys) or at - begin == most or keys[at].asset != keys[begin].asset:
            yield slice(begin, at)
            begin = at
