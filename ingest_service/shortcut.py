"""The way of batches and line protocol past what the framework does for every route, which takes longer than a batch.

The routes stay declared where the others are: they are documented there, and answer the other methods.
"""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Request
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import Receive, Scope, Send

from ingest_service.access.gate import Gate
from ingest_service.app import Hardening, open_locally, refuse
from ingest_service.routes import Refused, batches, line_protocol
from ingest_service.service import Service
from shopfloor.errors import StoreUnavailable

_WRITES: Final = {
    batches.PATH: batches.post_batch,
    line_protocol.PATH_2: line_protocol.post_write_2,
    line_protocol.PATH_1: line_protocol.post_write_1,
}


class Shortcut:
    """An ASGI application in front of another: what is written is answered here, everything else there."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        self.app = app
        gate = Gate(self._take, access=service.access)
        hardening = Hardening(gate, local_names_only=open_locally(service.config))
        self._writes = ServerErrorMiddleware(hardening)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in _WRITES:
            scope["app"] = self.app
            await self._writes(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await _WRITES[scope["path"]](request)
        except (Refused, StoreUnavailable) as error:
            response = refuse(request, error)
        await response(scope, receive, send)
