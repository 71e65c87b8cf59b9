"""The web application around a `Service`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest_service.access.gate import Gate
from ingest_service.config import IngestConfig, is_loopback
from ingest_service.line_protocol.door import LineProtocol
from ingest_service.openapi import DescribedApp
from ingest_service.reading.slots import Slots
from ingest_service.routes import (
    Refused,
    agents,
    alarms,
    audit,
    batches,
    json_response,
    ledger,
    ledger_assets,
    line_protocol,
    live,
    quarantine,
    samples,
    series,
    session,
    status,
    tokens,
    users,
)
from ingest_service.routes.page import add_page
from ingest_service.service import Service
from shopfloor.errors import StoreUnavailable

_HEADERS: Final = {
    b"content-security-policy": (
        b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
}


_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"description": "The request is not what this document says"},
    401: {"description": "No valid token or session"},
    403: {"description": "The role or the asset path does not reach that far"},
    404: {"description": "There is no such thing, or it is out of reach"},
    408: {"description": "The body took too long"},
    413: {"description": "The body is too large"},
    415: {"description": "The body is of another media type"},
    421: {"description": "Reading is open, and the Host is not a loopback name"},
    429: {"description": "Too many requests: see Retry-After"},
    431: {"description": "The line and the headers of the request are too large"},
    503: {"description": "A store is unavailable: see Retry-After"},
}
"""What any route may answer."""


class Hardening:
    """Adds security headers to every answer, and answers only to its own name where reading is open to anybody.

    The latter because a page of a foreign site can let its own name point to this machine and would then read.
    """

    def __init__(self, app: ASGIApp, *, local_names_only: bool) -> None:
        self._app = app
        self._local_names_only = local_names_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [one for one in message["headers"] if one[0] not in _HEADERS]
                message["headers"] = own + list(_HEADERS.items())
            await send(message)

        if self._local_names_only and not is_loopback(_host(scope)):
            refusal = json_response({"error": "unknown host name"}, 421)
            await refusal(scope, receive, hardened)
            return
        await self._app(scope, receive, hardened)


def create_app(service: Service) -> FastAPI:
    """Return the application; its lifespan opens and closes ``service``."""
    door = LineProtocol(service.config.line_protocol, service)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with service:
            try:
                yield
            finally:
                await door.close()

    app = DescribedApp(
        title="Shopfloor ingestion service",
        version=version("shopfloor"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=_ANSWERS,
    )
    app.state.service = service
    app.state.large_answers = Slots(service.config.limits.large_answers)
    app.state.line_protocol = door
    for module in (
        batches,
        line_protocol,
        agents,
        series,
        samples,
        ledger,
        ledger_assets,
        quarantine,
        alarms,
        live,
        status,
        session,
        tokens,
        users,
        audit,
    ):
        app.include_router(module.router)
    add_page(app, service.config.page_folder)
    app.add_exception_handler(Refused, refuse)
    app.add_exception_handler(StoreUnavailable, refuse)
    app.add_middleware(Gate, access=service.access)
    app.add_middleware(Hardening, local_names_only=open_locally(service.config))
    return app


def open_locally(config: IngestConfig) -> bool:
    """Tell whether anybody may read who asks by a loopback name."""
    return config.read_access == "open"


def refuse(request: Request, refused: Exception) -> Response:
    """Return the answer that a Refused or StoreUnavailable stands for, counted."""
    if isinstance(refused, StoreUnavailable):
        # Whoever asked first, often the look-up of a token, met a disk that is full or locked.
        retry = {"Retry-After": str(round(refused.retry_after_s or 2))}
        refused = Refused(503, {"error": "store_unavailable"}, retry, reason="store_unavailable")
    assert isinstance(refused, Refused)
    metrics = request.app.state.service.metrics
    counter = metrics.reader_refusals if request.method in {"GET", "HEAD"} else metrics.refusals
    counter.labels(refused.reason).inc()
    return json_response(refused.body, refused.status, refused.headers)


def _host(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"host":
            text: str = value.decode("latin-1")
            host = text.rpartition(":")[0] if ":" in text and not text.endswith("]") else text
            return host.strip("[]")
    return ""
