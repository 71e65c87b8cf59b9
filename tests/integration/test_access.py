"""Users, sessions, tokens and the audit log over HTTP: who gets in, who does not, and what is written down of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import argon2
import httpx
import pytest

from ingest_service.access import passwords, users
from ingest_service.auth import Role
from ingest_service.routes import watching
from tests.integration.ingest_server import Running, batch, running

PASSWORD = "seven words are long enough"
PAGE = {"X-Shopfloor-Request": "1", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        passwords, "_HASHER", argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    )


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as one:
        yield one


def add_user(plant: Running, name: str, role: Role, asset: str) -> None:
    users.add_user(plant.service.plant.engine, name, passwords.hash_password(PASSWORD), role, asset)


async def log_in(plant: Running, name: str, password: str = PASSWORD) -> httpx.Response:
    plant.client.cookies.clear()
    return await plant.client.post("/v1/session", json={"user": name, "password": password}, headers=PAGE)


async def audit(plant: Running, admin: dict[str, str]) -> list[tuple[Any, ...]]:
    found = await plant.get("/v1/audit", admin)
    return [
        (one["actor"], one["action"], one["subject"], one["outcome"]) for one in reversed(found["entries"])
    ]


async def test_a_session_reads_as_its_role_and_ends_with_its_logout(plant: Running) -> None:
    add_user(plant, "anna", Role.VIEWER, "acme/hk01")
    answer = await log_in(plant, "anna")
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("shopfloor=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie  # this is plain HTTP on loopback
    assert (await plant.get("/v1/session", {}))["user"] == "anna"
    assert (await plant.get("/v1/series", {})) == {"series": []}
    assert (await plant.client.get("/v1/tokens")).status_code == 403
    answer = await plant.post(batch(), PAGE)
    assert answer.status_code == 403
    text = plant.client.cookies["shopfloor"]
    assert (await plant.client.delete("/v1/session", headers=PAGE)).status_code == 204
    # Whoever kept the cookie has nothing.
    answer = await plant.client.get("/v1/series", headers={"Cookie": f"shopfloor={text}"})
    assert answer.status_code == 401


async def test_a_change_with_a_cookie_comes_from_our_own_page_only(plant: Running) -> None:
    add_user(plant, "boss", Role.ADMIN, "acme")
    await log_in(plant, "boss")
    body = {"role": "viewer", "asset": "acme/hk01"}
    origin = str(plant.client.base_url).rstrip("/")
    for headers, status in [
        ({}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 403),
        ({"X-Shopfloor-Request": "1", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"X-Shopfloor-Request": "1", "Sec-Fetch-Site": "same-site"}, 403),
        ({"X-Shopfloor-Request": "1", "Origin": "https://evil.example"}, 403),
        ({"X-Shopfloor-Request": "1", "Origin": "null"}, 403),
        ({"X-Shopfloor-Request": "1", "Origin": origin}, 201),
        (PAGE, 201),
    ]:
        answer = await plant.client.post("/v1/tokens", json=body, headers=headers)
        assert answer.status_code == status, (headers, answer.text)
    foreign = {"Sec-Fetch-Site": "cross-site"}
    answer = await plant.client.post(
        "/v1/session", json={"user": "boss", "password": PASSWORD}, headers=foreign
    )
    assert answer.status_code == 403  # nobody logs somebody in as somebody else
    answer = await plant.client.post("/v1/session", data={"user": "boss", "password": PASSWORD})
    assert answer.status_code == 415


async def test_wrong_logins_say_the_same_are_audited_and_run_out(tmp_path: Path) -> None:
    async with running(tmp_path, access={"login_failures": 2, "login_pause_s": 86400}) as plant:
        add_user(plant, "anna", Role.VIEWER, "acme/hk01")
        admin = plant.token(Role.ADMIN, "acme")
        root = plant.token(Role.ADMIN, "")
        unknown, wrong = await log_in(plant, "nobody"), await log_in(plant, "anna", "not her password")
        assert (unknown.status_code, unknown.content) == (wrong.status_code, wrong.content)
        assert unknown.status_code == 401
        assert (await log_in(plant, "anna", "still not hers")).status_code == 401
        refused = await log_in(plant, "anna")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 3600
        mine = ("anybody", "session.begin", "user anna", "refused")
        assert await audit(plant, admin) == [mine, mine]
        assert ("anybody", "session.begin", "user nobody", "refused") in await audit(plant, root)
        everything = str(await plant.get("/v1/audit", root))
        assert "password" not in everything
        assert "127.0.0.1" in everything


async def test_sessions_end_by_idleness_and_by_age(tmp_path: Path) -> None:
    async with running(tmp_path, access={"session_idle_s": 60, "session_s": 150}) as plant:
        add_user(plant, "anna", Role.VIEWER, "acme/hk01")
        authenticator = plant.service.authenticator
        shift = 0

        def clock_ns() -> int:
            return time.time_ns() + shift * 1_000_000_000

        authenticator._clock_ns = clock_ns
        plant.service.access.logins._clock_ns = clock_ns

        async def status() -> int:
            authenticator.forget()  # what was looked up a moment ago is trusted for five seconds
            return (await plant.client.get("/v1/series")).status_code

        await log_in(plant, "anna")
        shift = 61
        assert await status() == 401
        shift = 0
        await log_in(plant, "anna")
        shift = 59
        assert await status() == 200
        shift = 118
        assert await status() == 200
        shift = 151
        assert await status() == 401


async def test_who_is_disabled_or_gets_another_password_is_out(plant: Running) -> None:
    add_user(plant, "anna", Role.VIEWER, "acme/hk01")
    admin = plant.token(Role.ADMIN, "acme")
    await log_in(plant, "anna")
    answer = await plant.client.patch("/v1/users/anna", json={"disabled": True}, headers=admin)
    assert answer.json()["disabled"] is True
    assert (await plant.client.get("/v1/series")).status_code == 401
    assert (await log_in(plant, "anna")).status_code == 401
    await plant.client.patch("/v1/users/anna", json={"disabled": False}, headers=admin)
    assert (await log_in(plant, "anna")).status_code == 200
    for body, status in [
        ({"password": "another long password"}, 403),
        ({"password": "another long password", "current": "wrong"}, 403),
        ({"password": "short", "current": PASSWORD}, 400),
        ({"password": "my name is anna ok", "current": PASSWORD}, 400),
        ({"password": "another long password", "current": PASSWORD}, 204),
    ]:
        answer = await plant.client.put("/v1/users/anna/password", json=body, headers=PAGE)
        assert answer.status_code == status, answer.text
    assert (await plant.client.get("/v1/series")).status_code == 200  # this session stays, all others end
    new = {"password": "an administrator chose it"}
    assert (await plant.client.put("/v1/users/boss/password", json=new, headers=PAGE)).status_code == 403
    answer = await plant.client.put("/v1/users/anna/password", json=new, headers=admin)
    assert answer.status_code == 204
    assert (await plant.client.get("/v1/series")).status_code == 401
    acts = await audit(plant, admin)
    assert ("user anna", "user.password", "user anna", "done") in acts
    assert ("user anna", "session.confirm", "", "refused") in acts
    assert any(actor.startswith("token") and action == "user.password" for actor, action, *_ in acts)


async def test_administrators_give_see_and_take_only_what_lies_below_their_path(plant: Running) -> None:
    here, everywhere = plant.token(Role.ADMIN, "acme/hk01"), plant.token(Role.ADMIN, "")

    async def make(headers: dict[str, str], asset: str, **more: Any) -> httpx.Response:
        return await plant.client.post(
            "/v1/tokens", json={"role": "agent", "asset": asset, **more}, headers=headers
        )

    made = await make(here, "acme/hk01/moulding", name="gateway")
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    assert (await make(here, "acme/hk01")).status_code == 201
    for asset in ("", "acme", "acme/dg01", "acme/hk011"):
        assert (await make(here, asset)).status_code == 403, asset
    assert (await make(here, "Not/A Path")).status_code == 400
    assert (await make(here, "acme/hk01", expires_at=1)).status_code == 400
    other = (await make(everywhere, "acme/dg01")).json()
    assert "token" not in (await plant.get("/v1/tokens", here))["tokens"][0]
    assert all(
        one["asset"].startswith("acme/hk01") for one in (await plant.get("/v1/tokens", here))["tokens"]
    )
    answer = await plant.client.delete(f"/v1/tokens/{other['token_id']}", headers=here)
    assert answer.status_code == 404
    agent = {"Authorization": f"Bearer {made.json()['token']}"}
    assert (await plant.client.get("/v1/token", headers=agent)).status_code == 200
    answer = await plant.client.delete(f"/v1/tokens/{made.json()['token_id']}", headers=here)
    assert answer.status_code == 204
    assert (await plant.client.get("/v1/token", headers=agent)).status_code == 401
    user = {"name": "carl", "password": PASSWORD, "role": "viewer", "asset": "acme"}
    assert (await plant.client.post("/v1/users", json=user, headers=here)).status_code == 403
    user["asset"] = "acme/hk01"
    assert (await plant.client.post("/v1/users", json=user, headers=here)).status_code == 201
    assert (await plant.client.post("/v1/users", json=user, headers=here)).status_code == 409
    answer = await plant.client.post("/v1/users", json={**user, "role": "agent"}, headers=here)
    assert answer.status_code == 400
    dropped = await plant.client.patch("/v1/users/carl", json={"asset": "acme"}, headers=here)
    assert dropped.status_code == 403
    acts = await audit(plant, here)
    assert sum(action == "token.create" and outcome == "done" for _, action, _, outcome in acts) == 2
    assert ("token.revoke", f"token {made.json()['token_id']}", "done") in [one[1:] for one in acts]
    assert all("sf_" not in str(one) for one in (await plant.get("/v1/audit", everywhere))["entries"])


async def test_an_expired_token_is_none_also_while_it_is_remembered(plant: Running) -> None:
    admin = plant.token(Role.ADMIN, "")
    ends = time.time_ns() // 1_000_000 + 60_000
    body = {"role": "viewer", "asset": "acme", "expires_at": ends}
    made = (await plant.client.post("/v1/tokens", json=body, headers=admin)).json()
    headers = {"Authorization": f"Token {made['token']}"}
    assert (await plant.client.get("/v1/series", headers=headers)).status_code == 200
    plant.service.authenticator._clock_ns = lambda: (ends + 1) * 1_000_000
    assert (await plant.client.get("/v1/series", headers=headers)).status_code == 401


async def test_too_many_requests_are_told_when_to_come_back(tmp_path: Path) -> None:
    async with running(tmp_path, access={"token_requests_per_s": 0.001}) as plant:
        plant.service.access.identities._burst = 1.0
        assert (await plant.client.get("/v1/series", headers=plant.viewer)).status_code == 200
        answer = await plant.client.get("/v1/series", headers=plant.viewer)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 1
        assert (await plant.client.get("/v1/token", headers=plant.agent)).status_code == 200
        plant.service.access.addresses._burst = 1.0
        plant.service.access.addresses._per_s = 0.001
        plant.service.access.addresses._left.clear()
        assert (await plant.client.get("/healthz")).status_code == 200
        answer = await plant.client.get("/healthz")
        assert answer.status_code == 429
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert int(answer.headers["retry-after"]) > 1


async def test_live_events_end_with_the_session(plant: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "TRUST_S", 0.0)
    add_user(plant, "anna", Role.VIEWER, "acme")
    await log_in(plant, "anna")
    async with plant.client.stream("GET", "/v1/live") as answer:
        assert answer.status_code == 200
        chunks = answer.aiter_bytes()
        assert b"event: hello" in await anext(chunks)
        async with httpx.AsyncClient(
            base_url=plant.client.base_url, cookies=plant.client.cookies, verify=False
        ) as other:
            assert (await other.delete("/v1/session", headers=PAGE)).status_code == 204
        async with asyncio.timeout(60):
            async for _ in chunks:
                pass
    assert (await plant.client.get("/v1/live")).status_code == 401


async def test_no_secret_stands_in_a_log_in_a_database_or_in_an_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "a wrong password that somebody may mean for something else"
    async with running(tmp_path) as plant:
        assert plant.service.plant.engine.hide_parameters
        admin = plant.token(Role.ADMIN, "")
        user = {"name": "anna", "password": PASSWORD, "role": "admin", "asset": ""}
        assert (await plant.client.post("/v1/users", json=user, headers=admin)).status_code == 201
        made = await plant.client.post("/v1/tokens", json={"role": "agent", "asset": "acme"}, headers=admin)
        refused = await log_in(plant, "anna", wrong)
        assert (await log_in(plant, "anna")).status_code == 200
        cookie = plant.client.cookies["shopfloor"]
        broken = await plant.client.post(
            "/v1/session", content=b'{"user": "anna", "password": "sf_broken', headers=PAGE
        )
        secrets = [
            PASSWORD,
            wrong,
            made.json()["token"],
            cookie,
            admin["Authorization"].split()[1],
            "sf_broken",
        ]
        paths = ("/v1/audit", "/v1/tokens", "/v1/users", "/metrics")
        shown = [refused.text, broken.text, *[(await plant.client.get(path)).text for path in paths]]
    # What the test's own client logs of its headers is its own business.
    logged = [one.getMessage() for one in caplog.records if not one.name.startswith(("httpx", "httpcore"))]
    assert logged
    kept = b"".join(file.read_bytes() for file in (tmp_path / "data").glob("plant.sqlite*"))
    for secret in secrets:
        assert not any(secret in line for line in logged), secret
        assert secret.encode() not in kept
        assert not any(secret in text for text in shown), secret
