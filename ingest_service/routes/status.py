"""Is it alive, is it ready, what does it count."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse

from ingest_service.auth import Identity
from ingest_service.routes import Refused, json_response, reader, service_of
from shopfloor.errors import StoreUnavailable

router = APIRouter(tags=["status"])


@router.get("/healthz")
async def get_health() -> Response:
    """Say that the process lives."""
    return json_response({"status": "ok"})


@router.get("/readyz")
async def get_ready(request: Request) -> Response:
    """Say whether the stores answer."""
    try:
        await service_of(request).check()
    except StoreUnavailable as error:
        raise Refused(503, {"status": "store_unavailable"}) from error
    return json_response({"status": "ok"})


@router.get("/metrics", response_class=PlainTextResponse)
async def get_metrics(request: Request, _: Annotated[Identity, Depends(reader)]) -> Response:
    """Return the metrics in the format of Prometheus."""
    body = service_of(request).metrics.render()
    return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")
