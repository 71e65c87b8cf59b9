"""How wanted nodes are found on the server and begin to be read, and how those that fail are tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Never

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from edge_agent.sources.opcua.config import SubscribeGroup
from edge_agent.sources.opcua.coverage import Span, State
from edge_agent.sources.opcua.described import name_values
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.nodes import NO_SAMPLES
from edge_agent.sources.opcua.resolve import Problem, resolve
from edge_agent.sources.opcua.session import status_name
from edge_agent.sources.opcua.subscription import Subscriptions


async def attach(live: Live, subscriptions: Subscriptions, numbers: Iterable[int]) -> None:
    """Find nodes on the server and begin to read them; what does not work is noted and tried again."""
    wanted = list(numbers)
    nodes = live.nodes
    found = await resolve(live.session, [nodes.configs[number].address for number in wanted])
    here: dict[int, ua.NodeId] = {}
    problems: dict[int, str] = {}
    for number, result in zip(wanted, found, strict=True):
        if isinstance(result, Problem):
            problems[number] = result.reason
        else:
            here[number] = result
    problems |= await _look_at(live, here)
    await name_values(live, here)
    with subscriptions.joining():
        problems |= await _begin(live, subscriptions, here, problems)
    now_s = asyncio.get_running_loop().time()
    for number, reason in problems.items():
        nodes.fails(number, reason, now_s, live.sink)
    live.attached.set()


async def _begin(
    live: Live, subscriptions: Subscriptions, here: Mapping[int, ua.NodeId], problems: Mapping[int, str]
) -> dict[int, str]:
    """Have what is sound watched or polled, and put into the books since when; return why some can't be watched."""
    nodes = live.nodes
    state: State = {}
    lost: list[Span] = []
    refused: dict[int, str] = {}
    for group in dict.fromkeys(nodes.configs[number].group for number in here):
        members = [
            number for number in here if nodes.configs[number].group == group and number not in problems
        ]
        settings = live.config.group(group)
        at = live.session.server_now()
        if isinstance(settings, SubscribeGroup) and members:
            outcome, at = await subscriptions.monitor(
                group, settings, [(number, here[number]) for number in members]
            )
            failed = {
                number: result.reason
                for number, result in zip(members, outcome, strict=True)
                if result is not None
            }
            refused |= failed
            members = [number for number in members if number not in failed]
        for number in members:
            nodes.works(number, here[number])
        if members:
            more, gone = live.join(group, members, at)
            state |= more
            lost.extend(gone)
    await live.record_lost(lost, "the connection was interrupted, and the server keeps no history")
    if state:
        await live.sink.put(NO_SAMPLES, state)
    return refused


async def _look_at(live: Live, here: dict[int, ua.NodeId]) -> dict[int, str]:
    """Ask which nodes exist and which of them have a history; return why some can't be read."""
    problems: dict[int, str] = {}
    numbers = list(here)
    levels = await live.session.read_attributes(
        [here[number] for number in numbers], AttributeIds.AccessLevel
    )
    for number, level in zip(numbers, levels, strict=True):
        live.nodes.readable.discard(number)
        status = level.StatusCode
        if status is not None and not status.is_good():
            problems[number] = status_name(status.value)
        elif level.Value is not None and isinstance(level.Value.Value, int):
            if level.Value.Value & ua.AccessLevel.HistoryRead.mask:
                live.nodes.readable.add(number)
            if not level.Value.Value & ua.AccessLevel.CurrentRead.mask:
                problems[number] = "the server does not let it be read (AccessLevel)"
    return problems


async def retry(live: Live, subscriptions: Subscriptions) -> Never:
    """Try failed nodes again, each with its own backoff; a program loaded into the controller brings them back."""
    loop = asyncio.get_running_loop()
    while True:
        next_s = live.nodes.next_try_s()
        await asyncio.sleep(live.config.retry_s if next_s is None else max(0.05, next_s - loop.time()))
        live.nodes.settle()
        due = live.nodes.due(loop.time())
        if due:
            await live.session.read_namespaces()
            await attach(live, subscriptions, due)
            if any(number in live.nodes.ids for number in due):
                live.search_wanted.set()
            live.report()
