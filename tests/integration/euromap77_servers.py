"""A EUROMAP 77 server on a free loopback port, without physics behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from asyncua.client.client import Client
from asyncua.common.node import Node

from shopfloor import configfile
from simulators.protocols.opcua import PlantServer
from simulators.protocols.opcua_types import NAMESPACES
from simulators.protocols.tcd import Tcu
from simulators.scenario import SiteConfig
from tests.ports import free_port

URI = "urn:shopfloor:simulator:acme:hk01"
TCU = Tcu("tcu-01")


def site(*machines: str, port: int | None = None) -> SiteConfig:
    listed = "".join(
        f"  - {{{machine}}}\n"
        for machine in machines or ("cell: imm-01, zones: 3", "cell: imm-02, zones: 4, drive: electric")
    )
    text = f"""
asset: acme/hk01
name: Hong Kong
time_zone: Asia/Hong_Kong
opcua_port: {port or free_port()}
tcus: [{{cell: {TCU.name}}}]
machines:
{listed}"""
    return configfile.parse(text, SiteConfig, Path("site.yaml"))


@asynccontextmanager
async def serving(*machines: str, **arguments: Any) -> AsyncIterator[PlantServer]:
    server = PlantServer(site(*machines), "127.0.0.1", **arguments)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def connected(server: PlantServer) -> AsyncIterator[Client]:
    async with Client(server.endpoint) as client:
        yield client


async def at(client: Client, *path: str) -> Node:
    """Return the node at a path below Objects; each step with the letter of its namespace."""
    uris = await client.get_namespace_array()
    letters = {**NAMESPACES, "own": URI}
    steps = []
    for step in path:
        letter, _, name = step.rpartition(":")
        steps.append(f"{uris.index(letters[letter]) if letter else 0}:{name}")
    return await client.nodes.objects.get_child(steps)


def number(server: PlantServer, name: str, signal: str) -> int:
    """Return how a server counts a variable."""
    return next(
        place
        for place, (cell, variable) in enumerate(server.variables)
        if (cell, variable.signal) == (name, signal)
    )
