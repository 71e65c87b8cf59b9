"""Points in InfluxDB 1.x, 2.x or 3.x: line protocol in, InfluxQL out, which all three speak.

A point that is written again replaces itself, so that whatever became of a request it can simply be repeated.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ingest_service.store_config import InfluxDBStoreConfig
from ingest_service.stores import Capabilities, TimeSpan
from ingest_service.stores.influxdb_client import CONNECTIONS, InfluxClient, PointsRefused, Series
from ingest_service.stores.influxdb_lines import MEASUREMENT, TAGS, LineEncoder, chunks_of, tags_of
from ingest_service.stores.influxdb_rollups import InfluxRollups
from ingest_service.stores.own_points import Point, lines_of
from ingest_service.stores.server_points import NOTHING_TURNED, Fetched, Turned, repeated_times
from shopfloor.block import NO_TEXT, SampleBlock, UInt32
from shopfloor.signal import SeriesKey

EARLIEST_NS: Final = -(2**63) + 2
LATEST_NS: Final = 2**63 - 2
"""The times that InfluxDB takes (its models.MinNanoTime and MaxNanoTime)."""
MAX_TEXT_BYTES: Final = 60_000
"""A string field takes 64 KiB; longer texts stay in the PlantStore."""
_FIELDS: Final = ("value", "text", "quality", "status", "received")
_ASKING: Final = 64
"""Requests that look for the lines which a server refuses; what is left then is turned away as a whole."""

_log = logging.getLogger(__name__)


class InfluxDB:
    """A PointStore; see `InfluxDBStoreConfig` for what it is given."""

    def __init__(self, config: InfluxDBStoreConfig) -> None:
        self._client = InfluxClient(config)
        self._lines = config.lines
        self._encoder = LineEncoder()
        self._threads = ThreadPoolExecutor(CONNECTIONS // 2, "influxdb-write")
        self._prepared = False
        self._rollups = InfluxRollups(self._client, config.lines, _condition) if config.rollups else None

    @property
    def rollups(self) -> InfluxRollups | None:
        """See `PointStore.rollups`."""
        return self._rollups

    @property
    def capabilities(self) -> Capabilities:
        """Nanoseconds and everything else come back; a repeated time of a series, too long a text lie in the PlantStore."""
        return Capabilities(1, True, True, None, None, "on_write")

    def unfit(self, ids: UInt32, block: SampleBlock) -> npt.NDArray[np.bool_]:
        """See `PointStore.unfit`."""
        unfit = repeated_times(ids, block.source_time)
        unfit |= (block.source_time < EARLIEST_NS) | (block.source_time > LATEST_NS) | np.isinf(block.value)
        for row, text in block.text.items():
            if len(text) * 4 > MAX_TEXT_BYTES and len(text.encode()) > MAX_TEXT_BYTES:
                unfit[row] = True
        return unfit

    def write(self, keys: Sequence[SeriesKey], ids: UInt32, block: SampleBlock) -> Turned:
        """See `PointStore.write`; the requests of one call run side by side."""
        if not len(ids):
            return NOTHING_TURNED
        lines = self._encoder.encode(keys, ids, block)
        bodies = chunks_of(lines, self._lines)
        refused: list[tuple[int, int, str]] = []

        def send(one: tuple[int, int, memoryview]) -> None:
            try:
                self._client.write(one[2])
            except PointsRefused as error:
                refused.append((one[0], one[1], str(error)))

        # Of several that fail any one says why; all are waited for, so that nothing of them comes later.
        futures = [self._threads.submit(send, one) for one in bodies]
        failures = [error for one in futures if (error := one.exception()) is not None]
        if failures:
            raise failures[0]
        if not refused:
            return NOTHING_TURNED
        rows: list[int] = []
        asked = _ASKING
        for start, end, _ in refused:
            found, asked = self._find_refused(lines, start, end, asked)
            rows += found
        return Turned(np.array(sorted(rows), np.int64), refused[0][2])

    def fetch(
        self, keys: Sequence[SeriesKey], span: TimeSpan, limit: int, *, newest_first: bool = False
    ) -> Fetched:
        """See `PointStore.fetch`."""
        begin, end = max(span.from_ns, EARLIEST_NS), min(span.to_ns - 1, LATEST_NS)
        found: list[Series] = []
        if begin <= end and keys:
            fields = ", ".join(f'"{name}"' for name in _FIELDS)
            tags = ", ".join(f'"{name}"' for name in TAGS)
            order = "ORDER BY time DESC " if newest_first else ""
            found = self._client.query(
                f'SELECT {fields} FROM "{MEASUREMENT}" WHERE time >= {begin} AND time <= {end} '  # noqa: S608 - quoted
                f"AND ({_condition(keys)}) GROUP BY {tags} {order}LIMIT {limit}"
            )
        return _fetched(keys, found, limit, newest_first=newest_first)

    def report(self, points: Sequence[Point]) -> None:
        """See `PointStore.report`. Points that the server refuses (of fields that somebody else made otherwise) are left out."""
        lines = lines_of(points, 1, texts=True)
        for start in range(0, len(lines), self._lines):
            try:
                self._client.write("\n".join(lines[start : start + self._lines]).encode())
            except PointsRefused as error:
                _log.warning("InfluxDB refuses some of what the service reports: %s", error)

    def check(self) -> None:
        """See `PointStore.check`."""
        if not self._prepared:
            self._client.prepare()
            self._prepared = True
        self._client.ping()

    def close(self) -> None:
        """See `PointStore.close`."""
        self._threads.shutdown()
        self._client.close()

    def _find_refused(self, lines: Any, start: int, end: int, asked: int) -> tuple[list[int], int]:
        """Return the rows that are refused, found by halving, and how many more requests may look for some."""
        waiting = [(start, end)]
        rows: list[int] = []
        while waiting:
            first, last = waiting.pop()
            if last - first == 1 or asked <= 0:
                rows += range(first, last)
                continue
            middle = (first + last) // 2
            for half in ((first, middle), (middle, last)):
                asked -= 1
                ((_, _, body),) = chunks_of(lines.slice(half[0], half[1] - half[0]), half[1] - half[0])
                try:
                    self._client.write(body)
                except PointsRefused:
                    waiting.append(half)
        return rows, asked


def _condition(keys: Sequence[SeriesKey]) -> str:
    """Return what means these series, and perhaps others with tags of several of them.

    A list of the series themselves takes InfluxDB 1.x seconds where there are hundreds.
    """
    parts = []
    all_tags = [tags_of(key) for key in keys]
    for name in TAGS:
        texts = sorted({tags.get(name, "") for tags in all_tags})
        if len(texts) == 1:
            parts.append(f'"{name}" = {_literal(texts[0])}')
        else:
            parts.append(f'"{name}" =~ /^({"|".join(map(_expression, texts))})$/')
    return " AND ".join(parts)


def _expression(text: str) -> str:
    return re.escape(text).replace("/", "\\/").replace("\\-", "-")


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fetched(
    keys: Sequence[SeriesKey], found: Sequence[Series], limit: int, *, newest_first: bool
) -> Fetched:
    places = {tuple(tags_of(key).get(name, "") for name in TAGS): place for place, key in enumerate(keys)}
    by_place: dict[int, list[list[Any]]] = {}
    for series in found:
        # Tags that a series lacks are empty texts in 1.x and 2.x, and null or left out in 3.x.
        place = places.get(tuple(series.tags.get(name) or "" for name in TAGS))
        if place is not None:
            values = series.values if series.columns[0] == "time" else _by_time(series)
            by_place[place] = values[::-1] if newest_first else values
    order = sorted(by_place)
    rows = [row for place in order for row in by_place[place]]
    counts = [len(by_place[place]) for place in order]
    time, value, text, quality, status, received = zip(*rows, strict=True) if rows else ((),) * 6
    block = SampleBlock(
        tuple(keys),
        np.repeat(np.array(order, np.uint32), counts),
        np.array(time, np.int64),
        # What others wrote into our measurement may lack fields of ours.
        np.array([at if one is None else one for at, one in zip(time, received, strict=True)], np.int64),
        np.array(value, np.float64),
        np.array([number or 0 for number in quality], np.uint8),
        np.array([number or 0 for number in status], np.uint32),
        {row: one for row, one in enumerate(text) if one is not None} or NO_TEXT,
    )
    more = frozenset(place for place, count in zip(order, counts, strict=True) if count >= limit)
    return Fetched(block, more)


def _by_time(series: Series) -> list[list[Any]]:
    wanted = [series.columns.index(name) for name in ("time", *_FIELDS)]
    return [[row[place] for place in wanted] for row in series.values]
