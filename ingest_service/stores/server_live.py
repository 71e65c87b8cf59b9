"""How several processes on one database show the same live values: PostgreSQL's NOTIFY carries what a commit changed.

A notice is sent in the transaction that moves the watermark: it comes if and only if the samples are there. It holds the
newest sample of each series of a commit (and every sample of a few signals that are counted), packed below the 8,000 bytes
that PostgreSQL takes; where there are more, there are more notices.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import sqlalchemy as sa

from ingest_service.stores import Committed
from ingest_service.stores.latest import newest_order
from ingest_service.stores.server_ledger import CHANNEL
from shopfloor.block import Float64, Int64, UInt8, UInt32
from shopfloor.errors import StoreUnavailable
from shopfloor.signal import SeriesKey

if TYPE_CHECKING:
    import psycopg

MAX_PAYLOAD: Final = 7_900
"""Bytes; PostgreSQL takes less than 8,000 (its manual, NOTIFY)."""
_ROW_BYTES: Final = 4 + 8 + 8 + 8 + 1
_BUDGET: Final = MAX_PAYLOAD * 3 // 4 - 200
_LONG_TEXT: Final = 1_000
"""Bytes of a text that a notice carries; a longer one is read from the store."""
_ANNOUNCEMENT: Final = ":"
"""Begins a payload that says who writes what; base64 has no such character."""
_ASSETS_BYTES: Final = MAX_PAYLOAD - 300
_WAIT_S: Final = 0.5
_AGAIN_S: Final = 1.0
_log = logging.getLogger(__name__)


class Notice(msgspec.Struct, frozen=True, array_like=True):
    """Rows of one commit, as columns of little-endian bytes."""

    origin: str
    """Which process sent it."""
    series_id: bytes
    source_time: bytes
    received_time: bytes
    value: bytes
    quality: bytes
    text: dict[int, str]
    long_text: list[int]
    """Rows whose text has to be read."""


def notices_of(origin: str, rows: Committed, keys: Sequence[SeriesKey], watched: frozenset[str]) -> list[str]:
    """Return the payloads that tell others of a commit."""
    chosen = _chosen(rows, keys, watched)
    notices: list[str] = []
    start = 0
    while start < len(chosen):
        end, budget = start, _BUDGET
        while end < len(chosen):
            text = rows.text.get(int(chosen[end]))
            size = _ROW_BYTES + (min(_LONG_TEXT, len(text.encode())) + 8 if text is not None else 0)
            if size > budget:
                break
            budget -= size
            end += 1
            if not rows.text and end - start >= _BUDGET // _ROW_BYTES:
                break
        notices.append(_pack(origin, rows, chosen[start:end]))
        start = end
    return notices


def announcements_of(origin: str, agent_id: str, assets: Sequence[str]) -> list[str]:
    """Return the payloads that tell others which agent writes some assets."""
    notices: list[str] = []
    part: list[str] = []
    size = 0
    for asset in assets:
        if size + len(asset) > _ASSETS_BYTES:
            notices.append(_announce(origin, agent_id, part))
            part, size = [], 0
        part.append(asset)
        size += len(asset) + 3
    return [*notices, _announce(origin, agent_id, part)] if part else notices


def read_announcement(payload: str) -> tuple[str, str, list[str]] | None:
    """Return origin, agent and assets; None for what is no announcement of ours."""
    try:
        return msgspec.json.decode(payload.removeprefix(_ANNOUNCEMENT), type=tuple[str, str, list[str]])
    except msgspec.MsgspecError:
        return None


def read_notice(payload: str) -> tuple[str, Committed, list[int]] | None:
    """Return a notice's origin, rows, and those whose text has to be read; None for what is no notice of ours."""
    try:
        notice = msgspec.msgpack.decode(base64.b64decode(payload, validate=True), type=Notice)
        rows = Committed(
            np.frombuffer(notice.series_id, "<u4").astype(np.uint32),
            np.frombuffer(notice.source_time, "<i8").astype(np.int64),
            np.frombuffer(notice.received_time, "<i8").astype(np.int64),
            np.frombuffer(notice.value, "<f8").astype(np.float64),
            np.frombuffer(notice.quality, np.uint8),
            notice.text,
        )
    except (ValueError, msgspec.MsgspecError):
        return None
    n = len(rows.series_id)
    columns = (rows.source_time, rows.received_time, rows.value, rows.quality)
    if any(len(column) != n for column in columns) or (n and not rows.series_id.all()):
        return None
    return notice.origin, rows, [row for row in notice.long_text if 0 <= row < n]


def _announce(origin: str, agent_id: str, assets: list[str]) -> str:
    return _ANNOUNCEMENT + msgspec.json.encode((origin, agent_id, assets)).decode()


def _chosen(rows: Committed, keys: Sequence[SeriesKey], watched: frozenset[str]) -> Int64:
    """Return the rows that others have to know: of each series the newest, and all of watched signals."""
    n = len(rows.series_id)
    order = newest_order(rows.source_time, rows.received_time)
    # Of equal times the one further down wins, as it does in the table of newest values.
    by_series = np.lexsort((np.arange(n), order, rows.series_id))
    ids = rows.series_id[by_series]
    last = np.append(ids[1:] != ids[:-1], True)[:n]
    present = ids[last]
    chosen = np.zeros(n, np.bool_)
    chosen[by_series[last]] = True
    counted = [number for number in present.tolist() if keys[number - 1].signal in watched]
    if counted:
        chosen |= np.isin(rows.series_id, counted)
    return np.flatnonzero(chosen)


def _pack(origin: str, rows: Committed, places: Int64) -> str:
    text: dict[int, str] = {}
    long_text: list[int] = []
    if rows.text:
        for row, place in enumerate(places.tolist()):
            line = rows.text.get(place)
            if line is None:
                continue
            if len(line.encode()) <= _LONG_TEXT:
                text[row] = line
            else:
                long_text.append(row)
    notice = Notice(
        origin,
        _bytes(rows.series_id[places], "<u4"),
        _bytes(rows.source_time[places], "<i8"),
        _bytes(rows.received_time[places], "<i8"),
        _bytes(rows.value[places], "<f8"),
        rows.quality[places].tobytes(),
        text,
        long_text,
    )
    return base64.b64encode(msgspec.msgpack.encode(notice)).decode()


def _bytes(column: UInt32 | Int64 | Float64 | UInt8, dtype: str) -> bytes:
    return column.astype(dtype).tobytes()


def with_texts(rows: Committed, texts: Mapping[int, str]) -> Committed:
    """Return rows with further texts."""
    return Committed(
        rows.series_id,
        rows.source_time,
        rows.received_time,
        rows.value,
        rows.quality,
        {**rows.text, **texts},
    )


class Follower:
    """A thread that listens to the other processes.

    Args:
        engine: the database; it is listened to on a connection of the follower's own.
        origin: what marks this process's own notices, which are passed over.
        take: called with the rows of each notice, and the rows whose text has to be read.
        hear: called with an agent and assets that it writes.
        resume: called when listening has begun again after it was interrupted: what was told meanwhile is lost.

    Raises:
        StoreUnavailable: the database does not answer.
    """

    def __init__(
        self,
        engine: sa.Engine,
        origin: str,
        take: Callable[[Committed, list[int]], None],
        hear: Callable[[str, list[str]], None],
        resume: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._origin = origin
        self._take = take
        self._hear = hear
        self._resume = resume
        self._stop = threading.Event()
        import psycopg  # noqa: PLC0415 - who has the embedded store alone need not load it

        try:
            # From here on notices wait for the thread: what is loaded after this misses none.
            connection = self._connect()
        except psycopg.Error as error:
            raise StoreUnavailable(f"the plant store does not answer: {error}") from error
        self._thread = threading.Thread(
            target=self._run, args=(connection,), name="sample-store-follower", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _connect(self) -> psycopg.Connection[Any]:
        arguments, options = self._engine.dialect.create_connect_args(self._engine.url)
        options.update(autocommit=True, connect_timeout=10, application_name="shopfloor live")
        import psycopg  # noqa: PLC0415

        connection = psycopg.connect(*arguments, **options)
        connection.execute(f"LISTEN {CHANNEL}".encode())
        return connection

    def _run(self, connection: psycopg.Connection[Any] | None) -> None:
        import psycopg  # noqa: PLC0415

        while not self._stop.is_set():
            try:
                if connection is None:
                    connection = self._connect()
                    self._resume()
                    _log.info("other processes' live values come again")
                with connection:
                    self._listen(connection)
            except (psycopg.Error, StoreUnavailable, sa.exc.SQLAlchemyError) as error:
                _log.warning("other processes' live values do not come: %s", error)
                self._stop.wait(_AGAIN_S)
            if connection is not None:
                connection.close()
            connection = None

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        while not self._stop.is_set():
            for notify in connection.notifies(timeout=_WAIT_S):
                self._read(notify.payload)
                if self._stop.is_set():
                    return

    def _read(self, payload: str) -> None:
        if payload.startswith(_ANNOUNCEMENT):
            heard = read_announcement(payload)
            if heard is not None and heard[0] != self._origin:
                self._hear(heard[1], heard[2])
            return
        found = read_notice(payload)
        if found is None:
            _log.warning("a notice that is none of ours came over %s", CHANNEL)
        elif found[0] != self._origin:
            self._take(found[1], found[2])
