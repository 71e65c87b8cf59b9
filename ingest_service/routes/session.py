"""Logging in and out by HTTP, and who one is."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from ingest_service.access.audit import DONE, REFUSED, Act
from ingest_service.access.logins import TooManyLogins
from ingest_service.access.origin import is_encrypted
from ingest_service.access.users import find_user
from ingest_service.auth import Identity
from ingest_service.openapi import json_body
from ingest_service.routes import (
    Refused,
    cookie_name,
    json_response,
    known,
    message_of,
    own_page,
    reader,
    service_of,
)
from ingest_service.routes.users import too_many

router = APIRouter(tags=["session"])
Known = Annotated[Identity, Depends(known)]
Reader = Annotated[Identity, Depends(reader)]


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/session``."""

    user: str
    password: str


_EXAMPLE: Final = {"user": "anna", "role": "operator", "asset": "acme/hk01", "ends_at": 1764382800123}


@router.post(
    "/v1/session",
    openapi_extra=json_body({"user": "anna", "password": "seven words are long"}, Login),
    responses={200: {"content": {"application/json": {"example": _EXAMPLE}}}},
)
async def post_session(request: Request) -> Response:
    """Log in: the answer sets the cookie of a new session."""
    service = service_of(request)
    own_page(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # What a form of another site can send without asking first is none of ours.
        raise Refused(415, {"error": "expected Content-Type application/json"})
    login = await message_of(request, Login)
    address: str = request.state.address
    subject = f"user {login.user[:64]}"
    row = await service.plant.run(find_user, service.plant.engine, login.user[:64])
    reach = row.asset if row else ""
    try:
        session = await service.access.logins.log_in(login.user, login.password, address)
    except TooManyLogins as error:
        service.access.too_often.labels("login").inc()
        raise too_many(error) from error
    if session is None:
        await service.access.record(Act("anybody", address, "session.begin", subject, REFUSED, reach))
        raise Refused(401, {"error": "user or password is wrong"}, reason="login")
    await service.access.record(Act(subject, address, "session.begin", subject, DONE, reach))
    assert row is not None
    answer = json_response(
        {"user": row.name, "role": row.role, "asset": row.asset, "ends_at": session.ends_at // 1_000_000},
        headers={"Cache-Control": "no-store"},
    )
    _set_cookie(request, answer, session.cookie, int(service.config.access.session_s))
    return answer


@router.get("/v1/session", responses={200: {"content": {"application/json": {"example": _EXAMPLE}}}})
async def get_session(request: Request, identity: Reader) -> Response:
    """Tell who is logged in; ``user`` is empty and ``ends_at`` null for a token, and for anybody where reading is open."""
    ends_at = None
    if identity.user:
        session = await service_of(request).authenticator.session(
            request.cookies.get(cookie_name(request), "")
        )
        ends_at = session.ends_at // 1_000_000 if session else None
    return json_response(
        {"user": identity.user, "role": identity.role, "asset": identity.asset, "ends_at": ends_at},
        headers={"Cache-Control": "no-store"},
    )


@router.delete("/v1/session", status_code=204)
async def delete_session(request: Request, identity: Known) -> Response:
    """Log out: the session ends, wherever else its cookie may be."""
    service = service_of(request)
    if not identity.user:
        raise Refused(400, {"error": "a token has no session"})
    await service.authenticator.end_session(request.cookies.get(cookie_name(request), ""))
    act = Act(
        identity.actor, request.state.address, "session.end", f"user {identity.user}", DONE, identity.asset
    )
    await service.access.record(act)
    answer = Response(status_code=204)
    _set_cookie(request, answer, "", 0)
    return answer


def _set_cookie(request: Request, answer: Response, text: str, age_s: int) -> None:
    answer.set_cookie(
        cookie_name(request),
        text,
        max_age=age_s,
        path="/",
        secure=is_encrypted(request.scope, service_of(request).access.proxies),
        httponly=True,
        samesite="strict",
    )
