"""Thin HTTP: each route reads a request, asks the service, writes an answer. docs/specs/http-api.md is the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from ingest_service.auth import ANYBODY, Identity
from ingest_service.backpressure import Reservation
from ingest_service.service import Service

Message = TypeVar("Message")
_encoder: Final = msgspec.json.Encoder()


class Refused(Exception):
    """An answer other than success: status, JSON body, headers; ``reason`` is what the metrics count it as."""

    def __init__(
        self,
        status: int,
        body: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        reason: str = "",
    ) -> None:
        super().__init__(status)
        self.reason = reason or str(status)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


def service_of(request: Request) -> Service:
    """Return the service behind a request."""
    service: Service = request.app.state.service
    return service


def json_response(data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return JSON; NaN is written as null."""
    return Response(_encoder.encode(data), status, headers, "application/json")


async def writer(request: Request) -> Identity:
    """Return who writes; 401 or 403 for anybody else."""
    identity = await service_of(request).authenticator.identify(request.headers.get("authorization"))
    if identity is None:
        raise _unauthenticated()
    if not identity.writes:
        raise Refused(403, {"error": f"a token of role {identity.role} does not write"})
    return identity


async def known(request: Request) -> Identity:
    """Return whose token a request carries, whatever its role; 401 for anybody else."""
    identity = await service_of(request).authenticator.identify(request.headers.get("authorization"))
    if identity is None:
        raise _unauthenticated()
    return identity


async def reader(request: Request) -> Identity:
    """Return who reads; anybody where the configuration opens reading."""
    service = service_of(request)
    header = request.headers.get("authorization")
    if service.config.read_access == "open" and not header:
        return ANYBODY
    identity = await service.authenticator.identify(header)
    if identity is None:
        raise _unauthenticated()
    if not identity.reads:
        raise Refused(403, {"error": f"a token of role {identity.role} does not read"})
    return identity


async def body_of(
    request: Request, limit_bytes: int, timeout_s: float, reservation: Reservation | None = None
) -> bytes:
    """Read a body of at most ``limit_bytes``; 413 as soon as it is known to be longer, 408 when it stalls."""
    length = request.headers.get("content-length")
    if length is not None and (not length.isdecimal() or int(length) > limit_bytes):
        raise _too_large(limit_bytes)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit_bytes:
                    raise _too_large(limit_bytes)
                if reservation is not None:
                    reservation.grow(len(chunk))
                chunks.append(chunk)
    except TimeoutError as error:
        raise Refused(408, {"error": "the body took too long"}, {"Connection": "close"}) from error
    except ClientDisconnect as error:
        raise Refused(400, {"error": "the client went away"}) from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def message_of(request: Request, kind: type[Message]) -> Message:
    """Read a JSON message; 400 where it is none."""
    limits = service_of(request).config.limits
    body = await body_of(request, limits.json_bytes, limits.body_timeout_s)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, {"error": str(error)}) from error


def check_asset(path: str, identity: Identity) -> None:
    """Refuse an asset that a token does not reach: 403."""
    if not identity.covers(path):
        raise Refused(403, {"error": f"the token does not reach {path[:200]}"})


def _too_large(limit_bytes: int) -> Refused:
    return Refused(413, {"error": f"at most {limit_bytes} bytes are taken"})


def _unauthenticated() -> Refused:
    return Refused(401, {"error": "a valid token is needed"}, {"WWW-Authenticate": "Bearer"})
