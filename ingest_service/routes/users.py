"""Users of the page by HTTP: administrators add and change them, everybody sets the own password."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Path, Request, Response

from ingest_service.access import passwords, users
from ingest_service.access.audit import REFUSED, Act
from ingest_service.access.gate import Note, retry_after
from ingest_service.access.logins import TooManyLogins
from ingest_service.access.passwords import WeakPassword
from ingest_service.access.users import UserExists, UserRow
from ingest_service.auth import Identity, Role, digest
from ingest_service.openapi import json_body
from ingest_service.routes import (
    Refused,
    administrator,
    check_reach,
    cookie_name,
    json_response,
    known,
    message_of,
    note,
    service_of,
)
from ingest_service.service import Service
from shopfloor.errors import InvalidName

router = APIRouter(tags=["administration"])
Administrator = Annotated[Identity, Depends(administrator)]
Known = Annotated[Identity, Depends(known)]
Name = Annotated[str, Path(max_length=64, description="Name of a user")]


class NewUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/users``."""

    name: str
    password: str
    role: Role
    asset: str


class UserChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``PATCH /v1/users/{name}``; what is left out stays."""

    disabled: bool | None = None
    role: Role | None = None
    asset: str | None = None


class NewPassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``PUT /v1/users/{name}/password``."""

    password: str
    current: str = ""
    """The present one, where it is one's own."""


_EXAMPLE: Final = {
    "name": "anna",
    "role": "operator",
    "asset": "acme/hk01",
    "disabled": False,
    "created_at": 1763778000123,
    "password_changed_at": 1763778000123,
}


@router.get(
    "/v1/users", responses={200: {"content": {"application/json": {"example": {"users": [_EXAMPLE]}}}}}
)
async def get_users(request: Request, identity: Administrator) -> Response:
    """List the users."""
    plant = service_of(request).plant
    rows = await plant.run(users.list_users, plant.engine)
    return json_response({"users": [_shown(row) for row in rows if identity.covers(row.asset)]})


@router.post(
    "/v1/users",
    status_code=201,
    openapi_extra=json_body(
        {"name": "anna", "password": "seven words are long", "role": "operator", "asset": "acme/hk01"},
        NewUser,
    ),
    responses={
        201: {"content": {"application/json": {"example": _EXAMPLE}}},
        409: {"description": "There is a user of that name"},
    },
)
async def post_user(request: Request, identity: Administrator) -> Response:
    """Add a user."""
    service = service_of(request)
    wanted = await message_of(request, NewUser)
    subject = f"user {wanted.name[:64]}"
    note(request, "user.create", subject, role=wanted.role, asset=wanted.asset[:400])
    check_reach(wanted.asset, identity)
    try:
        users.parse_user(wanted.name)
        passwords.check_strength(wanted.password, wanted.name, service.config.access.password_length)
        hashed = await _hash(service, wanted.password)
        row = await service.plant.run(
            users.add_user, service.plant.engine, wanted.name, hashed, wanted.role, wanted.asset
        )
    except (InvalidName, WeakPassword) as error:
        raise Refused(400, {"error": str(error)}) from error
    except UserExists as error:
        raise Refused(409, {"error": str(error)}) from error
    return json_response(_shown(row), 201)


@router.patch(
    "/v1/users/{name}",
    openapi_extra=json_body({"disabled": True}, UserChange),
    responses={200: {"content": {"application/json": {"example": _EXAMPLE}}}},
)
async def patch_user(request: Request, identity: Administrator, name: Name) -> Response:
    """Disable or enable a user, or give it another role or path; its sessions end."""
    service = service_of(request)
    change = await message_of(request, UserChange)
    given = {key: value for key, value in msgspec.structs.asdict(change).items() if value is not None}
    note(request, "user.change", f"user {name}", **given)
    await _within_reach(service, name, identity)
    if change.asset is not None:
        check_reach(change.asset, identity)
    try:
        await service.plant.run(
            users.change_user,
            service.plant.engine,
            name,
            disabled=change.disabled,
            role=change.role,
            asset=change.asset,
        )
    except InvalidName as error:
        raise Refused(400, {"error": str(error)}) from error
    service.authenticator.forget()
    return json_response(_shown(await _within_reach(service, name, identity)))


@router.put(
    "/v1/users/{name}/password",
    status_code=204,
    openapi_extra=json_body({"password": "seven words are long", "current": "the one before"}, NewPassword),
)
async def put_password(request: Request, identity: Known, name: Name) -> Response:
    """Set a password: one's own by naming the present one, or as an administrator. Its other sessions end."""
    service = service_of(request)
    own = identity.user == name != ""
    request.state.note = Note(identity, "user.password", f"user {name}")
    if not own and not identity.administers:
        raise Refused(403, {"error": f"the role {identity.role} does not do that"})
    wanted = await message_of(request, NewPassword)
    keep = ""
    if own:
        keep = digest(request.cookies.get(cookie_name(request), ""))
        await _confirm(service, request, identity, wanted.current)
    else:
        await _within_reach(service, name, identity)
    try:
        passwords.check_strength(wanted.password, name, service.config.access.password_length)
    except WeakPassword as error:
        raise Refused(400, {"error": str(error)}) from error
    hashed = await _hash(service, wanted.password)
    await service.plant.run(users.set_password, service.plant.engine, name, hashed, keep_session=keep)
    service.authenticator.forget()
    return Response(status_code=204)


async def _confirm(service: Service, request: Request, identity: Identity, password: str) -> None:
    """Refuse who has somebody's session but not the password."""
    try:
        fits = await service.access.logins.confirm(identity.user, password, request.state.address)
    except TooManyLogins as error:
        raise too_many(error) from error
    if not fits:
        await service.access.record(
            Act(identity.actor, request.state.address, "session.confirm", "", REFUSED, identity.asset)
        )
        raise Refused(403, {"error": "the present password is another"})


async def _within_reach(service: Service, name: str, identity: Identity) -> UserRow:
    row = await service.plant.run(users.find_user, service.plant.engine, name)
    if row is None or not identity.covers(row.asset):
        raise Refused(404, {"error": f"there is no user {name[:64]}"})
    return row


async def _hash(service: Service, password: str) -> str:
    try:
        return await service.access.logins.hash(password)
    except TooManyLogins as error:
        raise too_many(error) from error


def too_many(error: TooManyLogins) -> Refused:
    """Return the answer to who tries too often: 429."""
    headers = {"Retry-After": retry_after(error.retry_after_s)}
    return Refused(429, {"error": "too many logins, try again later"}, headers, reason="logins")


def _shown(row: UserRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "role": row.role,
        "asset": row.asset,
        "disabled": row.disabled_at is not None,
        "created_at": row.created_at // 1_000_000,
        "password_changed_at": row.password_changed_at // 1_000_000,
    }
