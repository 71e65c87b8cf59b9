"""An activated session at work. asyncua encodes requests and frames messages; what to do with them is ours."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
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
from edge_agent.sources.opcua.kept import Kept
from edge_agent.sources.opcua.limits import CAUTIOUS, LARGEST_LIMIT, LIMIT_NODES, LimitName, Limits
from edge_agent.sources.opcua.requests import exchange, request_name
from shopfloor.errors import SourceUnavailable

_HISTORY_TIMEOUT_FACTOR: Final = 4.0
_KEEP_ALIVE_SHARE: Final = 0.3
"""Of a session's timeout: two requests may fail to come in time before it ends."""

Response = TypeVar("Response")
Item = TypeVar("Item")
Result = TypeVar("Result")

# asyncua's Boolean is a class that takes no argument; its serializer wants a plain bool.
YES: Final = cast("ua.Boolean", True)
NO: Final = cast("ua.Boolean", False)

TOO_MUCH: Final = frozenset(
    {
        StatusCodes.BadTooManyOperations,
        StatusCodes.BadRequestTooLarge,
        StatusCodes.BadResponseTooLarge,
        StatusCodes.BadEncodingLimitsExceeded,
    }
)
"""A smaller request may work."""


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
    remarks: Callable[[], list[str]] = list
    """What a person should see to before it stops working: certificates that end soon."""
    inherited: Kept | None = None
    """Subscriptions of a session that broke, which may go on in this one."""
    keep: Callable[[], Kept | None] = field(init=False)
    """What this session leaves to the next one when its connection breaks."""

    def __post_init__(self) -> None:
        self.keep = lambda: self.inherited
        self.limits.override(self.config.limits)

    async def call(self, request: Any, timeout_s: float | None = None) -> bytes:
        """Send a request and return the body of the answer; ``timeout_s`` 0 waits for ever.

        Raises:
            ServiceFault: the server refused this request.
            SourceUnavailable: no answer in time, or the connection is gone.
        """
        name = request_name(request)
        protocol = self.client.uaclient.protocol
        if protocol is None:
            raise SourceUnavailable("the connection is closed")
        timeout = self.config.request_timeout_s if timeout_s is None else timeout_s
        try:
            body = await exchange(protocol, request, timeout)
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

        async def read(part: Sequence[ua.NodeId]) -> Sequence[ua.DataValue]:
            return (await self.ask(read_request(part, attribute), ua.ReadResponse)).Results or ()

        return await self.in_batches("read", nodes, read, LARGEST_LIMIT)

    async def in_batches(
        self,
        service: LimitName,
        items: Sequence[Item],
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        most: int,
    ) -> list[Result]:
        """Send items in requests as large as the server takes; where it takes fewer than it says, in smaller ones.

        Args:
            service: whose limit counts, and is lowered for the rest of the session.
            items: what is to be sent; sending some of it twice must do no harm.
            send: sends a part in one request and returns one result for each.
            most: never more than so many at once.

        Raises:
            ServiceFault: the server refuses even one, or not because of their number.
            SourceUnavailable: it does not answer, or with another number of results.
        """
        results: list[Result] = []
        while len(results) < len(items):
            size = min(getattr(self.limits, service), most)
            part = items[len(results) : len(results) + size]
            try:
                found = await send(part)
            except ServiceFault as fault:
                if len(part) == 1 or fault.code not in TOO_MUCH:
                    raise
                setattr(self.limits, service, len(part) // 2)
                continue
            except SourceUnavailable as error:
                # A server that takes more than it can answer in time is asked for less, once a session.
                if not isinstance(error.__cause__, TimeoutError) or len(part) <= CAUTIOUS:
                    raise
                setattr(self.limits, service, CAUTIOUS)
                continue
            if len(found) != len(part):
                raise SourceUnavailable(f"{len(found)} results for {len(part)} items ({service})")
            results.extend(found)
        return results

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
            [standard_node(node) for node in LIMIT_NODES.values()], AttributeIds.Value
        )
        for name, value in zip(LIMIT_NODES, values, strict=True):
            self.limits.learn(name, value.Value.Value if value.Value is not None else None)
        self.limits.override(self.config.limits)

    async def measure_clock(self) -> None:
        """Estimate the server's clock from the header of an answer and the middle of its round trip."""
        request = read_request([standard_node(ObjectIds.Server_ServerStatus_State)], AttributeIds.Value)
        before = self.clock()
        stated = read_header(await self.call(request)).server_time
        after = self.clock()
        if stated != NO_TIME:
            self.offset_ns = stated - (before + after) // 2

    @property
    def timeout_s(self) -> float:
        """After how many seconds without a request the server forgets the session, as it has granted."""
        return float(self.client.session_timeout) / 1000

    async def keep_alive(self, on_offset: Callable[[int], None]) -> Never:
        """Watch the server's clock; with it, that the server answers at all."""
        interval_s = min(self.config.watchdog_s, self.timeout_s * _KEEP_ALIVE_SHARE)
        while True:
            on_offset(self.offset_ns)
            await asyncio.sleep(interval_s)
            await self.measure_clock()

    async def renew_channel(self) -> Never:
        """Renew the channel's token at three quarters of its lifetime (Part 4 §5.6.2.1)."""
        while True:
            await asyncio.sleep(self.client.secure_channel_timeout * 0.75 / 1000)
            try:
                await self.client.open_secure_channel(renew=True)
                self.client.uaclient.revolve_security_token()
            except (UaError, OSError, TimeoutError, AssertionError) as error:
                # asyncua asserts that it was granted.
                reason = str(error) or "the server refuses"
                raise SourceUnavailable(f"the secure channel could not be renewed: {reason}") from error


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


def standard_node(number: int) -> ua.NodeId:
    """Return the NodeId of one of the nodes that OPC UA itself defines."""
    return ua.NodeId(ua.Int32(number), ua.Int16(0))
