"""``/v1/alarms``: what is wrong, what was, and who has seen it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from ingest_service.alarms import may_see, shown
from ingest_service.auth import Identity
from ingest_service.plant import alarms as kept
from ingest_service.plant.alarms import AlarmRow
from ingest_service.routes import Refused, json_response, note, operator, reader, service_of

router = APIRouter(prefix="/v1/alarms", tags=["alarms"])
Reader = Annotated[Identity, Depends(reader)]
Operator = Annotated[Identity, Depends(operator)]
_PAGE: Final = 1000
_SINCE: Final = re.compile(r"[0-9]{1,18}|[0-8][0-9]{18}")
_EXAMPLE: Final = {
    "id": "3f0a9c",
    "kind": "agent_silent",
    "subject": "hk01-gateway",
    "asset": "acme/hk01",
    "message": "not heard of since 2025-11-22T02:19:00+00:00",
    "since": 1763778000123,
    "until": None,
    "acknowledged_at": None,
    "acknowledged_by": "",
}


def _answer(example: object) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": example}}}}


@router.get("", responses=_answer({"alarms": [_EXAMPLE], "next": None}))
async def get_alarms(
    request: Request,
    identity: Reader,
    state: Annotated[
        Literal["active", "over", "all"], Query(description="active: all of them, oldest first")
    ] = "active",
    limit: Annotated[int, Query(ge=1, le=_PAGE)] = 100,
    cursor: Annotated[str | None, Query(description="`next` of the answer before", max_length=100)] = None,
) -> Response:
    """Return the alarms: what is wrong now, or, newest first and by pages, what was."""
    service = service_of(request)
    if state == "active":
        active = sorted(service.alarms.active.values(), key=lambda one: (one.since, one.alarm_id))
        return json_response(
            {"alarms": [shown(one) for one in active if may_see(one, identity.asset)], "next": None}
        )
    found: list[AlarmRow] = []
    before = None if cursor is None else _place(cursor)
    more = True
    while more and len(found) <= limit:
        rows = await service.plant.run(
            kept.history, service.plant.engine, _PAGE, before, over=state == "over"
        )
        more = len(rows) == _PAGE
        before = (rows[-1].since, rows[-1].alarm_id) if rows else before
        found += [one for one in rows if may_see(one, identity.asset)]
    last = found[limit - 1] if len(found) > limit else None
    return json_response(
        {
            "alarms": [shown(one) for one in found[:limit]],
            "next": f"{last.since}-{last.alarm_id}" if last else None,
        }
    )


@router.post("/{alarm_id}/acknowledge", responses=_answer(_EXAMPLE))
async def post_acknowledge(request: Request, identity: Operator, alarm_id: str) -> Response:
    """Note that somebody has seen an alarm; the first one counts. An alarm of missing samples is over with that."""
    service = service_of(request)
    note(request, "alarm.acknowledge", alarm_id[:100])
    known = next((one for one in service.alarms.active.values() if one.alarm_id == alarm_id), None)
    if known is None:
        known = await service.plant.run(kept.one, service.plant.engine, alarm_id)
    if known is None or not may_see(known, identity.asset):
        raise Refused(404, {"error": "there is no such alarm"})
    return json_response(shown(await service.alarms.acknowledge(known, identity.actor)))


def _place(cursor: str) -> tuple[int, str]:
    since, _, alarm_id = cursor.partition("-")
    if not _SINCE.fullmatch(since):
        raise Refused(400, {"error": "cursor: this is none of ours"})
    return int(since), alarm_id
