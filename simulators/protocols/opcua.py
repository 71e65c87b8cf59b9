"""A site's machines as one OPC UA server: EUROMAP 77 (OPC 40077), with history and events."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from shopfloor.asset import AssetPath
from shopfloor.errors import StoreUnavailable
from simulators.protocols import euromap77
from simulators.protocols.euromap77_events import CycleEvent, cycle_event, trigger
from simulators.protocols.opcua_history import (
    MAX_NODES_PER_READ,
    RawHistory,
    SeriesHistory,
    data_value,
)
from simulators.protocols.opcua_nodesets import Nodeset, find_nodesets
from simulators.protocols.opcua_security import GuardedServer, secure
from simulators.protocols.opcua_security_config import OpcUaSecurity
from simulators.protocols.opcua_site import SiteSpace, build_site
from simulators.protocols.opcua_standard import without_collection
from simulators.protocols.opcua_variable import Raw, Variable
from simulators.protocols.opcua_watch import Watch
from simulators.protocols.tcd import Tcu, tcu_variables
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
    """Return the mapping of every OPC UA variable of a site that collectors store, in the order of `PlantServer`."""
    site = site.on_opcua()
    named = [(machine.cell, tuple(euromap77.variables(machine.zones))) for machine in site.machines]
    named += [(tcu.cell, tcu_variables()) for tcu in site.tcus]
    return [
        mapping
        for name, variables in named
        for mapping in _mappings(site.namespace_uri, name, site.cells[name], variables)
    ]


def _mappings(
    namespace_uri: str, name: str, asset: AssetPath, variables: Iterable[Variable]
) -> Iterator[NodeMapping]:
    for variable in variables:
        if variable.logged:
            node = f"nsu={namespace_uri};s={name}.{variable.node_name}"
            unit, description = variable.unit, variable.description
            yield NodeMapping(node, asset, variable.signal, unit, description, variable.scale, 0.0)


class Written(NamedTuple):
    """A variable's new value: which (as `PlantServer.variables` counts them), when, what."""

    number: int
    time_ms: int
    raw: Raw


class PlantServer:
    """The OPC UA server of one site.

    Every write is a change for every subscriber: asyncua hands it to the queue of each monitored item, and samples
    nothing.

    Args:
        site: its machines stand below DeviceSet.
        listen: the address to listen on.
        tcus: temperature control units, below DeviceSet as well.
        security: who may connect; by default anybody, without encryption.
        nodeset_dir: a folder of NodeSet2 files, whose types are served instead of our own tables of them.
        standstill_reasons: what StandstillReasonId can be, each with its words.
    """

    def __init__(
        self,
        site: SiteConfig,
        listen: str,
        *,
        tcus: Sequence[Tcu] = (),
        security: OpcUaSecurity | None = None,
        nodeset_dir: Path | None = None,
        standstill_reasons: Mapping[str, str] | None = None,
    ) -> None:
        self.site = site
        self.listen = listen
        self.tcus = tuple(tcus)
        self.security = security or OpcUaSecurity()
        self.nodeset_dir = nodeset_dir
        self.standstill_reasons = dict(standstill_reasons or {})
        self.variables: list[tuple[str, Variable]] = [
            (machine.cell, variable)
            for machine in site.machines
            for variable in euromap77.variables(machine.zones)
        ]
        """Of the machines first, then of the temperature control units, each with the machine's or unit's name."""
        self.variables += [(tcu.name, variable) for tcu in self.tcus for variable in tcu_variables()]
        self._kinds = [variable.kind for _, variable in self.variables]
        self._history = [SeriesHistory(variable.kind, HISTORY_MS) for _, variable in self.variables]
        self._watch = Watch(self.variables)
        self._space: SiteSpace | None = None
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
            ConfigError: a nodeset does not load, or a certificate is not usable; nothing listens.
            StoreUnavailable: the port is taken.
        """
        nodesets = await asyncio.to_thread(find_nodesets, self.nodeset_dir) if self.nodeset_dir else []
        _check_port(self.listen, self.site.opcua_port)
        with without_collection():
            server = await self._build(nodesets)
        try:
            await server.start()
        except OSError as error:
            raise StoreUnavailable(f"can't listen on {self.endpoint}: {error.strerror or error}") from error
        self._server = server

    async def _build(self, nodesets: list[Nodeset]) -> Server:
        server = Server(GuardedServer(self.security))
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
        await secure(server, self.security, self.site.namespace_uri)
        for limit, number in _LIMITS.items():
            await server.get_node(limit).write_value(ua.Variant(number, ua.VariantType.UInt32))
        self._space = await build_site(
            server, self.site, self.tcus, self.variables, nodesets, self.standstill_reasons
        )
        history.series = dict(zip(self._space.nodes, self._history, strict=True))
        for number, series in enumerate(self._history):
            if len(series):
                await self._show(
                    server, Written(number, series.time_ms(-1), series.raw(-1)), datetime.now(UTC)
                )
        return server

    async def write(self, values: Sequence[Written]) -> None:
        """Show new values, in this order; each is in the history before a subscriber hears of it.

        What changes the machine mode, the production status or the standstill reason is reported as an event as well,
        and so is an alarm.
        """
        assert self._server is not None
        assert self._space is not None
        now = datetime.now(UTC)
        reports = []
        for value in values:
            series = self._history[value.number]
            if value.number in self._watch.numbers:
                reports.append((value, series.raw(-1) if len(series) else None))
            series.append(value.time_ms, value.raw)
            await self._show(self._server, value, now)
        for value, old in reports:
            for event in self._watch.events(
                self._space, value.number, value.time_ms, old, value.raw, self._newest
            ):
                await trigger(self._server, event)

    async def fire(self, cycles: Sequence[CycleEvent]) -> None:
        """Report finished cycles as events of their machines (OPC 40077 §19); in this order.

        Raises:
            KeyError: there is no machine of that name.
        """
        assert self._server is not None
        assert self._space is not None
        for cycle in cycles:
            await trigger(self._server, cycle_event(self._space.roots[cycle.cell], cycle))

    def _newest(self, number: int) -> Raw | None:
        series = self._history[number]
        return series.raw(-1) if len(series) else None

    async def _show(self, server: Server, value: Written, now: datetime) -> None:
        assert self._space is not None
        number = value.number
        space = server.iserver.aspace
        data = data_value(value.raw, self._kinds[number], value.time_ms, now)
        await space.write_attribute_value(self._space.nodes[number], AttributeIds.Value, data)
        for follower in self._space.followers.get(number, ()):
            held: Any = follower.value(value.raw)
            following = ua.DataValue(
                held, SourceTimestamp=data.SourceTimestamp, ServerTimestamp=data.ServerTimestamp
            )
            await space.write_attribute_value(follower.node, AttributeIds.Value, following)

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
