"""OPC UA's own namespace, built once a process: filling it takes asyncua over a second for every server."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData, NodeManagementService
from asyncua.server.internal_server import InternalServer
from asyncua.server.standard_address_space import standard_address_space

_SIMPLE: Final = (type(None), int, float, str, bytes, ua.NodeId, ua.QualifiedName, ua.LocalizedText)


class SharingServer(InternalServer):
    """An asyncua server whose namespace 0 is a copy of one that all such servers of the process were made from."""

    async def load_standard_address_space(self, shelf_file: Path | None = None) -> None:  # noqa: ARG002
        """Fill the address space; called by asyncua."""
        standard = await asyncio.to_thread(_standard)
        for node_id in standard.keys():  # noqa: SIM118  (no iterator of its own)
            self.aspace[node_id] = _copied(standard[node_id])


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Put off garbage collection while an address space is built: all of it stays, and looking at it takes half the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@functools.cache
def _standard() -> AddressSpace:
    space = AddressSpace()
    fill: Any = standard_address_space.fill_address_space
    fill(NodeManagementService(space))
    return space


def _copied(node: NodeData) -> NodeData:
    """Return a node that can be changed alone: asyncua replaces simple values, but changes structures in place."""
    made = NodeData(node.nodeid)
    made.references = list(node.references)
    made.call = node.call
    for attribute, held in node.attributes.items():
        value: Any = held.value
        if value is not None and value.Value is not None and not isinstance(value.Value.Value, _SIMPLE):
            value = copy.deepcopy(value)
        made.attributes[attribute] = AttributeValue(value)
    return made
