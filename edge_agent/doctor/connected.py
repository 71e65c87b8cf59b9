"""What can only be found out by connecting: ``shopfloor edge doctor``."""

from __future__ import annotations

import asyncio

from edge_agent.config import Config, SourceConfig
from edge_agent.doctor.disk import measure_commit
from edge_agent.doctor.holding import look_at_buffer
from edge_agent.doctor.uplink import look_at_uplink
from shopfloor.findings import Section
from shopfloor.owner import nearest

_AT_A_TIME = 8
"""Sources that are looked at together."""


async def look_at_everything(config: Config, listen_s: float) -> list[Section]:
    """Return a section for the buffer, the uplink and each source, in this order.

    Args:
        config: what a user wrote.
        listen_s: how long to wait for messages of each broker, in seconds.
    """
    at_work = asyncio.Semaphore(_AT_A_TIME)

    async def look(entry: SourceConfig) -> Section:
        async with at_work:
            return await _source(entry, config, listen_s, commit.figures.get("commit_median_s"))

    # Before anything else runs: it is to be the disk's figure, not that of a busy computer.
    commit = measure_commit(nearest(config.data))
    async with asyncio.TaskGroup() as tasks:
        uplink = tasks.create_task(look_at_uplink(config))
        sources = [tasks.create_task(look(entry)) for entry in config.sources]
    return [
        Section("buffer", [commit, *look_at_buffer(config)]),
        Section("uplink", uplink.result()),
        *(source.result() for source in sources),
    ]


async def _source(entry: SourceConfig, config: Config, listen_s: float, commit_s: float | None) -> Section:
    if entry.opcua is not None:
        from edge_agent.doctor.opcua import look_at_opcua  # noqa: PLC0415  only what is configured

        return await look_at_opcua(entry.opcua, agent_id=config.agent.id, pki=config.data / "pki")
    from edge_agent.doctor.brokers import look_at_mqtt, look_at_sparkplug  # noqa: PLC0415

    if entry.mqtt is not None:
        return await look_at_mqtt(entry.mqtt, listen_s, commit_s)
    assert entry.sparkplug is not None
    return await look_at_sparkplug(entry.sparkplug, listen_s)
