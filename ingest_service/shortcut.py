"""The way of batches past what the framework does for every route, which takes longer than the batch itself.

The route stays declared where the others are: it is documented there, and answers the other methods.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import Receive, Scope, Send

from ingest_service.access.gate import Gate
from ingest_service.app import Hardening, open_locally, refuse
from ingest_service.routes import Refused
from ingest_service.routes.batches import PATH, post_batch
from ingest_service.service import Service
from shopfloor.errors import StoreUnavailable


class Shortcut:
    """An ASGI application in front of another: batches are answered here, everything else there."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        self._app = app
        gate = Gate(self._take, access=service.access)
        hardening = Hardening(gate, local_names_only=open_locally(service.config))
        self._batches = ServerErrorMiddleware(hardening)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST":
            scope["app"] = self._app
            await self._batches(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await post_batch(request)
        except (Refused, StoreUnavailable) as error:
            response = refuse(request, error)
        await response(scope, receive, send)
