"""Points become samples: a block of columns, and the lines beside it that belong nowhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from ingest_service.line_protocol.placing import (
    FOREIGN,
    LEFT_OUT,
    NO_NAME,
    PLACED,
    QUALITY,
    STATUS,
    UNMAPPED,
    UNPLACEABLE,
    Places,
    line_series,
)
from ingest_service.line_protocol.points import MAX_PAYLOAD_BYTES, MOST_HOMELESS, Points, TooManySamples
from ingest_service.stores import NOTHING_REFUSED, Refused
from shopfloor.block import (
    STATUS_CLOCK_AHEAD,
    STATUS_NO_SOURCE_TIME,
    STATUS_NOT_A_NUMBER,
    STATUS_NOT_CONVERTIBLE,
    Int64,
    Quality,
    SampleBlock,
    UInt8,
    UInt32,
)

_CLOCK_AHEAD_NS: Final = 60 * 1_000_000_000
_SEVERITY_BITS: Final = 30
"""Of an OPC UA StatusCode (Part 4 §7.39): its severity stands above them."""
LINE_REASONS: Final = ("line_unreadable", "line_unmapped", "line_unplaceable")
_UNREADABLE, _UNMAPPED, _UNPLACEABLE = range(3)
_GOOD_WORDS: Final = ("good", "ok", "0")
_UNCERTAIN_WORDS: Final = ("uncertain", "1")


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """What became of a body."""

    block: SampleBlock
    """Its samples, then one row a line that belongs nowhere, with the line as text."""
    refused: Refused
    """Those rows."""
    all_foreign: bool = False
    """Whether there is something in it, and nothing lies in the token's asset path."""
    digest: bytes = b""
    """Of the samples, where that is all that the body says."""


class _Lines(NamedTuple):
    """``k`` lines that belong nowhere."""

    time: Int64
    reason: UInt8
    payload: list[str]


def build(points: Points, body: bytes, places: Places, now_ns: int) -> Built:
    """Make samples of points.

    Args:
        points: what was read.
        body: what it was read from.
        places: what the token's keys and fields mean; nobody else may use it meanwhile.
        now_ns: our clock, UTC ns: the received time, and the source time of lines without one.

    Raises:
        TooManySamples: more lines than ``MOST_HOMELESS`` belong nowhere.
    """
    meant = places.meaning(points)
    if meant.series is not None and not points.text and not points.faults:
        block = _plain(points, meant.series, places, now_ns)
        digest = hashlib.sha256(meant.digest)
        digest.update(block.source_time.data)
        digest.update(block.value.data)
        return Built(block, NOTHING_REFUSED, digest=digest.digest())
    state, meaning = meant.state, meant.field
    rows = np.flatnonzero(meaning >= 0)
    if points.text:
        rows = _without_replaced(points, meaning, rows)
    quality, status = _line_quality(points, meaning)
    line = points.field_line[rows]
    index = meaning[rows]
    value = points.value[rows]
    text = _renumbered(points.text, rows)
    if quality is not None or status is not None:
        empty = _null_lines(points, state, line, meaning)
        found = [places.null_series(points.keys[key]) for key in points.key_index[empty].tolist()]
        nulls = np.array(found, np.int64)
        line = np.concatenate([line, empty[nulls != LEFT_OUT]])
        index = np.concatenate([index, nulls[nulls >= 0]])
        value = np.concatenate([value, np.full(len(index) - len(value), np.nan)])
    lines = _homeless(points, body, state, meaning, now_ns)
    foreign = index >= FOREIGN
    shared = not lines.payload and not foreign.any()
    table, index = (places.table, index) if shared else places.own_table(index)
    block = SampleBlock(
        table,
        index.astype(np.uint32),
        np.where(points.timed[line], points.time[line], now_ns),
        np.full(len(line), now_ns, np.int64),
        value,
        *_judged(points, line, value, quality, status, text, len(rows), now_ns),
        text,
    )
    if not lines.payload:
        return Built(block, NOTHING_REFUSED, bool(len(foreign) and foreign.all()))
    return _with_lines(block, lines, now_ns, places.asset)


def _plain(points: Points, series: UInt32, places: Places, now_ns: int) -> SampleBlock:
    """Make samples where each field is one, and nothing is said of their quality."""
    line = points.field_line
    alone = len(line) == len(points)
    time = points.time if alone else points.time[line]
    timed = bool(points.timed.all())
    quality, status = np.zeros(len(line), np.uint8), np.zeros(len(line), np.uint32)
    if not timed or time.max() > now_ns + _CLOCK_AHEAD_NS or np.isnan(points.value).any():
        quality, status = _judged(points, line, points.value, None, None, {}, len(line), now_ns)
    if not timed:
        time = np.where(points.timed[line], time, now_ns)
    received = np.full(len(line), now_ns, np.int64)
    return SampleBlock(places.table, series, time, received, points.value, quality, status)


def _without_replaced(points: Points, meaning: Int64, rows: Int64) -> Int64:
    """Leave out the number of a line whose text says the same."""
    texts = np.fromiter(points.text, np.int64, len(points.text))
    said = np.full(len(points), LEFT_OUT, np.int64)
    said[points.field_line[texts]] = meaning[texts]
    is_text = np.zeros(len(meaning), np.bool_)
    is_text[texts] = True
    kept: Int64 = rows[is_text[rows] | (meaning[rows] != said[points.field_line[rows]])]
    return kept


def _renumbered(text: dict[int, str], rows: Int64) -> dict[int, str]:
    if not text or not len(rows):
        return {}
    texts = np.fromiter(text, np.int64, len(text))
    place = np.searchsorted(rows, texts)
    found = rows[np.minimum(place, len(rows) - 1)] == texts
    words = list(text.values())
    chosen = zip(np.flatnonzero(found).tolist(), place[found].tolist(), strict=True)
    return {row: words[number] for number, row in chosen}


def _line_quality(points: Points, meaning: Int64) -> tuple[UInt8 | None, UInt32 | None]:
    """Return the quality and the status of each line, None where no line has one."""
    status = quality = None
    rows = np.flatnonzero(meaning == STATUS)
    if len(rows):
        status = np.zeros(len(points), np.uint32)
        code = points.value[rows]
        sound = (code >= 0) & (code < 2**32)
        status[points.field_line[rows[sound]]] = code[sound].astype(np.uint32)
        quality = np.minimum(status >> _SEVERITY_BITS, Quality.BAD).astype(np.uint8)
    rows = np.flatnonzero(meaning == QUALITY)
    if len(rows):
        quality = np.zeros(len(points), np.uint8) if quality is None else quality
        number = points.value[rows]
        said = np.where((number == Quality.GOOD) | (number == Quality.UNCERTAIN), number, Quality.BAD).astype(
            np.uint8
        )
        quality[points.field_line[rows]] = said
        texts = np.fromiter(points.text, np.int64, len(points.text))
        named = np.flatnonzero(meaning[texts] == QUALITY)
        words = list(points.text.values())
        quality[points.field_line[texts[named]]] = [quality_of(words[number]) for number in named.tolist()]
    return quality, status


@lru_cache(maxsize=1024)
def quality_of(word: str) -> Quality:
    """Return what a word says of a value's quality: ``Good``, ``OK (0x0)``, ``Uncertain``; any other is bad."""
    small = word.strip().lower()
    if small.startswith(_GOOD_WORDS):
        return Quality.GOOD
    return Quality.UNCERTAIN if small.startswith(_UNCERTAIN_WORDS) else Quality.BAD


def _null_lines(points: Points, state: UInt8, line: Int64, meaning: Int64) -> Int64:
    """Return the lines that have a quality or a status and no value: null is one, too."""
    says = np.zeros(len(points), np.bool_)
    says[points.field_line[(meaning == QUALITY) | (meaning == STATUS)]] = True
    says[line] = False
    return np.flatnonzero(says & (state == PLACED))


def _judged(
    points: Points,
    line: Int64,
    value: np.ndarray[tuple[int], np.dtype[np.float64]],
    line_quality: UInt8 | None,
    line_status: UInt32 | None,
    text: dict[int, str],
    given: int,
    now_ns: int,
) -> tuple[UInt8, UInt32]:
    """Return quality and status of each sample; the first ``given`` have a value or a text in their line."""
    n = len(line)
    quality = np.zeros(n, np.uint8) if line_quality is None else line_quality[line]
    status = np.zeros(n, np.uint32) if line_status is None else line_status[line]
    ahead = points.time[line] > now_ns + _CLOCK_AHEAD_NS
    if ahead.any():
        quality = np.where(ahead, np.maximum(quality, Quality.UNCERTAIN), quality).astype(np.uint8)
        status = np.where(ahead & (status == 0), STATUS_CLOCK_AHEAD, status).astype(np.uint32)
    lost = np.isnan(value)
    if lost.any():
        lost[given:] = False
        if text:
            lost[list(text)] = False
        quality[lost] = Quality.BAD
        status = np.where(lost & (status == 0), STATUS_NOT_A_NUMBER, status).astype(np.uint32)
    timed = points.timed[line]
    if not timed.all():
        status = np.where(~timed & (status == 0), STATUS_NO_SOURCE_TIME, status).astype(np.uint32)
    return quality, status


def _homeless(points: Points, body: bytes, state: UInt8, meaning: Int64, now_ns: int) -> _Lines:
    """Gather the lines, or single fields, that become no sample though nobody said that they should not."""
    lines = np.flatnonzero((state == UNMAPPED) | (state == UNPLACEABLE))
    fields = np.flatnonzero(meaning == NO_NAME)
    faults = points.faults
    if len(lines) + len(fields) + len(faults) > MOST_HOMELESS:
        raise TooManySamples
    payload = [_payload(fault.raw) for fault in faults]
    if len(lines):
        start = np.concatenate(
            [[0], np.flatnonzero(np.frombuffer(body, np.uint8) == 0x0A) + 1, [len(body) + 1]]
        )
        for number in points.number[lines].tolist():
            end = points.spans.get(number, int(start[number + 1]) - 1)
            payload.append(
                _payload(body[int(start[number]) : min(end, int(start[number]) + MAX_PAYLOAD_BYTES)])
            )
    payload.extend(_one_field(points, row) for row in fields.tolist())
    homeless = np.concatenate([lines, points.field_line[fields]])
    time = np.where(points.timed[homeless], points.time[homeless], now_ns)
    reason = np.concatenate(
        [
            np.full(len(faults), _UNREADABLE, np.uint8),
            np.where(state[lines] == UNMAPPED, _UNMAPPED, _UNPLACEABLE).astype(np.uint8),
            np.full(len(fields), _UNPLACEABLE, np.uint8),
        ]
    )
    return _Lines(np.concatenate([np.full(len(faults), now_ns, np.int64), time]), reason, payload)


def _payload(raw: bytes) -> str:
    # PostgreSQL takes no zero byte in a text.
    return _cut(raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00"))


def _cut(text: str) -> str:
    """Return as much of a text as one may have; what is no UTF-8 has become four times as long."""
    if len(text) <= MAX_PAYLOAD_BYTES // 4:
        return text
    return text.encode()[:MAX_PAYLOAD_BYTES].decode("utf-8", "ignore")


def _one_field(points: Points, row: int) -> str:
    """Return a line with just one field, written anew."""
    line = int(points.field_line[row])
    key = _payload(points.keys[int(points.key_index[line])])
    name = points.names[int(points.name_index[row])]
    for sign in ", =":
        name = name.replace(sign, "\\" + sign)
    text = points.text.get(row)
    value = (
        repr(float(points.value[row]))
        if text is None
        else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )
    return _cut(f"{key} {name}={value}" + (f" {points.time[line]}" if points.timed[line] else ""))


def _with_lines(block: SampleBlock, lines: _Lines, now_ns: int, asset: str) -> Built:
    """Append lines that belong nowhere."""
    n, k = len(block), len(lines.payload)
    joined = SampleBlock(
        (*block.series, line_series(asset)),
        np.concatenate([block.series_index, np.full(k, len(block.series), np.uint32)]),
        np.concatenate([block.source_time, lines.time]),
        np.concatenate([block.received_time, np.full(k, now_ns, np.int64)]),
        np.concatenate([block.value, np.full(k, np.nan)]),
        np.concatenate([block.quality, np.full(k, Quality.BAD, np.uint8)]),
        np.concatenate([block.status, np.full(k, STATUS_NOT_CONVERTIBLE, np.uint32)]),
        {**block.text, **{n + number: payload for number, payload in enumerate(lines.payload)}},
    )
    return Built(joined, Refused(np.arange(n, n + k), lines.reason, LINE_REASONS))
