"""Points in VictoriaMetrics, a single node or a cluster: line protocol in, export out.

What it can't hold lies in the PlantStore: texts, times before 1970 or outside of its retention (which it drops and answers
204), and all but one of the samples that a series has in one millisecond. It keeps twelve digits of a fraction; what they
leave is a metric of its own, so that nearly all numbers come back bit by bit. Of a series whose values differ by more than
about a thousandfold it may round the small ones (docs/scaling.md).
Its server needs ``-dedup.minScrapeInterval=1ms``: then a point that is written again counts once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt

from ingest_service.store_config import VictoriaMetricsStoreConfig
from ingest_service.stores import Capabilities, TimeSpan
from ingest_service.stores.influxdb_lines import TAGS, LineEncoder, chunks_of, tags_of
from ingest_service.stores.own_points import Point, lines_of
from ingest_service.stores.server_points import NOTHING_TURNED, Fetched, Turned, repeated_times
from ingest_service.stores.victoriametrics_client import CONNECTIONS, Columns, VictoriaClient
from ingest_service.stores.victoriametrics_lines import FIELDS, encode
from shopfloor.block import Int64, SampleBlock, UInt32, concat, make_block
from shopfloor.signal import SeriesKey

_MS: Final = 1_000_000
_DAY_NS: Final = 86_400 * 10**9
_AHEAD_NS: Final = _DAY_NS
"""Further ahead a sample stays in the PlantStore: the server drops what lies two days ahead (-futureRetention)."""
_EXACT: Final = 2**53
_NO_TIMES: Final = np.empty(0, np.int64)
_WINDOW_NS: Final = 60 * 10**9
_WIDER: Final = 8
"""A span is read in windows, each so many times as wide as the one before."""


class VictoriaMetrics:
    """A PointStore; see `VictoriaMetricsStoreConfig` for what it is given."""

    def __init__(
        self, config: VictoriaMetricsStoreConfig, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._client = VictoriaClient(config)
        self._lines = config.lines
        self._back_ns = config.retention_days * _DAY_NS
        self._clock_ns = clock_ns
        self._encoder = LineEncoder()
        self._threads = ThreadPoolExecutor(CONNECTIONS // 2, "victoriametrics-write")
        self._last: Int64 = np.zeros(0, np.int64)
        """Source time of the newest point of each series that this process wrote."""

    @property
    def rollups(self) -> None:
        """None: twelve digits of a fraction would not give sums back, and samples are exported quickly."""
        return

    @property
    def capabilities(self) -> Capabilities:
        """Everything comes back as it went in, with what the PlantStore keeps."""
        return Capabilities(1, True, True, None, None, "on_write")

    def unfit(self, ids: UInt32, block: SampleBlock) -> npt.NDArray[np.bool_]:
        """See `PointStore.unfit`."""
        now = self._clock_ns()
        source = block.source_time
        # The time 0 would be taken for none.
        lowest = max(_MS, now - self._back_ns + _DAY_NS)
        unfit = (source < lowest) | (source > now + _AHEAD_NS) | np.isinf(block.value)
        for row in block.text:
            unfit[row] = True
        # The difference of two times may leave int64; then it is not near, whatever comes out.
        with np.errstate(over="ignore"):
            unfit |= np.abs(block.received_time.astype(np.float64) - source) > _EXACT
        ms = source // _MS
        fit = np.flatnonzero(~unfit)
        unfit[fit[repeated_times(ids[fit], ms[fit])]] = True
        # The end of one batch and the begin of the next may share a millisecond, too.
        last = self._last_of(ids)
        unfit |= (ms == last // _MS) & (source != last)
        return unfit

    def write(self, keys: Sequence[SeriesKey], ids: UInt32, block: SampleBlock) -> Turned:
        """See `PointStore.write`. Durable is what a snapshot was made after: the rows of one call share one."""
        if not len(ids):
            return NOTHING_TURNED
        lines = encode(self._encoder.prefixes(keys, ids), block)
        futures = [
            self._threads.submit(self._client.write, body) for _, _, body in chunks_of(lines, self._lines)
        ]
        failures = [error for one in futures if (error := one.exception()) is not None]
        if failures:
            raise failures[0]
        self._last_of(ids)
        np.maximum.at(self._last, ids, block.source_time)
        self._client.make_durable()
        return NOTHING_TURNED

    def fetch(
        self, keys: Sequence[SeriesKey], span: TimeSpan, limit: int, *, newest_first: bool = False
    ) -> Fetched:
        """See `PointStore.fetch`."""
        begin, end = max(0, span.from_ns), min(span.to_ns, self._clock_ns() + 2 * _AHEAD_NS)
        parts: list[list[SampleBlock]] = [[] for _ in keys]
        counts = [0] * len(keys)
        left = list(range(len(keys)))
        width = _WINDOW_NS
        while left and begin < end:
            window = (
                TimeSpan(max(begin, end - width), end)
                if newest_first
                else TimeSpan(begin, min(end, begin + width))
            )
            for place, block in self._window([keys[place] for place in left], window):
                parts[left[place]].append(block)
                counts[left[place]] += len(block)
            left = [place for place in left if counts[place] < limit]
            begin, end = (begin, window.from_ns) if newest_first else (window.to_ns, end)
            width *= _WIDER
        blocks: list[SampleBlock] = []
        for place, of_series in enumerate(parts):
            if of_series:
                whole = concat(of_series[::-1] if newest_first else of_series)
                cut = slice(-limit, None) if newest_first else slice(limit)
                rows = np.arange(len(whole))[cut]
                index = np.full(len(rows), place, np.uint32)
                one = whole.take(rows)
                blocks.append(
                    SampleBlock(
                        tuple(keys),
                        index,
                        one.source_time,
                        one.received_time,
                        one.value,
                        one.quality,
                        one.status,
                    )
                )
        more = frozenset(place for place, count in enumerate(counts) if count >= limit)
        empty = make_block(tuple(keys), [], [], [], [])
        return Fetched(_same_series(blocks) if blocks else empty, more)

    def report(self, points: Sequence[Point]) -> None:
        """See `PointStore.report`; texts are left out."""
        lines = lines_of(points, _MS, texts=False)
        for start in range(0, len(lines), self._lines):
            self._client.write("\n".join(lines[start : start + self._lines]).encode())

    def check(self) -> None:
        """See `PointStore.check`."""
        self._client.check()

    def close(self) -> None:
        """See `PointStore.close`."""
        self._threads.shutdown()
        self._client.close()

    def _window(self, keys: Sequence[SeriesKey], span: TimeSpan) -> list[tuple[int, SampleBlock]]:
        """Return the samples of each series that has some in a span."""
        places = {tuple(tags_of(key).get(name, "") for name in TAGS): place for place, key in enumerate(keys)}
        by_place: dict[int, dict[str, Columns]] = {}
        for labels, columns in self._client.export(
            _selector(keys), span.from_ns // _MS, (span.to_ns - 1) // _MS
        ):
            place = places.get(tuple(labels.get(name, "") for name in TAGS))
            if place is not None:
                by_place.setdefault(place, {})[labels["__name__"].removeprefix("sample_")] = columns
        found = []
        for place in sorted(by_place):
            block = _block(keys[place], by_place[place])
            inside = (block.source_time >= span.from_ns) & (block.source_time < span.to_ns)
            found.append((place, block if inside.all() else block.take(inside)))
        return found

    def _last_of(self, ids: UInt32) -> Int64:
        highest = int(ids.max(initial=0))
        if highest >= len(self._last):
            more = max(1024, highest + 1 - len(self._last))
            self._last = np.concatenate([self._last, np.full(more, -(2**63), np.int64)])
        last: Int64 = self._last[ids]
        return last


def _block(key: SeriesKey, fields: dict[str, Columns]) -> SampleBlock:
    """Join the fields of a series; each point has a value or a quality."""
    ms = np.unique(
        np.concatenate([fields[name][0] for name in ("value", "quality") if name in fields] or [_NO_TIMES])
    )

    def field(name: str, otherwise: float) -> npt.NDArray[np.float64]:
        column = np.full(len(ms), otherwise, np.float64)
        if name in fields and len(ms):
            times, values = fields[name]
            rows = np.minimum(np.searchsorted(ms, times), len(ms) - 1)
            same = ms[rows] == times
            column[rows[same]] = values[same]
        return column

    source = ms * _MS + field("ns", 0).astype(np.int64)
    return make_block(
        (key,),
        np.zeros(len(ms)),
        source,
        source + field("delay", 0).astype(np.int64),
        _valued(field("value", np.nan), field("rest", 0), field("sign", 1)),
        field("quality", 0).astype(np.uint8),
        field("status", 0).astype(np.uint32),
    )


def _valued(
    value: npt.NDArray[np.float64], rest: npt.NDArray[np.float64], sign: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    whole: npt.NDArray[np.float64] = np.where(rest == 0, value, value + rest)
    whole[sign < 0] = -0.0
    return whole


def _same_series(blocks: list[SampleBlock]) -> SampleBlock:
    series = blocks[0].series
    return concat(
        [
            SampleBlock(
                series,
                one.series_index,
                one.source_time,
                one.received_time,
                one.value,
                one.quality,
                one.status,
            )
            for one in blocks
        ]
    )


def _selector(keys: Sequence[SeriesKey]) -> str:
    """Return the selector that means these series, and perhaps others with labels of several of them."""
    names = "|".join(FIELDS)
    parts = [f'__name__=~"sample_({names})"']
    all_tags = [tags_of(key) for key in keys]
    for name in TAGS:
        texts = sorted({tags.get(name, "") for tags in all_tags})
        expression = "|".join(re.escape(text).replace("\\-", "-") for text in texts)
        parts.append(f"{name}=~{_quoted(expression)}" if len(texts) > 1 else f"{name}={_quoted(texts[0])}")
    return "{" + ",".join(parts) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
