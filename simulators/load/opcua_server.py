"""One OPC UA server of a load: asyncua's, with the paths that carry thousands of values replaced."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, cast

import numpy as np
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.internal_server import InternalServer
from asyncua.server.server import Server
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import struct_from_binary

from shopfloor.errors import StoreUnavailable
from simulators.load.opcua_items import MAX_QUEUE_SIZE
from simulators.load.opcua_records import SERVER, SOURCE, ValueRecords, read_response
from simulators.load.opcua_space import NAMESPACE_URI, build_machines
from simulators.load.opcua_subscription import LoadSubscriptions
from simulators.load.plan import LoadPlan

_FAST_READ_BYTES: Final = 200
"""Shorter Read requests are not worth remembering."""
_REMEMBERED: Final = 64
_REMEMBERED_BYTES: Final = 4 * 2**20
_LIMIT: Final = 10_000
_OPERATION_LIMITS: Final = (
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
    ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
)


class LoadServer(Server):
    """A server for some machines of a load; ticks are given to it by `tick`."""

    def __init__(
        self, plan: LoadPlan, machines: range, number: int, internal: InternalServer | None = None
    ) -> None:
        super().__init__(internal or InternalServer())
        self._machines = machines
        self._number = number
        self.plan = plan
        self.newest = (0, time.time_ns() // 1_000_000)
        """The newest tick, and when it was made (UTC ms)."""
        self.numbers: Mapping[ua.NodeId, int] = {}
        self.served_values_total = 0
        """By Read."""
        self._reads = _RememberedReads(self)
        iserver = cast("Any", self.iserver)
        iserver.allow_remote_admin = False
        iserver.max_session_timeout_ms = 120_000
        iserver.max_subscriptions = 100
        iserver.max_lifetime_count = 10_000
        iserver.max_monitored_item_queue_size = MAX_QUEUE_SIZE

    async def listen(self, host: str, port: int) -> None:
        """Build the address space and listen; raises StoreUnavailable where the port can't be had."""
        await self.init()
        url = f"opc.tcp://{host}:{port}"
        self.set_endpoint(url)
        self.set_server_name(f"Shopfloor load generator {self._number + 1}")
        self.product_uri = "urn:shopfloor:simulator"
        await self.set_application_uri(f"{NAMESPACE_URI}:server-{self._number + 1}")
        self.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        self.set_identity_tokens([ua.AnonymousIdentityToken])
        for limit in _OPERATION_LIMITS:
            await self.get_node(cast("Any", ua.NodeId)(limit)).write_value(
                ua.Variant(_LIMIT, ua.VariantType.UInt32)
            )
        namespace = await self.register_namespace(NAMESPACE_URI)
        self.numbers = build_machines(
            self.iserver.aspace, namespace, self.plan, self._machines, lambda: self.newest
        )
        self.subscriptions = LoadSubscriptions(self.iserver, self.plan, self.numbers, lambda: self.newest)
        self.iserver.subscription_service = self.subscriptions
        self.iserver.isession.subscription_service = self.subscriptions
        await self._setup_server_nodes()
        await self.iserver.start()
        self.bserver = _LoadBinaryServer(self, host, port)
        self.bserver.set_policies(self._policies)
        try:
            await self.bserver.start()
        except OSError as error:
            await self.iserver.stop()
            raise StoreUnavailable(f"can't listen on {url}: {error.strerror or error}") from error

    def tick(self, tick: int, now_ms: int) -> None:
        """Let every variable have its next value."""
        self.newest = (tick, now_ms)
        self.subscriptions.sample(tick, now_ms)

    def read(self, body: bytes, request_handle: int) -> bytes | None:
        """Answer a Read request's parameters, or return None where asyncua has to."""
        records = self._reads.records(body)
        if records is None:
            return None
        tick, server_ms = self.newest
        self.served_values_total += len(records)
        found = records.at(tick, self.plan.tick_ms(tick), server_ms)
        return read_response(request_handle, time.time_ns() // 1_000_000, found)


class _RememberedReads:
    """Read requests by their bytes: who polls asks the same again and again."""

    def __init__(self, server: LoadServer) -> None:
        self._server = server
        self._known: OrderedDict[bytes, ValueRecords | None] = OrderedDict()
        self._bytes = 0

    def records(self, body: bytes) -> ValueRecords | None:
        if body in self._known:
            self._known.move_to_end(body)
            return self._known[body]
        found = self._known[body] = self._understood(body)
        self._bytes += len(body)
        while self._bytes > _REMEMBERED_BYTES or len(self._known) > _REMEMBERED:
            forgotten, _ = self._known.popitem(last=False)
            self._bytes -= len(forgotten)
        return found

    def _understood(self, body: bytes) -> ValueRecords | None:
        """Return what answers a request for values of load variables and nothing else."""
        parameters: Any = struct_from_binary(ua.ReadParameters, Buffer(body))
        timestamps = {
            ua.TimestampsToReturn.Source: SOURCE,
            ua.TimestampsToReturn.Server: SERVER,
            ua.TimestampsToReturn.Both: SOURCE | SERVER,
            ua.TimestampsToReturn.Neither: 0,
        }.get(parameters.TimestampsToReturn)
        if timestamps is None:
            return None
        numbers = []
        for wanted in parameters.NodesToRead:
            number = self._server.numbers.get(wanted.NodeId)
            encoded = wanted.DataEncoding is not None and bool(wanted.DataEncoding.Name)
            if number is None or wanted.AttributeId != AttributeIds.Value or wanted.IndexRange or encoded:
                return None
            numbers.append(number)
        return ValueRecords(np.array(numbers, np.int64), timestamps)


class _LoadProcessor(UaProcessor):
    """One connection."""

    def __init__(self, server: LoadServer, transport: Any, limits: Any) -> None:
        super().__init__(server.iserver, transport, limits)
        self._server = server
        self._read_type = cast("Any", ua.NodeId)(ObjectIds.ReadRequest_Encoding_DefaultBinary)

    async def _process_message(self, typeid: Any, requesthdr: Any, seqhdr: Any, body: Any) -> Any:
        if typeid == self._read_type and len(body) > _FAST_READ_BYTES and self._active():
            answer = self._server.read(body.copy().read(len(body)), requesthdr.RequestHandle)
            if answer is not None:
                self._transport.write(self._connection.message_to_binary(answer, request_id=seqhdr.RequestId))
                return True
        return await super()._process_message(typeid, requesthdr, seqhdr, body)  # type: ignore[no-untyped-call]

    def _active(self) -> bool:
        if self.session is None or not self.session.is_activated():
            return False
        self.session_last_activity = time.monotonic()
        self.session.touch()
        return True


class _LoadConnection(OPCUAProtocol):
    def __init__(self, server: LoadServer, **options: Any) -> None:
        super().__init__(**options)
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.processor is not None:
            self.processor = _LoadProcessor(self._server, transport, self.limits)
            self.processor.set_policies(self.policies)  # type: ignore[no-untyped-call]


class _LoadBinaryServer(BinaryServer):
    def __init__(self, server: LoadServer, host: str, port: int) -> None:
        super().__init__(server.iserver, host, port, server.limits)
        self._load = server

    def _make_protocol(self) -> OPCUAProtocol:
        return _LoadConnection(
            self._load,
            iserver=self.iserver,
            policies=self._policies,
            clients=self.clients,
            closing_tasks=self.closing_tasks,
            limits=self.limits,
        )
