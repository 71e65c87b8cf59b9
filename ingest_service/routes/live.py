"""``GET /v1/live``: server-sent events; and the tiles that it begins with."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from ingest_service.auth import Identity
from ingest_service.live_scope import effective_scope, visible
from ingest_service.routes import Refused, json_response, reader, service_of
from ingest_service.routes.watching import while_allowed

router = APIRouter(tags=["readers"])
Reader = Annotated[Identity, Depends(reader)]
Assets = Annotated[
    list[str] | None,
    Query(description="Asset path: it and all below it", examples=["acme/hk01"], max_length=100),
]
LastEventId = Annotated[
    str,
    Header(
        description="The last id that was received: what has changed since comes, instead of everything",
        max_length=100,
    ),
]


@router.get(
    "/v1/live",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def get_live(
    request: Request, identity: Reader, asset: Assets = None, last_event_id: LastEventId = ""
) -> Response:
    """Send what happens as it happens, until the viewer goes."""
    service = service_of(request)
    if len(service.hub) >= service.config.limits.viewers:
        raise Refused(503, {"error": "too many viewers"}, {"Retry-After": "5"})
    events = service.hub.watch(effective_scope(asset or (), identity.asset), last_event_id)
    # X-Accel-Buffering: a proxy that collects events before passing them on would defeat their purpose.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    allowed = while_allowed(request, identity, events)
    return StreamingResponse(allowed, headers=headers, media_type="text/event-stream")


@router.get("/v1/sites")
async def get_sites(request: Request, identity: Reader) -> Response:
    """Return the sites as tiles."""
    floor = service_of(request).floor
    return json_response({"sites": [floor.sites[one] for one in sorted(floor.sites) if identity.covers(one)]})


@router.get("/v1/machines")
async def get_machines(request: Request, identity: Reader, asset: Assets = None) -> Response:
    """Return the machines with their states."""
    scope = effective_scope(asset or (), identity.asset)
    machines = service_of(request).floor.machines
    return json_response(
        {"machines": [machines[one] for one in sorted(machines) if machines[one] and visible(one, scope)]}
    )
