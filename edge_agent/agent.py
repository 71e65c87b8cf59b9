"""One edge agent: its sources, its buffer, its way up, and what it says of itself."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Never

from edge_agent.buffer.sqlite import SqliteBuffer
from edge_agent.config import Config
from edge_agent.intake import BufferThread, Intake
from edge_agent.link import Link, connect_uplink
from edge_agent.parts import Parts, buffer_limits, open_status
from edge_agent.pulse import Pulse
from edge_agent.reports import Reports
from edge_agent.running import MakeSource, RunningSources, make_source
from edge_agent.sink import SourceSink
from edge_agent.status import ConfigReport
from edge_agent.takeover import Takeover
from edge_agent.version import agent_version
from shopfloor.systemd import Notifier


class Agent:
    """Everything that one configuration starts, and the next one changes."""

    def __init__(
        self,
        config: Config,
        config_hash: str,
        *,
        path: Path | None = None,
        notifier: Notifier | None = None,
        make: MakeSource = make_source,
    ) -> None:
        """Nothing runs yet.

        Args:
            config: what to run.
            config_hash: of the text that it was read from, see `hash_of`.
            path: the file, which is watched for changes; None to run this configuration for ever.
            notifier: told how the agent is; None for nobody.
            make: makes sources of their entries.
        """
        self._config, self._path, self._make = config, path, make
        self._config_report = ConfigReport(
            hash=config_hash, loaded_ns=time.time_ns(), file=str(path.absolute()) if path else ""
        )
        self._notifier = notifier or Notifier()
        self._events: Counter[tuple[str, str]] = Counter()
        self._reload_asked = asyncio.Event()
        self.stubborn: tuple[str, ...] = ()
        """Names of the sources that did not end when the agent did."""

    def reload(self) -> None:
        """Read the file again, also if it seems unchanged: a secret in another file may be new."""
        self._reload_asked.set()

    async def run(self, ready: asyncio.Event | None = None) -> Never:
        """Run until cancelled; then everything is closed, and what is not delivered waits on disk.

        Raises:
            StoreUnavailable: the data folder can't be used.
            OSError: the status page's port is taken, or a certificate can't be read.
        """
        config = self._config
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="buffer") as executor:
            buffer = await loop.run_in_executor(
                executor, SqliteBuffer, config.data, buffer_limits(config.buffer), config.agent.id
            )
            try:
                await self._work(buffer, BufferThread(buffer, executor), ready)
            finally:
                await loop.run_in_executor(executor, buffer.close)
        raise AssertionError("the agent's tasks run for ever")

    async def _work(self, buffer: SqliteBuffer, thread: BufferThread, ready: asyncio.Event | None) -> None:
        parts = self._parts(buffer, thread)
        try:
            await parts.reports.refresh()
            parts.status = open_status(self._config.status, parts.reports)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(parts.intake.run(), name="intake")
                tasks.create_task(parts.pulse.run(), name="pulse")
                tasks.create_task(self._notifier.feed_watchdog(parts.pulse.is_well), name="watchdog")
                try:
                    await self._start(parts, tasks)
                    if ready is not None:
                        ready.set()
                    self._notifier.ready()
                    await parts.sources.failed()
                finally:
                    # While the intake still runs: a source may have something to save as it closes.
                    self._notifier.stopping()
                    await parts.sources.stop()
                    self.stubborn = parts.sources.stubborn
        finally:
            await parts.close()

    def _parts(self, buffer: SqliteBuffer, thread: BufferThread) -> Parts:
        config = self._config
        # First, since it alone can fail.
        exchange = connect_uplink(config)
        intake = Intake(thread, min_commit_interval_s=config.buffer.min_commit_interval_ms / 1000)
        sources = RunningSources(intake, thread, self._events, make=self._make)
        link = Link(config.agent.id, config.uplink, exchange, thread, intake)
        pulse = Pulse(thread)
        reports = Reports(
            config,
            self._config_report,
            buffer=thread,
            intake=intake,
            sources=sources,
            delivery=link.delivery,
            uplink=link.uplink,
            pulse=pulse,
            notifier=self._notifier,
        )
        return Parts(buffer, thread, intake, sources, link, pulse, reports, self._notifier)

    async def _start(self, parts: Parts, tasks: asyncio.TaskGroup) -> None:
        sources = parts.sources
        changes = sources.changes(self._config)
        await sources.change_to(self._config, changes, sources.make(self._config, changes.added))
        parts.link.start(tasks, parts.reports)
        if self._path is not None:
            takeover = Takeover(parts, tasks, self._path, self._reload_asked)
            tasks.create_task(takeover.run(), name="configuration")


__all__: Sequence[str] = ["Agent", "SourceSink", "agent_version", "connect_uplink"]
