"""The way to a server, and what it offers: asked without security, as every server must answer it (Part 4 §5.4.4)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors._base import UaStatusCodeError

from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.decode import MalformedMessage, read_header
from edge_agent.sources.opcua.security import POLICY_URI, SecurityConfig

_MODES: Final = {
    ua.MessageSecurityMode.None_: "",
    ua.MessageSecurityMode.Sign: " with Sign",
    ua.MessageSecurityMode.SignAndEncrypt: " with SignAndEncrypt",
}
TOKENS: Final = {
    ua.UserTokenType.Anonymous: "anonymous access",
    ua.UserTokenType.UserName: "user names",
    ua.UserTokenType.Certificate: "user certificates",
    ua.UserTokenType.IssuedToken: "issued tokens",
}
_MAX_SHOWN: Final = 20


async def discover(config: OpcUaConfig) -> list[ua.EndpointDescription]:
    """Return the endpoints that a server offers; raises what asyncua raises."""
    client = new_client(config)
    try:
        await open_socket(client)
        await client.send_hello()
        await client.open_secure_channel()
        endpoints = await client.get_endpoints()
        await client.close_secure_channel()
        return endpoints
    finally:
        await drop(client)


def find(
    endpoints: Sequence[ua.EndpointDescription], security: SecurityConfig
) -> ua.EndpointDescription | None:
    """Return the endpoint that is just what is configured, None where there is none."""
    for endpoint in endpoints:
        if (
            (endpoint.EndpointUrl or "").startswith("opc.tcp:")
            and endpoint.SecurityPolicyUri == POLICY_URI + security.policy
            and endpoint.SecurityMode == mode_of(security)
        ):
            return endpoint
    return None


def mode_of(security: SecurityConfig) -> ua.MessageSecurityMode:
    """Return the configured mode as asyncua names it."""
    if security.policy == "None":
        return ua.MessageSecurityMode.None_
    return ua.MessageSecurityMode[security.mode]


def describe(endpoints: Sequence[ua.EndpointDescription]) -> str:
    """Say in words what is offered."""
    lines = dict.fromkeys(
        f"{policy_name(endpoint.SecurityPolicyUri)}{_MODES.get(endpoint.SecurityMode, '')}"
        for endpoint in endpoints
        if (endpoint.EndpointUrl or "").startswith("opc.tcp:")
    )
    return ", ".join(list(lines)[:_MAX_SHOWN]) or "nothing over opc.tcp"


def describe_tokens(tokens: Sequence[ua.UserTokenPolicy]) -> str:
    """Say in words who is let in."""
    return ", ".join(dict.fromkeys(TOKENS.get(token.TokenType, "something unknown") for token in tokens))


def policy_name(uri: str | None) -> str:
    """Return a policy's name, without what all of their URIs begin with."""
    return (uri or "None").rpartition("#")[2]


def new_client(config: OpcUaConfig) -> Client:
    """Return an unconnected client of a server."""
    _quieten()
    client = Client(config.endpoint, timeout=config.request_timeout_s)
    client.name = client.description = f"shopfloor {config.name}"
    client.session_timeout = round(config.session_timeout_s * 1000)
    return client


async def open_socket(client: Client) -> None:
    """Connect, and raise the cancellation that came just then: asyncua's wait_for loses it before Python 3.12."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    await client.connect_socket()
    if task.cancelling() > before:
        raise asyncio.CancelledError


async def open_channel(client: Client) -> None:
    """Connect and open the secure channel that a client is set up for; raises what asyncua raises."""
    await open_socket(client)
    await client.send_hello()
    protocol = client.uaclient.protocol
    assert protocol is not None
    answers: list[Any] = []
    hand_on = protocol._call_callback  # noqa: SLF001

    def note(request_id: int, body: Any) -> None:
        answers.append(body)
        hand_on(request_id, body)

    # asyncua asserts that a channel was granted, and forgets the fault that it was answered with.
    protocol._call_callback = note  # type: ignore[method-assign]  # noqa: SLF001
    try:
        await client.open_secure_channel()
    except AssertionError as error:
        raise _fault(answers) from error
    finally:
        protocol._call_callback = hand_on  # type: ignore[method-assign]  # noqa: SLF001


def _fault(answers: list[Any]) -> Exception:
    try:
        status = read_header(bytes(answers[-1])).status
    except (MalformedMessage, LookupError, TypeError, ValueError):
        return ConnectionError("the server refuses the channel")
    fault: Exception = UaStatusCodeError(status)  # type: ignore[no-untyped-call]
    return fault


async def drop(client: Client) -> None:
    """Let go of the socket at once; nothing of it outlives this call."""
    low = client.uaclient
    protocol = low.protocol
    if protocol is not None and protocol.transport is not None:
        protocol.transport.abort()
        await asyncio.sleep(0)
    low.disconnect_socket()


def _quieten() -> None:
    """Our own messages say what happened; the library's say it again, with tracebacks."""
    for name in ("asyncua.client", "asyncua.uaprotocol", "asyncua.common", "asyncua.crypto"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)
