"""One secure channel and session. asyncua encodes requests and frames messages; what to do with them is ours."""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Never, TypeVar, cast

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.utils import Buffer
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors._base import UaError, UaStatusCodeError

from edge_agent.normalise import NO_TIME
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.decode import MalformedMessage, read_header
from shopfloor.errors import SourceMisconfigured, SourceUnavailable

_CLOSE_TIMEOUT_S: Final = 1.0
_HISTORY_TIMEOUT_FACTOR: Final = 4.0
_DEFAULT_LIMIT: Final = 500
"""Nodes in a request where the server states no limit: small controllers get far slower above a few hundred."""
_DEFAULT_HISTORY_LIMIT: Final = 50
_CLOCK_INTERVAL_S: Final = 10.0

_CREDENTIALS: Final = frozenset(
    {
        StatusCodes.BadUserAccessDenied,
        StatusCodes.BadIdentityTokenInvalid,
        StatusCodes.BadIdentityTokenRejected,
        StatusCodes.BadUserSignatureInvalid,
    }
)
_SECURITY: Final = frozenset(
    {
        StatusCodes.BadSecurityChecksFailed,
        StatusCodes.BadSecurityPolicyRejected,
        StatusCodes.BadSecurityModeRejected,
        StatusCodes.BadSecurityModeInsufficient,
        StatusCodes.BadCertificateUntrusted,
        StatusCodes.BadTcpEndpointUrlInvalid,
    }
)

Response = TypeVar("Response")

# asyncua's Boolean is a class that takes no argument; its serializer wants a plain bool.
YES: Final = cast("ua.Boolean", True)
NO: Final = cast("ua.Boolean", False)


class ServiceFault(Exception):
    """The server refused one request; the session goes on."""

    def __init__(self, request: str, code: int) -> None:
        super().__init__(f"{request}: {status_name(code)}")
        self.code = code


def status_name(code: int) -> str:
    """Return the name of a StatusCode such as ``BadNodeIdUnknown``, its number where it has none."""
    name = ua.StatusCode(ua.UInt32(code & 0xFFFF_0000)).name
    return name if name != "UnknownUaError" else f"0x{code:08X}"


@dataclass(slots=True)
class Limits:
    """How many nodes the server takes in one request."""

    read: int = _DEFAULT_LIMIT
    history: int = _DEFAULT_HISTORY_LIMIT
    monitor: int = _DEFAULT_LIMIT
    translate: int = _DEFAULT_LIMIT
    browse: int = _DEFAULT_LIMIT


_LIMIT_NODES: Final = {
    "read": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    "history": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData,
    "monitor": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    "translate": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds,
    "browse": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
}


@dataclass(slots=True)
class Session:
    """An activated session; `call` is the one way to the server."""

    client: Client
    config: OpcUaConfig
    clock: Callable[[], int]
    """The agent's clock, UTC ns."""
    limits: Limits = field(default_factory=Limits)
    namespaces: dict[str, int] = field(default_factory=dict)
    """URI to index, as the server has it now."""
    offset_ns: int = 0
    """Server's clock minus the agent's."""

    async def call(self, request: Any, timeout_s: float | None = None) -> bytes:
        """Send a request and return the body of the answer; ``timeout_s`` 0 waits for ever.

        Raises:
            ServiceFault: the server refused this request.
            SourceUnavailable: no answer in time, or the connection is gone.
        """
        name = type(request).__name__.removesuffix("Request")
        protocol = self.client.uaclient.protocol
        if protocol is None:
            raise SourceUnavailable("the connection is closed")
        timeout = self.config.request_timeout_s if timeout_s is None else timeout_s
        try:
            body = bytes(await protocol.send_request(request, timeout))
            header = read_header(body)
        except UaStatusCodeError as error:
            if error.code in _LOST:
                raise SourceUnavailable(f"{name}: {status_name(error.code)}") from error
            raise ServiceFault(name, error.code) from error
        except TimeoutError as error:
            raise SourceUnavailable(f"no answer to {name} within {timeout:g} s") from error
        except MalformedMessage as error:
            raise SourceUnavailable(f"{name}: malformed answer: {error}") from error
        except (UaError, OSError) as error:
            raise SourceUnavailable(f"{name}: {error or type(error).__name__}") from error
        if header.status >> 30 >= 2:
            raise ServiceFault(name, header.status)
        return body

    async def ask(self, request: Any, response: type[Response], timeout_s: float | None = None) -> Response:
        """`call` for services that are not hot: return the answer as asyncua's own type."""
        return self.parse(await self.call(request, timeout_s), response)

    @staticmethod
    def parse(body: bytes, response: type[Response]) -> Response:
        """Return an answer's body as asyncua's own type; raises SourceUnavailable where it is malformed."""
        try:
            answer: Response = struct_from_binary(response, Buffer(body))
        except (UaError, struct.error, ValueError, TypeError, LookupError) as error:
            raise SourceUnavailable(f"{response.__name__}: malformed: {error}") from error
        return answer

    async def call_history(self, request: Any) -> bytes:
        """`call` with the patience that a HistoryRead needs."""
        return await self.call(request, self.config.request_timeout_s * _HISTORY_TIMEOUT_FACTOR)

    async def read_attributes(
        self, nodes: Sequence[ua.NodeId], attribute: AttributeIds
    ) -> list[ua.DataValue]:
        """Read one attribute of many nodes, in batches; one DataValue a node, in order."""
        values: list[ua.DataValue] = []
        for start in range(0, len(nodes), self.limits.read):
            request = read_request(nodes[start : start + self.limits.read], attribute)
            answer = await self.ask(request, ua.ReadResponse)
            values.extend(answer.Results)
        if len(values) != len(nodes):
            raise SourceUnavailable(f"Read: {len(values)} results for {len(nodes)} nodes")
        return values

    def server_now(self) -> int:
        """Return the server's time as estimated, UTC ns."""
        return self.clock() + self.offset_ns

    def server_time(self, stated: int) -> int:
        """Return ``stated`` where the server gave a time, else the estimate."""
        return self.server_now() if stated == NO_TIME else stated

    async def read_namespaces(self) -> None:
        """Read the server's namespace table anew: its order may change whenever the server restarts."""
        value = (
            await self.read_attributes([standard_node(ObjectIds.Server_NamespaceArray)], AttributeIds.Value)
        )[0]
        table = value.Value.Value if value.Value is not None else None
        if not isinstance(table, list):
            raise SourceUnavailable("the server does not tell its namespaces")
        self.namespaces = {uri: index for index, uri in reversed(list(enumerate(table))) if uri}

    async def read_limits(self) -> None:
        """Learn the server's OperationLimits; a server without them keeps the defaults."""
        values = await self.read_attributes(
            [standard_node(node) for node in _LIMIT_NODES.values()], AttributeIds.Value
        )
        for name, value in zip(_LIMIT_NODES, values, strict=True):
            number = value.Value.Value if value.Value is not None else None
            if isinstance(number, int) and number > 0:
                setattr(self.limits, name, min(number, getattr(self.limits, name)))

    async def measure_clock(self) -> None:
        """Estimate the server's clock from the header of an answer and the middle of its round trip."""
        request = read_request([standard_node(ObjectIds.Server_ServerStatus_State)], AttributeIds.Value)
        before = self.clock()
        stated = read_header(await self.call(request)).server_time
        after = self.clock()
        if stated != NO_TIME:
            self.offset_ns = stated - (before + after) // 2

    async def keep_alive(self, on_offset: Callable[[int], None]) -> Never:
        """Watch the server's clock; with it, that the server answers at all."""
        while True:
            on_offset(self.offset_ns)
            await asyncio.sleep(_CLOCK_INTERVAL_S)
            await self.measure_clock()

    async def renew_channel(self) -> Never:
        """Renew the channel's token at three quarters of its lifetime (Part 4 §5.6.2.1)."""
        while True:
            await asyncio.sleep(self.client.secure_channel_timeout * 0.75 / 1000)
            try:
                await self.client.open_secure_channel(renew=True)
                self.client.uaclient.revolve_security_token()
            except (UaError, OSError, TimeoutError) as error:
                raise SourceUnavailable(f"the secure channel could not be renewed: {error}") from error


_LOST: Final = frozenset(
    {
        StatusCodes.BadSessionIdInvalid,
        StatusCodes.BadSessionClosed,
        StatusCodes.BadSessionNotActivated,
        StatusCodes.BadSecureChannelClosed,
        StatusCodes.BadSecureChannelIdInvalid,
        StatusCodes.BadServerHalted,
        StatusCodes.BadShutdown,
    }
)


def read_request(nodes: Sequence[ua.NodeId], attribute: AttributeIds) -> ua.ReadRequest:
    """Return a Read of one attribute with both timestamps, as fresh as the server can."""
    request = ua.ReadRequest()
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
    request.Parameters.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for node in nodes]
    return request


@asynccontextmanager
async def open_session(
    config: OpcUaConfig, clock: Callable[[], int] = time.time_ns
) -> AsyncIterator[Session]:
    """Connect, yield an activated session, and close it whatever happens.

    Raises:
        SourceUnavailable: nobody answers there, or not in time.
        SourceMisconfigured: the server refuses these credentials or an unencrypted channel.
    """
    _quieten()
    client = Client(config.endpoint, timeout=config.request_timeout_s)
    client.name = client.description = f"shopfloor {config.name}"
    client.application_uri = f"urn:shopfloor:edge-agent:{config.name}"
    client.session_timeout = round(config.session_timeout_s * 1000)
    if config.user is not None:
        client.set_user(config.user)
        client.set_password(config.password.get_secret_value() if config.password is not None else "")
    try:
        await _connect(client, config)
        session = Session(client, config, clock)
        await session.measure_clock()
        await session.read_namespaces()
        await session.read_limits()
        yield session
    finally:
        await _close(client)


async def _connect(client: Client, config: OpcUaConfig) -> None:
    where = config.endpoint
    try:
        await _open_socket(client)
        await client.send_hello()
        await client.open_secure_channel()
        await client.create_session()
        await client.activate_session(
            config.user, config.password.get_secret_value() if config.password is not None else None
        )
    except UaStatusCodeError as error:
        what = f"{where}: {status_name(error.code)}"
        if error.code in _CREDENTIALS:
            who = f"user {config.user!r}" if config.user else "anonymous access"
            raise SourceMisconfigured(f"{what}: the server refuses {who}") from error
        if error.code in _SECURITY:
            raise SourceMisconfigured(f"{what}: the server refuses this way of connecting") from error
        raise SourceUnavailable(what) from error
    except TimeoutError as error:
        raise SourceUnavailable(f"{where}: no answer within {config.request_timeout_s:g} s") from error
    except UaError as error:
        if str(error).startswith("No matching endpoints"):
            raise SourceMisconfigured(f"{where}: the server offers no unencrypted endpoint") from error
        raise SourceUnavailable(f"{where}: not an OPC UA server, or a broken one: {error}") from error
    except OSError as error:
        raise SourceUnavailable(f"{where}: {error.strerror or error}") from error


async def _open_socket(client: Client) -> None:
    """Connect, and raise the cancellation that came just then: asyncua's wait_for loses it before Python 3.12."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    await client.connect_socket()
    if task.cancelling() > before:
        raise asyncio.CancelledError


async def _close(client: Client) -> None:
    """Say goodbye if the server listens, then drop the socket; nothing of it outlives this call."""
    low = client.uaclient
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            low.pre_request_hook = None
            await low.close_session(True)
            await low.close_secure_channel()
    except (UaError, OSError, TimeoutError):
        pass
    finally:
        protocol = low.protocol
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()
            await asyncio.sleep(0)
        low.disconnect_socket()


def standard_node(number: int) -> ua.NodeId:
    """Return the NodeId of one of the nodes that OPC UA itself defines."""
    return ua.NodeId(ua.Int32(number), ua.Int16(0))


def _quieten() -> None:
    """Our own messages say what happened; the library's say it again, with tracebacks."""
    for name in ("asyncua.client", "asyncua.uaprotocol", "asyncua.common"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)
