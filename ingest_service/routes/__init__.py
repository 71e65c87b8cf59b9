"""Thin HTTP: each route reads a request, asks the service, writes an answer. docs/specs/http-api.md is the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from ingest_service.access.authenticator import SCHEMES
from ingest_service.access.gate import Note, retry_after
from ingest_service.access.origin import (
    CUSTOM_HEADER,
    SAFE_METHODS,
    client_certificate,
    is_encrypted,
    is_own_page,
)
from ingest_service.auth import ANYBODY, Identity, parse_reach
from ingest_service.backpressure import Reservation
from ingest_service.service import Service
from shopfloor.errors import InvalidName

Message = TypeVar("Message")


def _as_text(value: Any) -> str:
    # An asset path is its own text; msgspec takes no type for a text but str itself.
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


_encoder: Final = msgspec.json.Encoder(enc_hook=_as_text)


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


async def identify(request: Request) -> Identity | None:
    """Return whose token or session a request carries, None for nobody's.

    Raises:
        Refused: 403 for a change with a cookie that our own page did not ask for; 429 for too many requests.
        StoreUnavailable: the look-up failed.
    """
    service = service_of(request)
    header = request.headers.get("authorization")
    if header and header.partition(" ")[0].lower() in SCHEMES:
        names = client_certificate(request.scope)
        identity = await service.authenticator.identify(header, names)
    else:
        identity = await _by_cookie(request, service)
    if identity is not None and (wait := service.access.identities.take(identity.token_id)):
        service.access.too_often.labels("token").inc()
        raise Refused(429, {"error": "too many requests"}, {"Retry-After": retry_after(wait)})
    return identity


async def known(request: Request) -> Identity:
    """Return who asks, whatever the role; 401 for anybody else."""
    identity = await identify(request)
    if identity is None:
        raise _unauthenticated()
    return identity


async def writer(request: Request) -> Identity:
    """Return who writes; 401 or 403 for anybody else."""
    identity = await known(request)
    if not identity.writes:
        raise Refused(403, {"error": f"the role {identity.role} does not write"})
    return identity


async def reader(request: Request) -> Identity:
    """Return who reads; anybody where the configuration opens reading."""
    identity = await identify(request)
    if identity is None:
        if service_of(request).config.read_access == "open" and "authorization" not in request.headers:
            return ANYBODY
        raise _unauthenticated()
    if not identity.reads:
        raise Refused(403, {"error": f"the role {identity.role} does not read"})
    return identity


async def operator(request: Request) -> Identity:
    """Return who may acknowledge alarms and decide on what lies in quarantine; what changes is audited."""
    identity = await known(request)
    return _privileged(request, identity, allowed=identity.operates)


async def administrator(request: Request) -> Identity:
    """Return who may give and take rights; what changes is audited, and so is whoever tries without the role."""
    identity = await known(request)
    return _privileged(request, identity, allowed=identity.administers)


def note(request: Request, action: str, subject: str = "", **detail: Any) -> None:
    """Say for the audit log what a request of an `operator` or `administrator` does; never a secret."""
    entry: Note = request.state.note
    entry.action, entry.subject = action, subject
    entry.detail = detail


def _privileged(request: Request, identity: Identity, *, allowed: bool) -> Identity:
    if not allowed or request.method not in SAFE_METHODS:
        # The gate keeps it, with what came of it.
        request.state.note = Note(identity, f"{request.method} {request.url.path}"[:200])
    if not allowed:
        raise Refused(403, {"error": f"the role {identity.role} does not do that"})
    return identity


async def _by_cookie(request: Request, service: Service) -> Identity | None:
    cookie = request.cookies.get(cookie_name(request))
    if not cookie:
        return None
    session = await service.authenticator.session(cookie)
    if session is None:
        return None
    if request.method not in SAFE_METHODS:
        own_page(request)
        if CUSTOM_HEADER not in request.headers:
            raise Refused(403, {"error": f"a change with a cookie needs the header {CUSTOM_HEADER}"})
    return session.identity


def own_page(request: Request) -> None:
    """Refuse what the page of another site asked for: 403."""
    if not is_own_page(request.headers):
        raise Refused(403, {"error": "this comes from a page of another site"}, reason="foreign_page")


def cookie_name(request: Request) -> str:
    """Return the name of the session's cookie.

    Under TLS its prefix makes browsers take it from this very host only (RFC 6265bis, section 4.1.3).
    """
    secure = is_encrypted(request.scope, service_of(request).access.proxies)
    return "__Host-shopfloor" if secure else "shopfloor"


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


def check_reach(path: str, identity: Identity) -> None:
    """Refuse a path that somebody wants to give but does not reach (403), or that is none (400); empty is everything."""
    try:
        reach = parse_reach(path)
    except InvalidName as error:
        raise Refused(400, {"error": str(error)}) from error
    if identity.asset and (not reach or not identity.covers(reach)):
        raise Refused(403, {"error": f"your own reach ends at {identity.asset}"})


def _too_large(limit_bytes: int) -> Refused:
    return Refused(413, {"error": f"at most {limit_bytes} bytes are taken"})


def _unauthenticated() -> Refused:
    return Refused(401, {"error": "a valid token is needed"}, {"WWW-Authenticate": "Bearer"})
