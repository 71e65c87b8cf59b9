"""The thread that rewrites: closes hot files, makes parts of them, merges parts, keeps the ledger small.

It never holds what a writer or a reader waits for longer than a commit does. As long as it is not behind it rests
between pieces, so that it takes a stated share of one core.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from ingest_service.stores.duckdb_catalog import DAY_NS, Part, Pins, view_of
from ingest_service.stores.duckdb_compaction import absorb, commit_absorbed, merge_parts
from ingest_service.stores.duckdb_hot_file import Hot
from ingest_service.stores.duckdb_keeping import Keeping
from ingest_service.stores.duckdb_ledger import join_ledger
from ingest_service.stores.duckdb_plan import plan_merge
from ingest_service.stores.duckdb_retention import expire, renew_rules
from ingest_service.stores.duckdb_run import Workshop
from ingest_service.stores.duckdb_schema import Tuning, hots
from ingest_service.stores.duckdb_writer import Writer
from shopfloor.errors import StoreUnavailable

Cursor = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]
Request = Callable[[], None]

_LOOK_S: Final = 1.0
_RETRY_S: Final = 10.0
_WORTH_A_FILE: Final = 1_000_000
_LEDGER_S: Final = 300.0
_RETENTION_S: Final = 600.0
_NICE: Final = 10
_NOT_BEHIND: Final = 8
"""Closed hot files up to which rewriting leaves the processor to what comes: a burst goes by."""
_AT_ONCE: Final = 3
"""Full hot files that are rewritten together where so many wait: memory against the work of merging their parts."""
_FAULTS: Final = (duckdb.Error, pa.ArrowException, OSError, StoreUnavailable)
_log = logging.getLogger(__name__)


class Backlog(NamedTuple):
    """What waits to be rewritten."""

    generations: int
    """Hot files that are closed."""
    hot_rows: int
    """Rows of the one that takes what comes."""


class Compactor:
    """Owns the thread. ``close`` ends it after the step it is at."""

    def __init__(
        self,
        shop: Callable[[Callable[[float], None]], Workshop],
        cursor: Cursor,
        writer: Writer,
        pins: Pins,
        tuning: Tuning,
    ) -> None:
        self._shop = shop(self._rest)
        self._cursor = cursor
        self._writer = writer
        self._pins = pins
        self._tuning = tuning
        self._wake = threading.Condition()
        self._closing = False
        self._requests: list[tuple[Request, Future[None]]] = []
        self._ledger_due = time.monotonic() + _LEDGER_S
        self._retention_due = time.monotonic()
        self._hurrying = False
        self._thread = threading.Thread(target=self._run, name="sample-store-compactor", daemon=True)
        self._thread.start()

    def backlog(self) -> Backlog:
        """Return what waits."""
        return Backlog(self._writer.behind, self._writer.hot.rows)

    def ask(self, request: Request) -> Future[None]:
        """Run something on the compactor's thread, between its own steps."""
        done: Future[None] = Future()
        with self._wake:
            if self._closing:
                raise StoreUnavailable("the store is closing")
            self._requests.append((request, done))
            self._wake.notify()
        return done

    def settle(self) -> None:
        """Rewrite everything there is: no hot row, one run a day. For the thread itself: see `ask`."""
        self._hurrying = True
        try:
            if self._writer.hot.rows:
                self._writer.begin_generation()
            while self._absorb_next(everything=True):
                pass
            while self._merge_next(everything=True):
                pass
            self._expire()
            self._join_ledger()
            self._pins.sweep()
        finally:
            self._hurrying = False

    def close(self) -> None:
        """End the thread; what it is at is finished or undone."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        for _, done in self._requests:
            done.set_exception(StoreUnavailable("the store is closing"))
        self._pins.sweep()

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            # On Linux a thread has a priority of its own: requests come first.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        pause = _LOOK_S
        while True:
            with self._wake:
                if not self._closing and not self._requests:
                    self._wake.wait(pause)
                if self._closing:
                    return
                requests, self._requests = self._requests, []
            for request, done in requests:
                try:
                    request()
                except BaseException as error:  # noqa: BLE001 - handed to whoever asked
                    done.set_exception(error)
                else:
                    done.set_result(None)
            try:
                pause = 0.0 if self._tuning.compaction and self._step() else _LOOK_S
                self._pins.sweep()
            except _Closing:
                return
            except _FAULTS as error:
                # A full disk, for one: rows stay hot and can be read, and it is tried again.
                _log.warning("rewriting failed and is tried again: %s", error)
                pause = _RETRY_S
            except Exception:  # noqa: BLE001 - a mistake in here must not end what keeps the store small
                _log.exception("rewriting failed and is tried again")
                pause = _RETRY_S

    def _step(self) -> bool:
        """Do one thing; tell whether there may be more."""
        if self._is_due():
            self._writer.begin_generation(self._is_due)
        if self._absorb_next(everything=False):
            return True
        if self._merge_next(everything=False):
            return True
        now = time.monotonic()
        if now >= self._ledger_due:
            self._ledger_due = now + _LEDGER_S
            self._join_ledger()
        if now >= self._retention_due:
            self._retention_due = now + _RETENTION_S
            self._expire()
        return False

    def _is_due(self) -> bool:
        rows, age_s = self._writer.hot.rows, time.monotonic() - self._writer.hot_since
        full = rows >= self._tuning.hot_rows or self._writer.commits >= self._tuning.hot_commits
        return full or (
            age_s >= self._tuning.hot_s
            # A slow plant's rows become a file once a day.
            and rows >= (_WORTH_A_FILE if age_s < 86_400 else self._tuning.least_rows)
        )

    def _absorb_next(self, *, everything: bool) -> bool:
        closed = self._closed()
        waiting = [hot for hot in closed if hot.number > 0]
        # Rows that stayed hot go on with those of the next generation; a burst makes fewer, larger parts.
        chosen = [hot for hot in closed if hot.number < 0] + waiting[:1]
        rows = sum(hot.rows for hot in chosen)
        for hot in waiting[1:]:
            rows += hot.rows
            if rows > _AT_ONCE * self._tuning.hot_rows:
                break
            chosen.append(hot)
        if not waiting and not (everything and chosen):
            return False
        with self._pins.reading(), self._cursor() as cursor:
            absorbed = absorb(self._shop, chosen, everything=everything)
            commit_absorbed(self._shop, cursor, absorbed)
        self._closed()
        for hot in chosen:
            self._pins.remove_later(partial(self._drop, hot.number))
        return True

    def _closed(self) -> list[Hot]:
        """Return the hot files that nobody writes to any more, and tell the writer how many wait."""
        with self._cursor() as cursor:
            closed = [hot for hot in hots(cursor) if hot.number < self._writer.hot.number]
        self._writer.behind = sum(hot.number > 0 for hot in closed)
        return closed

    def _merge_next(self, *, everything: bool) -> bool:
        with self._cursor() as cursor:
            parts = plan_merge(view_of(cursor).parts, self._shop.clock_ns(), everything=everything)
            if parts is None:
                return False
            merge_parts(self._shop, cursor, parts)
        for part in parts:
            self._pins.remove_later(partial(self._remove, part))
        return True

    def _expire(self) -> None:
        with self._cursor() as cursor:
            for part in renew_rules(self._shop, cursor):
                self._pins.remove_later(partial(self._remove, part))
        if self._too_old_and_hot():
            self._writer.begin_generation()
            while self._absorb_next(everything=True):
                pass
        with self._cursor() as cursor:
            for part in expire(self._shop, cursor):
                self._pins.remove_later(partial(self._remove, part))

    def _too_old_and_hot(self) -> bool:
        """Tell whether hot rows are older than their rule allows: they have to become files to be removed."""
        days = {name: Keeping.parse(name).raw_days for name in self._shop.classes.names}
        bounds = np.array(
            [
                -(2**63) if raw_days is None else (self._shop.clock_ns() // DAY_NS - raw_days) * DAY_NS
                for raw_days in days.values()
            ],
            np.int64,
        )
        if not any(raw_days is not None for raw_days in days.values()):
            return False
        with self._pins.reading(), self._cursor() as cursor:
            classes = self._shop.classes.of_series()
            for rows in self._shop.files.hot.pieces(hots(cursor)):
                if np.any(rows.source_time < bounds[classes[rows.series_id]]):
                    return True
        return False

    def _join_ledger(self) -> None:
        with self._cursor() as cursor:
            join_ledger(cursor, self._shop.clock_ns(), self._shop.at)

    def _drop(self, number: int) -> None:
        self._shop.files.hot.forget(number)
        self._shop.at("hot file removed")

    def _remove(self, part: Part) -> None:
        if part.file is not None:
            self._shop.files.forget(part.file)
            (self._shop.folder / part.file).unlink(missing_ok=True)
            self._shop.at("file removed")

    def _rest(self, worked_s: float) -> None:
        if self._closing:
            raise _Closing("the store is closing")
        share = self._tuning.compaction_share
        if not self._hurrying and self._writer.behind <= _NOT_BEHIND and share < 1:
            time.sleep(min(1.0, worked_s * (1 - share) / share))


class _Closing(StoreUnavailable):
    """The store closes: the present step is given up."""
