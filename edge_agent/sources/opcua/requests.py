"""Requests that are sent again and again: encoded once, only what differs from time to time is written anew."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from asyncua import ua
from asyncua.client.ua_client import UASocketProtocol
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import nodeid_to_binary, struct_to_binary

from edge_agent.sources.opcua.columns import ticks_of_ns

_NULL_EXTENSION: Final = b"\0\0\0"


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """A request without its header (Part 4 §7.33): that one is written when it is sent."""

    name: str
    """Of the service."""
    type_id: bytes
    parameters: bytes

    def body(self, token: ua.NodeId, handle: int, timeout_s: float) -> bytes:
        """Return the message's body for a session's authentication token and a request handle."""
        header = struct.pack(
            "<qIIiI", ticks_of_ns(time.time_ns()), handle & 0xFFFF_FFFF, 0, -1, round(timeout_s * 1000)
        )
        return b"".join((self.type_id, nodeid_to_binary(token), header, _NULL_EXTENSION, self.parameters))


def encode(request: Any) -> EncodedRequest:
    """Encode one of asyncua's requests for sending it often; later changes of it have no effect."""
    return EncodedRequest(
        request_name(request), nodeid_to_binary(request.TypeId), struct_to_binary(request.Parameters)
    )


_PUBLISH_TYPE: Final = nodeid_to_binary(
    ua.FourByteNodeId(ua.Int32(ObjectIds.PublishRequest_Encoding_DefaultBinary), ua.Int16(0))
)


def publish_request(acknowledged: Sequence[tuple[int, int]]) -> EncodedRequest:
    """Return a Publish request (Part 4 §5.14.5) that acknowledges (subscription id, sequence number)."""
    numbers = [number for pair in acknowledged for number in pair]
    return EncodedRequest(
        "Publish", _PUBLISH_TYPE, struct.pack(f"<i{len(numbers)}I", len(acknowledged), *numbers)
    )


def request_name(request: Any) -> str:
    """Return the name of the service that a request of either kind is for."""
    return (
        request.name
        if isinstance(request, EncodedRequest)
        else type(request).__name__.removesuffix("Request")
    )


async def exchange(protocol: UASocketProtocol, request: Any, timeout_s: float) -> bytes:
    """Send a request, asyncua's or an `EncodedRequest`, and return the body of the answer.

    Args:
        protocol: asyncua's connection.
        request: what to ask.
        timeout_s: how long to wait; 0 is for ever.

    Raises:
        TimeoutError: no answer in time.
        UaError: the channel or the message is not sound, or the server refused one of asyncua's requests.
        OSError: the connection is gone.
    """
    if not isinstance(request, EncodedRequest):
        return bytes(await protocol.send_request(request, timeout_s))
    if protocol.pre_request_hook is not None:
        await protocol.pre_request_hook()
    answer = _send(protocol, request, timeout_s)
    async with asyncio.timeout(timeout_s or None):
        return bytes(await answer)


def _send(protocol: Any, request: EncodedRequest, timeout_s: float) -> asyncio.Future[Any]:
    """Do what asyncua's `_send_request` does, for bytes."""
    if protocol.transport is None:
        raise ConnectionError("the connection is closed")
    protocol._request_handle += 1  # noqa: SLF001 - there is no public way to send bytes
    request_id = protocol._request_id + 1  # noqa: SLF001
    protocol.revolve_security_token()
    message = protocol._connection.message_to_binary(  # noqa: SLF001
        request.body(protocol.authentication_token, protocol._request_handle, timeout_s),  # noqa: SLF001
        request_id=request_id,
    )
    protocol._request_id = request_id  # noqa: SLF001
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    protocol._callbackmap[request_id] = answer  # noqa: SLF001
    protocol.transport.write(message)
    return answer
