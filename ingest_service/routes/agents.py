"""What agents say beside batches: heartbeats, losses, declarations."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from ingest_service.auth import Identity
from ingest_service.openapi import json_body
from ingest_service.routes import (
    Refused,
    check_asset,
    json_response,
    known,
    message_of,
    note,
    operator,
    reader,
    service_of,
    writer,
)
from ingest_service.service import Service
from shopfloor.asset import parse_asset
from shopfloor.errors import InvalidName, StoreUnavailable
from shopfloor.messages import Heartbeat, HeartbeatReply, SeriesDeclarations, SpanRecord, TokenInfo
from shopfloor.signal import parse_signal

router = APIRouter(tags=["agents"])
Writer = Annotated[Identity, Depends(writer)]
Reader = Annotated[Identity, Depends(reader)]
Known = Annotated[Identity, Depends(known)]
Operator = Annotated[Identity, Depends(operator)]
_NAMED: Final = 100
"""Things that were left out and are named, at most."""


_HEARTBEAT: Final = {
    "agent_id": "hk01-gateway",
    "asset": "acme/hk01",
    "version": "0.1.0",
    "wire_version": 1,
    "config_hash": "5f0c1a",
    "started": 1763770000000000000,
    "sent": 1763778000123000000,
    "sources": [
        {
            "name": "imm-01",
            "protocol": "opcua",
            "state": "running",
            "since": 1763770001000000000,
            "assets": ["acme/hk01/moulding/cell-a/imm-01"],
            "events": {"poll_overrun": 3},
        }
    ],
    "buffer": {
        "streams": 1,
        "pending_samples": 120,
        "oldest_pending_time": 1763777999000000000,
        "used_bytes": 40960,
        "limit_bytes": 1073741824,
        "hours_left": 72.5,
    },
}
_SPAN: Final = {
    "record_id": "0a1b2c",
    "stream_id": "9f8e7d",
    "first_seq": 100,
    "last_seq": 199,
    "kind": "dropped",
    "reason": "buffer full",
    "from_time": 1763770000000000000,
    "to_time": 1763770010000000000,
    "count": 100,
}


@router.post(
    "/v1/heartbeats",
    openapi_extra=json_body(_HEARTBEAT, Heartbeat),
    responses={
        200: {
            "content": {
                "application/json": {"example": {"now": 1763778000125000000, "declarations_wanted": True}}
            }
        }
    },
)
async def post_heartbeat(request: Request, identity: Writer) -> Response:
    """Take a heartbeat, as far as its token reaches, and answer with our clock."""
    service = service_of(request)
    heartbeat = await message_of(request, Heartbeat)
    check_asset(_asset(heartbeat.asset), identity)
    _check_agent(service, heartbeat.agent_id, identity)
    heartbeat, outside = _inside(heartbeat, identity)
    now = service.clock_ns()
    wanted = service.book.take_heartbeat(heartbeat, now, outside)
    vanished, final = service.book.take_vanished(heartbeat.agent_id)
    await service.settle_vanished(heartbeat.agent_id, vanished, final=final)
    return json_response(HeartbeatReply(now, wanted, outside))


@router.post("/v1/spans", status_code=204, openapi_extra=json_body([_SPAN], list[SpanRecord]))
async def post_spans(request: Request, identity: Writer) -> Response:
    """Keep records of samples that will not come; repeating one changes nothing."""
    service = service_of(request)
    spans = await message_of(request, list[SpanRecord])
    by_agent: dict[str, list[SpanRecord]] = {}
    for span in spans:
        owner = (service.stream_agent(span.stream_id) if span.stream_id else None) or span.agent_id
        if owner:
            _check_agent(service, owner, identity)
        if span.last_seq < span.first_seq:
            raise Refused(400, {"error": f"span {span.record_id}: last_seq lies before first_seq"})
        by_agent.setdefault(owner, []).append(span)
    try:
        for agent_id, records in by_agent.items():
            await service.plant.run(service.plant.put_spans, agent_id, records)
    except StoreUnavailable as error:
        raise _busy() from error
    return Response(status_code=204)


@router.put(
    "/v1/declarations",
    status_code=204,
    openapi_extra=json_body(
        {
            "agent_id": "hk01-gateway",
            "config_hash": "5f0c1a",
            "series": [
                {
                    "asset": "acme/hk01/moulding/cell-a/imm-01",
                    "signal": "barrel.zone_1.temperature",
                    "unit": "Cel",
                    "description": "Barrel, zone 1",
                }
            ],
        },
        SeriesDeclarations,
    ),
    responses={
        200: {
            "description": "Some are left out; the others are kept",
            "content": {
                "application/json": {
                    "example": {"taken": 1, "left_out": 1, "first": [{"place": 0, "error": "outside_scope"}]}
                }
            },
        }
    },
)
async def put_declarations(request: Request, identity: Writer) -> Response:
    """Keep units and descriptions of an agent's series: of those that its token reaches; 200 names the others."""
    service = service_of(request)
    declarations = await message_of(request, SeriesDeclarations)
    _check_agent(service, declarations.agent_id, identity)
    if len(declarations.series) > service.config.limits.series:
        raise Refused(413, {"error": "too many series"})
    faults = {}
    for number, one in enumerate(declarations.series):
        fault = _fault(one.asset, identity, one.signal)
        if fault:
            faults[number] = fault
    taken = tuple(one for number, one in enumerate(declarations.series) if number not in faults)
    try:
        await service.declare(msgspec.structs.replace(declarations, series=taken), identity.asset)
    except StoreUnavailable as error:
        raise _busy() from error
    if faults:
        named = [{"place": number, "error": fault} for number, fault in list(faults.items())[:_NAMED]]
        return json_response({"taken": len(taken), "left_out": len(faults), "first": named})
    return Response(status_code=204)


@router.get(
    "/v1/token",
    responses={
        200: {
            "content": {
                "application/json": {
                    "example": {"role": "agent", "asset": "acme/hk01", "now": 1763778000125000000}
                }
            }
        }
    },
)
async def get_token(request: Request, identity: Known) -> Response:
    """Tell what a token is good for, and our clock; nothing changes."""
    return json_response(TokenInfo(str(identity.role), identity.asset, service_of(request).clock_ns()))


@router.get("/v1/agents")
async def get_agents(request: Request, identity: Reader) -> Response:
    """Return the agents: contact, sources and what they met, configuration, buffer, lag."""
    service = service_of(request)
    now = service.clock_ns()
    shown = [
        service.book.details(agent_id, now)
        for agent_id in sorted(service.book.ids())
        if (asset := service.book.asset_of(agent_id)) is not None and identity.covers(asset)
    ]
    return json_response({"agents": shown})


@router.delete("/v1/agents/{agent_id}", status_code=204)
async def delete_agent(request: Request, identity: Operator, agent_id: str) -> Response:
    """Retire an agent: it leaves the registry; its streams keep their ledger. If it still sends, it comes back."""
    service = service_of(request)
    note(request, "agent.retire", agent_id[:100])
    asset = service.book.asset_of(agent_id)
    if asset is None or not identity.covers(asset):
        raise Refused(404, {"error": f"there is no agent {agent_id[:100]}"})
    await service.retire(agent_id)
    return Response(status_code=204)


def _inside(heartbeat: Heartbeat, identity: Identity) -> tuple[Heartbeat, tuple[str, ...]]:
    """Return a heartbeat without the assets that a token does not reach, and those."""
    outside: dict[str, None] = {}
    for source in heartbeat.sources:
        outside.update(dict.fromkeys(asset for asset in source.assets if _fault(asset, identity)))
    if not outside:
        return heartbeat, ()
    sources = tuple(
        msgspec.structs.replace(source, assets=tuple(one for one in source.assets if one not in outside))
        for source in heartbeat.sources
    )
    return msgspec.structs.replace(heartbeat, sources=sources), tuple(outside)[:_NAMED]


def _fault(asset: str, identity: Identity, signal: str | None = None) -> str:
    """Return why an asset, or a signal of it, is not taken; empty where it is."""
    try:
        parse_asset(asset)
        if signal is not None:
            parse_signal(signal)
    except InvalidName as error:
        return str(error)
    return "" if identity.covers(asset) else f"the token does not reach {asset}"


def _asset(text: str) -> str:
    try:
        return str(parse_asset(text))
    except InvalidName as error:
        raise Refused(400, {"error": str(error)}) from error


def _check_agent(service: Service, agent_id: str, identity: Identity) -> None:
    asset = service.asset_of(agent_id)
    if asset is not None and not identity.covers(asset):
        raise Refused(403, {"error": f"agent {agent_id} serves {asset}, which the token does not reach"})


def _busy() -> Refused:
    return Refused(503, {"error": "store_unavailable"}, {"Retry-After": "2"}, reason="store_unavailable")
