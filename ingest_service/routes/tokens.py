"""Tokens by HTTP, for administrators: each gives, sees and takes only what lies at or below its own path."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Path, Request, Response

from ingest_service.auth import Identity, Role, TokenRow, find_token, list_tokens, make_token, revoke_token
from ingest_service.openapi import json_body
from ingest_service.routes import (
    Refused,
    administrator,
    check_reach,
    json_response,
    message_of,
    note,
    service_of,
)
from shopfloor.errors import InvalidName

router = APIRouter(tags=["administration"])
Administrator = Annotated[Identity, Depends(administrator)]
_LAST_MS: Final = 2**63 // 1_000_000 - 1


class NewToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/tokens``."""

    role: Role
    asset: str
    """Empty for everything, which only who reaches everything may give."""
    name: str = ""
    expires_at: Annotated[int, msgspec.Meta(ge=0, le=_LAST_MS)] | None = None
    """UTC ms."""
    certificate: str = ""
    """Name that the client certificate beside it has to bear."""


_EXAMPLE: Final = {
    "token_id": 5,
    "role": "agent",
    "asset": "acme/hk01",
    "name": "gateway HK01",
    "state": "valid",
    "created_at": 1763778000123,
    "expires_at": None,
    "certificate": "",
}


@router.get(
    "/v1/tokens",
    responses={200: {"content": {"application/json": {"example": {"tokens": [_EXAMPLE]}}}}},
)
async def get_tokens(request: Request, identity: Administrator) -> Response:
    """List the tokens, without their secrets."""
    service = service_of(request)
    rows = await service.plant.run(list_tokens, service.plant.engine)
    now = service.clock_ns()
    return json_response({"tokens": [_shown(row, now) for row in rows if identity.covers(row.asset)]})


@router.post(
    "/v1/tokens",
    status_code=201,
    openapi_extra=json_body({"role": "agent", "asset": "acme/hk01", "name": "gateway HK01"}, NewToken),
    responses={201: {"content": {"application/json": {"example": {**_EXAMPLE, "token": "sf_..."}}}}},
)
async def post_token(request: Request, identity: Administrator) -> Response:
    """Make a token; the answer is the only time that it can be seen."""
    service = service_of(request)
    wanted = await message_of(request, NewToken)
    note(request, "token.create", role=wanted.role, asset=wanted.asset[:400], name=wanted.name[:200])
    check_reach(wanted.asset, identity)
    expires_at = None if wanted.expires_at is None else wanted.expires_at * 1_000_000
    if expires_at is not None and expires_at <= service.clock_ns():
        raise Refused(400, {"error": "expires_at has passed"})
    try:
        text, row = await service.plant.run(
            make_token,
            service.plant.engine,
            wanted.role,
            wanted.asset,
            wanted.name,
            expires_at=expires_at,
            certificate=wanted.certificate,
        )
    except InvalidName as error:
        raise Refused(400, {"error": str(error)}) from error
    note(request, "token.create", f"token {row.token_id}", role=row.role, asset=row.asset, name=row.name)
    return json_response(
        {"token": text, **_shown(row, service.clock_ns())}, 201, {"Cache-Control": "no-store"}
    )


@router.delete("/v1/tokens/{token_id}", status_code=204)
async def delete_token(
    request: Request, identity: Administrator, token_id: Annotated[int, Path(ge=1, le=2**31 - 1)]
) -> Response:
    """Revoke a token: here at once, in other processes within five seconds."""
    service = service_of(request)
    note(request, "token.revoke", f"token {token_id}")
    row = await service.plant.run(find_token, service.plant.engine, token_id)
    if row is None or row.revoked_at is not None or not identity.covers(row.asset):
        raise Refused(404, {"error": f"there is no valid token {token_id}"})
    await service.plant.run(revoke_token, service.plant.engine, token_id)
    service.authenticator.forget()
    return Response(status_code=204)


def _shown(row: TokenRow, now: int) -> dict[str, Any]:
    return {
        "token_id": row.token_id,
        "role": row.role,
        "asset": row.asset,
        "name": row.name,
        "state": row.state(now),
        "created_at": row.created_at // 1_000_000,
        "expires_at": None if row.expires_at is None else row.expires_at // 1_000_000,
        "certificate": row.certificate,
    }
