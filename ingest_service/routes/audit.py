"""The audit log by HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from ingest_service.access.audit import AuditRow, entries
from ingest_service.auth import Identity
from ingest_service.routes import administrator, json_response, service_of

router = APIRouter(tags=["administration"])
Administrator = Annotated[Identity, Depends(administrator)]
_EXAMPLE: Final = {
    "audit_id": 17,
    "at": 1763778000123,
    "actor": "user anna",
    "address": "10.1.2.3",
    "action": "token.revoke",
    "subject": "token 5",
    "outcome": "done",
    "detail": {},
}


@router.get(
    "/v1/audit",
    responses={200: {"content": {"application/json": {"example": {"entries": [_EXAMPLE], "before": 17}}}}},
)
async def get_audit(
    request: Request,
    identity: Administrator,
    before: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="Entries older than this one")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """List who did what, from where, newest first; ``before`` of the answer asks for the next page, null at the end."""
    plant = service_of(request).plant
    rows = await plant.run(entries, plant.engine, reach=identity.asset, before=before, limit=limit)
    following = rows[-1].audit_id if len(rows) == limit else None
    return json_response({"entries": [shown(row) for row in rows], "before": following})


def shown(row: AuditRow) -> dict[str, Any]:
    """Return an entry as it is shown: without the reach that decides who sees it."""
    return {
        **{name: value for name, value in row._asdict().items() if name != "asset"},
        "at": row.at // 1_000_000,
        "detail": msgspec.json.decode(row.detail),
    }
