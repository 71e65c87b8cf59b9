"""A site's machines as one OPC UA server with the browse names of EUROMAP 77, with history."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from shopfloor.asset import AssetPath
from shopfloor.errors import StoreUnavailable
from simulators.protocols import euromap77
from simulators.protocols.euromap77 import Raw, Variable
from simulators.protocols.opcua_history import (
    MAX_NODES_PER_READ,
    RawHistory,
    SeriesHistory,
    data_value,
)
from simulators.protocols.opcua_space import build_machines
from simulators.protocols.opcua_standard import SharingServer
from simulators.scenario import SiteConfig

MAX_NODES_PER_CALL: Final = 1_000
"""For every service but HistoryRead; what one answer of that size costs is well below a second."""
HISTORY_MS: Final = 2 * 3600 * 1000
_PRODUCT_URI: Final = "urn:shopfloor:simulator"
_LIMITS: Final = {
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead: MAX_NODES_PER_CALL,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerWrite: MAX_NODES_PER_CALL,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse: MAX_NODES_PER_CALL,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds: MAX_NODES_PER_CALL,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall: MAX_NODES_PER_CALL,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData: MAX_NODES_PER_READ,
}


class NodeMapping(NamedTuple):
    """How one variable becomes a series: what an agent's configuration says about it."""

    node: str
    """``nsu=URI;s=NAME``."""
    asset: AssetPath
    signal: str
    unit: str
    description: str
    scale: float
    offset: float


def node_mappings(site: SiteConfig) -> list[NodeMapping]:
    """Return the mapping of every OPC UA variable of a site, machine by machine."""
    return [
        NodeMapping(
            f"nsu={site.namespace_uri};s={machine.cell}.{variable.node_name}",
            site.machine_asset(machine),
            variable.signal,
            variable.unit,
            variable.description,
            variable.scale,
            0.0,
        )
        for machine in site.machines
        for variable in euromap77.variables(machine.zones)
    ]


class Written(NamedTuple):
    """A variable's new value: which (as `PlantServer.variables` counts them), when, what."""

    number: int
    time_ms: int
    raw: Raw


class PlantServer:
    """The OPC UA server of one site.

    Every write is a change for every subscriber: asyncua hands it to the queue of each monitored item, and samples
    nothing.
    """

    def __init__(self, site: SiteConfig, listen: str) -> None:
        self.site = site
        self.listen = listen
        self.variables: list[tuple[str, Variable]] = [
            (machine.cell, variable)
            for machine in site.machines
            for variable in euromap77.variables(machine.zones)
        ]
        self._history = [SeriesHistory(variable.kind, HISTORY_MS) for _, variable in self.variables]
        self._nodes: list[ua.NodeId] = []
        self._server: Server | None = None

    @property
    def endpoint(self) -> str:
        """The URL that clients connect to."""
        return f"opc.tcp://{self.listen}:{self.site.opcua_port}"

    @property
    def history_rows(self) -> int:
        """How many values HistoryRead can return now."""
        return sum(map(len, self._history))

    def remember(self, value: Written) -> None:
        """Put a value into the history; in order of time, and before `start`."""
        self._history[value.number].append(value.time_ms, value.raw)

    async def start(self) -> None:
        """Build the address space, each variable at the newest of its history, and listen.

        Raises:
            StoreUnavailable: the port is taken.
        """
        _check_port(self.listen, self.site.opcua_port)
        server = Server(SharingServer())
        history = RawHistory(server.iserver)
        server.iserver.history_manager = history
        # An agent that was killed comes back with a new session; what it left behind shall not pile up for long.
        server.iserver.max_session_timeout_ms = 120_000
        server.iserver.max_lifetime_count = 2_400
        server.iserver.max_monitored_item_queue_size = 2_000
        await server.init()
        server.set_endpoint(self.endpoint)
        server.set_server_name(f"Shopfloor simulator: {self.site.name}")
        server.product_uri = _PRODUCT_URI
        await server.set_application_uri(self.site.namespace_uri)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        server.set_identity_tokens([ua.AnonymousIdentityToken])
        for limit, number in _LIMITS.items():
            await server.get_node(limit).write_value(ua.Variant(number, ua.VariantType.UInt32))
        self._nodes = await build_machines(server, self.site, self.variables)
        history.series = dict(zip(self._nodes, self._history, strict=True))
        for number, series in enumerate(self._history):
            if len(series):
                await self._show(
                    server, Written(number, series.time_ms(-1), series.raw(-1)), datetime.now(UTC)
                )
        try:
            await server.start()
        except OSError as error:
            raise StoreUnavailable(f"can't listen on {self.endpoint}: {error.strerror or error}") from error
        self._server = server

    async def write(self, values: Sequence[Written]) -> None:
        """Show new values, in this order; each is in the history before a subscriber hears of it."""
        assert self._server is not None
        now = datetime.now(UTC)
        for value in values:
            self._history[value.number].append(value.time_ms, value.raw)
            await self._show(self._server, value, now)

    async def _show(self, server: Server, value: Written, now: datetime) -> None:
        data = data_value(value.raw, self.variables[value.number][1].kind, value.time_ms, now)
        space = server.iserver.aspace
        await space.write_attribute_value(self._nodes[value.number], AttributeIds.Value, data)

    async def stop(self) -> None:
        """Close every session and the port."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop()


def _check_port(host: str, port: int) -> None:
    # asyncua reports a taken port with a traceback of its own; asking first keeps it to one line.
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StoreUnavailable(
                f"can't listen on opc.tcp://{host}:{port}: {error.strerror or error}"
            ) from error
