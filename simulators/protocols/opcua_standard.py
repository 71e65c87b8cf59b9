"""OPC UA's own namespace, built once a process: filling it takes asyncua over a second for every server."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from asyncua import ua
from asyncua.server.address_space import AddressSpace, AttributeValue, NodeData, NodeManagementService
from asyncua.server.internal_server import InternalServer
from asyncua.server.standard_address_space import standard_address_space
from asyncua.ua.attribute_ids import AttributeIds

_SIMPLE: Final = (type(None), int, float, str, bytes, ua.NodeId, ua.QualifiedName, ua.LocalizedText)
Structures: TypeAlias = dict[ua.NodeId, dict[AttributeIds, ua.DataValue | None]]
"""Values that are structures, by node and attribute."""


class SharingServer(InternalServer):
    """An asyncua server whose namespace 0 is a copy of one that all such servers of the process were made from."""

    async def load_standard_address_space(self, shelf_file: Path | None = None) -> None:  # noqa: ARG002
        """Fill the address space; called by asyncua."""
        standard, structures = await asyncio.to_thread(_standard)
        # asyncua replaces simple values, but changes structures in place; nothing copies them as fast as this.
        own: Structures = pickle.loads(structures)  # noqa: S301 - dumped by this process
        for node_id in standard.keys():  # noqa: SIM118  (no iterator of its own)
            self.aspace[node_id] = _copied(standard[node_id], own.get(node_id, {}))


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
def _standard() -> tuple[AddressSpace, bytes]:
    """Return namespace 0, and its values that are structures, pickled."""
    space = AddressSpace()
    fill: Any = standard_address_space.fill_address_space
    with without_collection():
        fill(NodeManagementService(space))
    structures: Structures = {}
    for node_id in space.keys():  # noqa: SIM118  (no iterator of its own)
        for attribute, held in space[node_id].attributes.items():
            value: Any = held.value
            if value is not None and value.Value is not None and not isinstance(value.Value.Value, _SIMPLE):
                structures.setdefault(node_id, {})[attribute] = value
    return space, pickle.dumps(structures, pickle.HIGHEST_PROTOCOL)


def _copied(node: NodeData, own: Mapping[AttributeIds, ua.DataValue | None]) -> NodeData:
    """Return a node that can be changed alone."""
    made = NodeData(node.nodeid)
    made.references = list(node.references)
    made.call = node.call
    for attribute, held in node.attributes.items():
        value: Any = own.get(attribute, held.value)
        made.attributes[attribute] = AttributeValue(value)
    return made
