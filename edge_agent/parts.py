"""What a running agent consists of."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from edge_agent.config import BufferConfig, StatusConfig
from edge_agent.intake import BufferThread, Intake
from edge_agent.link import Link
from edge_agent.pulse import Pulse
from edge_agent.reports import Reports
from edge_agent.running import RunningSources
from edge_agent.status_server import StatusServer
from shopfloor.systemd import Notifier


@dataclass(slots=True)
class Parts:
    """The parts of one agent, which a changed configuration changes one by one."""

    buffer: SqliteBuffer
    """For its owner thread only, which is `thread`."""
    thread: BufferThread
    intake: Intake
    sources: RunningSources
    link: Link
    pulse: Pulse
    reports: Reports
    notifier: Notifier
    status: StatusServer | None = None

    async def close(self) -> None:
        """Close the status page and the connections to the service."""
        if self.status is not None:
            self.status.close()
        await self.link.close()


def buffer_limits(config: BufferConfig) -> BufferLimits:
    """Return how much the buffer may take."""
    return BufferLimits(
        max_bytes=config.max_bytes,
        disk_reserve_bytes=config.disk_reserve,
        when_full=config.when_full,
        repeat_window_samples=config.repeat_window_samples,
    )


def open_status(config: StatusConfig | None, reports: Reports) -> StatusServer | None:
    """Open the status page where one is wanted; raises OSError where its port is taken."""
    if config is None:
        return None
    return StatusServer(*config.address, reports.snapshot, names=config.names)
