"""Takes over a changed configuration while the agent runs: everything that can fail first, then all of it."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Final, Never

import msgspec

from edge_agent.config import Config, StatusConfig
from edge_agent.link import connect_uplink
from edge_agent.parts import Parts, buffer_limits, open_status
from edge_agent.reload import FileWatch, Loaded, fixed_problems, log_refusal, read, wait_for_change
from edge_agent.running import Changes
from edge_agent.status_server import StatusServer
from edge_agent.uplink import AiohttpExchange
from shopfloor import logs
from shopfloor.errors import ConfigError

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 2.0


class Takeover:
    """Follows one configuration file."""

    def __init__(self, parts: Parts, tasks: asyncio.TaskGroup, path: Path, asked: asyncio.Event) -> None:
        """Follow a file.

        Args:
            parts: of the running agent.
            tasks: the group in which its tasks run.
            path: the configuration file.
            asked: set by whoever wants the file to be read again.
        """
        self._parts, self._tasks, self._path, self._asked = parts, tasks, path, asked
        self._watch = FileWatch(path)

    async def run(self) -> Never:
        """Follow the file for ever."""
        # It may have changed between the reading of it and now.
        await self._look(forced=False)
        while True:
            forced = await wait_for_change(self._watch, self._asked, LOOK_EVERY_S)
            notifier = self._parts.notifier
            notifier.reloading()
            await self._look(forced=forced)
            notifier.ready()

    async def _look(self, *, forced: bool) -> None:
        """Take over the file as it is now, or refuse it."""
        reports = self._parts.reports
        known = None if forced else reports.config_report.hash
        try:
            loaded = await asyncio.to_thread(read, self._path, known)
            if loaded is None or loaded.config == reports.config:
                self._is_running(loaded)
                return
            await self._take(loaded)
        except ConfigError as error:
            self._refuse(tuple(error.problems))
        except Exception as error:
            # Whatever a file holds, the running configuration goes on.
            log.exception("the configuration file can't be judged")
            self._refuse((f"{self._path}: {type(error).__name__}: {error}",))

    def _is_running(self, loaded: Loaded | None) -> None:
        """Note that the file says what runs already."""
        report = self._parts.reports.config_report
        if not report.valid:
            log.info("the configuration file is again the one that runs")
        self._parts.reports.config_report = msgspec.structs.replace(
            report, valid=True, problems=(), hash=loaded.hash if loaded else report.hash
        )

    def _refuse(self, problems: tuple[str, ...]) -> None:
        report = self._parts.reports.config_report
        log_refusal(problems)
        self._parts.reports.config_report = msgspec.structs.replace(
            report, valid=False, problems=problems, refusals_total=report.refusals_total + 1
        )

    async def _take(self, loaded: Loaded) -> None:
        """Take over a valid configuration.

        Raises:
            ConfigError: something that it wants can't be had; everything is as it was.
        """
        parts, config = self._parts, loaded.config
        logs.hide_secrets(config)
        before = parts.reports.config
        fixed = await asyncio.to_thread(fixed_problems, before, config, self._path)
        if fixed:
            raise ConfigError(fixed)
        exchange, status = None, parts.status
        try:
            exchange = connect_uplink(config) if parts.link.leads_elsewhere(config.uplink) else None
            status = self._status(before.status, config.status)
            changes = parts.sources.changes(config)
            made = parts.sources.make(config, (*changes.added, *changes.restarted))
        except Exception as error:
            # Whatever the next configuration is, the running one goes on.
            if exchange is not None:
                await exchange.close()
            if status is not None and status is not parts.status:
                status.close()
            raise ConfigError([f"{self._path}: {error or type(error).__name__}"]) from error
        report = parts.reports.config_report
        parts.reports.config = config
        parts.reports.config_report = msgspec.structs.replace(
            report,
            hash=loaded.hash,
            loaded_ns=time.time_ns(),
            valid=True,
            problems=(),
            reloads_total=report.reloads_total + 1,
        )
        await self._apply(config, exchange, status)
        await parts.sources.change_to(config, changes, made)
        log.info(
            "configuration taken over: %s; uplink %s",
            _told(
                changes, {entry.scope: entry.settings.name for entry in (*before.sources, *config.sources)}
            ),
            "connects anew" if exchange else "goes on",
            extra={"config_hash": loaded.hash},
        )

    def _status(self, before: StatusConfig | None, after: StatusConfig | None) -> StatusServer | None:
        """Return the status page that is wanted; raises OSError where it can't be opened."""
        is_same = before is not None and after is not None and before.address == after.address
        if is_same and self._parts.status is not None:
            return self._parts.status
        return open_status(after, self._parts.reports)

    async def _apply(
        self, config: Config, exchange: AiohttpExchange | None, status: StatusServer | None
    ) -> None:
        parts = self._parts
        limits = buffer_limits(config.buffer)
        await parts.thread.call(lambda _: parts.buffer.limit(limits))
        parts.intake.min_commit_interval_s = config.buffer.min_commit_interval_ms / 1000
        old, parts.status = parts.status, status
        if old is not None and old is not status:
            # It waits for its thread.
            await asyncio.to_thread(old.close)
        if status is not None and config.status is not None:
            status.call_it(config.status.names)
        await parts.link.change_to(config.uplink, exchange, self._tasks, parts.reports)


def _told(changes: Changes, names: dict[str, str]) -> str:
    """Return what happens to the sources, for the log."""
    parts = [
        f"{what} {', '.join(names[scope] for scope in scopes)}"
        for what, scopes in zip(("added", "restarted", "removed"), changes, strict=True)
        if scopes
    ]
    return "; ".join(parts) or "no source changed"
