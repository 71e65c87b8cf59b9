"""Searches for what patterns and profiles describe, again and again while a session lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final, Never

from asyncua import ua

from edge_agent.sources.opcua.config import NodeConfig, OpcUaConfig
from edge_agent.sources.opcua.coverage import series_id
from edge_agent.sources.opcua.discovery import Discovery
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.nodes import NO_SAMPLES
from edge_agent.sources.opcua.resolve import resolve
from edge_agent.sources.opcua.session import Session
from edge_agent.sources.opcua.walk import walk

_MAX_RETRY_S: Final = 60.0
_REST: Final = 9.0
"""A search is followed by so many times its duration without one, unless it is time for it."""


async def keep_searching(
    live: Live, discovery: Discovery, attach: Callable[[Iterable[int]], Awaitable[None]]
) -> Never:
    """Search at once, every ``rebrowse_s``, when there may be more to find, and sooner while something finds nothing.

    Args:
        live: the session.
        discovery: what was found so far, of this server.
        attach: begins to read nodes, by number.
    """
    config, loop = live.config, asyncio.get_running_loop()
    retry_s = config.retry_s
    while True:
        live.search_wanted.clear()
        began_s = loop.time()
        found = await _search(live, discovery, attach)
        ended_s = loop.time()
        retry_s = config.retry_s if found else min(2 * retry_s, max(_MAX_RETRY_S, config.retry_s))
        wait_s = min(retry_s, config.rebrowse_s) if discovery.searching else config.rebrowse_s
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await live.search_wanted.wait()
        # One search for all that comes back, or changes, together; and a server that never ceases to change is not
        # searched all the time.
        rest_s = max(config.retry_s, _REST * (ended_s - began_s)) if live.search_wanted.is_set() else 0.0
        await asyncio.sleep(max(min(config.retry_s, 1.0), ended_s + rest_s - loop.time()))


async def wanted_nodes(session: Session, config: OpcUaConfig) -> tuple[list[NodeConfig], list[str]]:
    """Return all nodes that a configuration means on a server as it is now, and what its patterns do not find.

    Raises:
        SourceUnavailable: the server does not answer.
    """
    if not config.rules:
        return list(config.nodes), []
    discovery = Discovery(config.rules, [(str(node.asset), node.signal) for node in config.nodes])
    named = await resolve(session, [node.address for node in config.nodes])
    explicit = {node for node in named if isinstance(node, ua.NodeId)}
    found = discovery.learn(await walk(session, config.rules), explicit)
    return [*config.nodes, *found], list(discovery.summary())


async def _search(
    live: Live, discovery: Discovery, attach: Callable[[Iterable[int]], Awaitable[None]]
) -> bool:
    """Search once, and begin to read what is new; return whether anything is."""
    nodes = live.nodes
    await live.session.read_namespaces()
    explicit = {nodes.ids[number] for number in range(len(live.config.nodes)) if number in nodes.ids}
    configs = discovery.learn(await walk(live.session, live.config.rules), explicit)
    numbers = nodes.add(configs)
    live.coverage.add([series_id(node.asset, node.signal) for node in configs])
    state = discovery.unsaved(live.sink.state())
    if state:
        await live.sink.put(NO_SAMPLES, state)
        discovery.saved()
    nodes.search_remarks = list(discovery.summary())
    if numbers:
        await attach(numbers)
    live.report()
    return bool(numbers)
