"""``/api/v2/write``, ``/write``, ``/ping`` and ``/health`` as clients of InfluxDB 2 and 1.8 expect them.

docs/specs/line-protocol.md says where we do as InfluxDB does, and where not.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, Request, Response

from ingest_service.admission import NotYours
from ingest_service.auth import Identity
from ingest_service.backpressure import Busy
from ingest_service.line_protocol.door import LineProtocol, Taken
from ingest_service.line_protocol.points import MOST_HOMELESS, TooManySamples
from ingest_service.line_protocol.unpacking import BodyTooLarge, NotGzip
from ingest_service.routes import Refused, body_of, json_response, service_of, writer
from shopfloor.errors import StoreUnavailable

router = APIRouter(tags=["line protocol"])
PATH_2: Final = "/api/v2/write"
PATH_1: Final = "/write"
_VERSION: Final = f"shopfloor-{version('shopfloor')}"
_HEADERS: Final = {"X-Influxdb-Version": _VERSION, "X-Influxdb-Build": "Shopfloor"}
_CODES: Final = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not found",
    408: "invalid",
    413: "request too large",
    415: "invalid",
    429: "too many requests",
    503: "unavailable",
}
"""InfluxDB 2's names of errors."""


class _Dialect(NamedTuple):
    """What differs between the two ways of writing."""

    units: Mapping[str, int]
    """Name of a precision to nanoseconds."""
    known: str
    second: bool
    """Whether errors look like those of InfluxDB 2."""


_SECOND: Final = _Dialect(
    {"": 1, "ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}, "ns, us, ms and s", second=True
)
_FIRST: Final = _Dialect(
    {**_SECOND.units, "n": 1, "u": 1_000, "µ": 1_000, "m": 60_000_000_000, "h": 3_600_000_000_000},
    "n, u, ms, s, m and h",
    second=False,
)

_LINES: Final = "cpu,host=gw-01 usage_user=1.5,count=3i,up=true 1763778000123000000\n"
_OPENAPI: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"text/plain": {"schema": {"type": "string"}, "example": _LINES}},
    }
}
_INVALID: Final = {
    "code": "invalid",
    "message": "partial write: unable to parse 'cpu': missing fields",
    "line": 2,
}
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    204: {"description": "Durable. `X-Shopfloor-Quarantined` counts lines that no rule places"},
    400: {
        "description": "Some lines can't be read; they lie in quarantine, the others are durable",
        "content": {"application/json": {"example": _INVALID}},
    },
    401: {"description": "No valid token"},
    403: {"description": "The token does not write, or nothing lies in its asset path"},
    404: {"description": "The configuration turns line protocol off"},
    408: {"description": "The body took too long"},
    413: {"description": "Too large"},
    415: {"description": "Packed with anything but gzip"},
    429: {"description": "Busy: see Retry-After"},
    503: {"description": "Store unavailable: see Retry-After"},
}


def _parameters(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "required": False, "schema": {"type": "string"}} for name in names]


@router.post(
    PATH_2,
    status_code=204,
    responses=_RESPONSES,
    openapi_extra={**_OPENAPI, "parameters": _parameters("org", "bucket", "precision")},
)
async def post_write_2(request: Request) -> Response:
    """Take line protocol as InfluxDB 2 does; 204 means that it is durable."""
    return await _answered(request, _SECOND)


@router.post(
    PATH_1,
    status_code=204,
    responses=_RESPONSES,
    openapi_extra={**_OPENAPI, "parameters": _parameters("db", "rp", "precision", "u", "p")},
)
async def post_write_1(request: Request) -> Response:
    """Take line protocol as InfluxDB 1.8 does; 204 means that it is durable."""
    return await _answered(request, _FIRST)


@router.head("/ping", status_code=204, include_in_schema=False)
@router.get("/ping", status_code=204)
async def ping() -> Response:
    """Say that the service lives."""
    return Response(status_code=204, headers=_HEADERS)


@router.get(
    "/health",
    responses={
        200: {"content": {"application/json": {"example": {"name": "shopfloor", "status": "pass"}}}},
        503: {"description": "A store does not answer"},
    },
)
async def get_health(request: Request) -> Response:
    """Say whether the stores answer, in InfluxDB's words."""
    health = {"name": "shopfloor", "message": "ready for queries and writes", "status": "pass"}
    status = 200
    try:
        await service_of(request).check()
    except StoreUnavailable:
        health |= {"message": "a store does not answer", "status": "fail"}
        status = 503
    return json_response(health | {"checks": [], "version": _VERSION}, status, _HEADERS)


async def _answered(request: Request, dialect: _Dialect) -> Response:
    try:
        taken = await _write(request, dialect)
    except StoreUnavailable as error:
        retry = {"Retry-After": str(round(error.retry_after_s or 2))}
        raise _refusal(
            dialect, 503, "the store is not available", retry, reason="store_unavailable"
        ) from error
    except Refused as refused:
        # Said in our own words somewhere on the way.
        raise _refusal(
            dialect, refused.status, str(refused.body.get("error", "")), refused.headers
        ) from refused
    if taken.unreadable:
        service_of(request).metrics.refusals.labels("400").inc()
        return _partial(dialect, taken)
    if not taken.lines and dialect.second:
        raise _refusal(dialect, 400, "writing requires points")
    headers = {"X-Shopfloor-Quarantined": str(taken.homeless)} if taken.homeless else {}
    return Response(status_code=204, headers=_HEADERS | headers)


async def _write(request: Request, dialect: _Dialect) -> Taken:
    door: LineProtocol = request.app.state.line_protocol
    if not door.config.enabled:
        raise Refused(404, {"error": "line protocol is not taken here"})
    identity = await _writer(request, dialect)
    precision = request.query_params.get("precision", "")
    multiplier = dialect.units.get(precision)
    if multiplier is None:
        raise Refused(400, {"error": f"invalid precision {precision[:20]!r}; known are {dialect.known}"})
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"gzip", "identity", ""}:
        raise Refused(415, {"error": "only gzip is unpacked"})
    service = service_of(request)
    limits = service.config.limits
    try:
        with service.backpressure.reserve(identity.token_id) as reservation:
            body = await body_of(request, limits.batch_bytes, limits.body_timeout_s, reservation)
            service.metrics.received_bytes.inc(len(body))
            if encoding == "gzip":
                # RFC 1952: the last four bytes are the size of what was packed.
                packed_bytes = int.from_bytes(body[-4:], "little")
                reservation.grow(min(packed_bytes, door.config.unpacked_bytes))
            return await door.write(
                body, identity, multiplier, gzip=encoding == "gzip", reservation=reservation
            )
    except Busy as error:
        raise Refused(429, {"error": "too much waits"}, {"Retry-After": "1"}) from error
    except NotYours as error:
        raise Refused(403, {"error": str(error)}) from error
    except BodyTooLarge as error:
        message = f"at most {door.config.unpacked_bytes} bytes are taken, unpacked"
        raise Refused(413, {"error": message}) from error
    except TooManySamples as error:
        message = (
            f"at most {limits.batch_samples} fields are taken at once, {MOST_HOMELESS} lines into quarantine"
        )
        raise Refused(413, {"error": message}) from error
    except NotGzip as error:
        raise Refused(400, {"error": f"the body is no gzip: {error}"}) from error


async def _writer(request: Request, dialect: _Dialect) -> Identity:
    """Return whose token a request carries, wherever it may stand; a cookie is none."""
    token = _token(request.headers.get("authorization", ""))
    if not token and not dialect.second:
        token = request.query_params.get("p", "")
    if not token:
        raise Refused(401, {"error": "unauthorized access"}, _challenge(dialect))
    others = [(name, value) for name, value in request.scope["headers"] if name != b"authorization"]
    bearer = (b"authorization", b"Bearer " + token.encode("utf-8", "replace"))
    try:
        return await writer(Request({**request.scope, "headers": [*others, bearer]}))
    except Refused as refused:
        if refused.status == 401:
            raise Refused(401, {"error": "unauthorized access"}, _challenge(dialect)) from refused
        raise


def _token(header: str) -> str:
    """Return the token of an ``Authorization`` header: of ``Token T``, ``Bearer T``, ``Token u:T``, Basic with u:T."""
    scheme, _, text = header.partition(" ")
    text = text.strip()
    if scheme.lower() == "basic":
        try:
            text = base64.b64decode(text, validate=True).decode()
        except (binascii.Error, ValueError):
            return ""
    elif scheme.lower() not in {"token", "bearer"}:
        return ""
    # No token of ours holds a colon.
    return text.partition(":")[2] if ":" in text else text


def _challenge(dialect: _Dialect) -> dict[str, str]:
    return {"WWW-Authenticate": 'Token realm="Shopfloor"' if dialect.second else 'Basic realm="Shopfloor"'}


def _partial(dialect: _Dialect, taken: Taken) -> Response:
    """Name the lines that could not be read; the first of them, where there are many."""
    more = taken.unreadable - len(taken.faults)
    named = [fault.message for fault in taken.faults] + ([f"and {more} more lines"] if more else [])
    whole = taken.unreadable == taken.lines
    message = ("" if whole else "partial write: ") + "\n".join(named)
    if not dialect.second:
        return json_response({"error": message}, 400, _HEADERS)
    return json_response(
        {"code": "invalid", "message": message, "line": taken.faults[0].number + 1}, 400, _HEADERS
    )


def _refusal(
    dialect: _Dialect,
    status: int,
    message: str,
    headers: Mapping[str, str] | None = None,
    *,
    reason: str = "",
) -> Refused:
    code = _CODES.get(status, "internal error")
    body = {"code": code, "message": message} if dialect.second else {"error": message}
    return Refused(status, body, _HEADERS | dict(headers or {}), reason=reason)
