"""Every route of the application asks who is there: none is forgotten, whoever adds it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx
import pytest
from fastapi import FastAPI

from ingest_service import routes as checks
from ingest_service.app import create_app
from ingest_service.auth import Role, create_token
from ingest_service.config import IngestConfig
from ingest_service.service import Service

PUBLIC = {
    ("GET", "/"),  # the page itself holds no data
    ("GET", "/openapi.json"),
    ("HEAD", "/openapi.json"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/health"),  # clients of InfluxDB look before they log in
    ("GET", "/ping"),
    ("HEAD", "/ping"),
    ("POST", "/v1/session"),  # logging in
}
WITHIN = {
    ("POST", "/v1/batches"): checks.writer,
    ("POST", "/api/v2/write"): checks.writer,
    ("POST", "/write"): checks.writer,
}
"""Routes that ask in their own code instead of by a dependency."""
ALLOWED = {
    checks.reader: {Role.VIEWER, Role.OPERATOR, Role.ADMIN},
    checks.writer: {Role.AGENT, Role.ADMIN},
    checks.operator: {Role.OPERATOR, Role.ADMIN},
    checks.administrator: {Role.ADMIN},
    checks.known: set(Role),
}
ENDLESS = {"/v1/live"}


class Route(NamedTuple):
    method: str
    path: str
    calls: frozenset[Any]
    """What it depends on, and what that depends on."""

    @property
    def url(self) -> str:
        return re.sub(r"\{[^}]*\}", "999999", self.path)


def routes_of(app: FastAPI) -> Iterator[Route]:
    def calls(dependant: Any) -> Iterator[Any]:
        for one in dependant.dependencies:
            yield one.call
            yield from calls(one)

    waiting: list[Any] = list(app.routes)
    while waiting:
        route = waiting.pop()
        if (inner := getattr(route, "original_router", None)) is not None:
            waiting += inner.routes
            continue
        found = frozenset(calls(route.dependant)) if hasattr(route, "dependant") else frozenset()
        for method in route.methods:
            yield Route(method, route.path, found)


@asynccontextmanager
async def opened(
    folder: Path, read_access: Literal["open", "token"]
) -> AsyncIterator[tuple[Service, list[Route], httpx.AsyncClient]]:
    service = Service(IngestConfig(data=folder / "data", read_access=read_access, page=folder))
    app = create_app(service)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        routes = list(routes_of(app))
        assert len(routes) > 30
        yield service, routes, client


@pytest.mark.parametrize("read_access", ["token", "open"])
async def test_without_credentials_nothing_but_the_short_list_answers(
    tmp_path: Path, read_access: Literal["open", "token"]
) -> None:
    async with opened(tmp_path, read_access) as (_, routes, client):
        missing = PUBLIC - {(one.method, one.path) for one in routes}
        assert not missing, "the list names what is no route"
        for one in routes:
            if (one.method, one.path) in PUBLIC:
                continue
            if read_access == "open" and checks.reader in one.calls:
                assert one.method in {"GET", "HEAD"}, "what is open to anybody changes nothing"
                continue
            for headers in (
                {},
                {"Authorization": "Bearer sf_wrong"},
                {"Authorization": "Basic YTpi"},
                {"Cookie": "shopfloor=wrong"},
            ):
                answer = await client.request(one.method, one.url, headers=headers)
                assert answer.status_code == 401, (one, headers, answer.text)


async def test_each_route_refuses_every_role_that_it_is_not_for(tmp_path: Path) -> None:
    async with opened(tmp_path, "token") as (service, routes, client):
        tokens = {
            role: {"Authorization": f"Bearer {create_token(service.plant.engine, role, '', '')}"}
            for role in Role
        }
        for one in routes:
            if (one.method, one.path) in PUBLIC:
                continue
            asked = set(ALLOWED) & (one.calls | {WITHIN.get((one.method, one.path))})
            assert len(asked) == 1, f"{one.method} {one.path} does not say which role it is for"
            allowed = ALLOWED[asked.pop()]
            for role in Role:
                if role in allowed and (one.path in ENDLESS or allowed == set(Role)):
                    continue
                answer = await client.request(one.method, one.url, headers=tokens[role])
                refused = answer.status_code in {401, 403}
                assert refused == (role not in allowed), (one.method, one.path, role, answer.text)
