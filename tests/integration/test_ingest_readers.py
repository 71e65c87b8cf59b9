"""What agents say beside batches, and what readers get."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingest_service.auth import Role
from ingest_service.plant.store import PlantStore
from shopfloor.block import concat
from shopfloor.messages import BATCH_MEDIA_TYPE, Batch, Lane
from shopfloor.wire import decode_block
from tests.integration.ingest_server import IMM, SERIES, Running, batch, block, heartbeat, running


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Running]:
    sites = [{"asset": "acme/hk01", "name": "Hong Kong", "time_zone": "Asia/Hong_Kong"}]
    async with running(tmp_path, sites=sites) as one:
        yield one


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/heartbeats"), ("POST", "/v1/spans"), ("PUT", "/v1/declarations")]
)
async def test_malformed_json_is_400(plant: Running, method: str, path: str) -> None:
    for body in (
        b"",
        b"{",
        b"null",
        b'{"agent_id": 5}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'[{"record_id": "x y"}]',
    ):
        answer = await plant.client.request(method, path, content=body, headers=plant.agent)
        assert answer.status_code == 400, (body[:20], answer.text)
        assert answer.json()["error"]


async def test_heartbeats_declarations_and_the_list_of_agents(plant: Running) -> None:
    answer = await plant.client.post("/v1/heartbeats", json=heartbeat(), headers=plant.agent)
    assert answer.json()["declarations_wanted"] is True
    assert abs(answer.json()["now"] - time.time_ns()) < 60 * 10**9
    declared = {
        "agent_id": "gateway",
        "config_hash": "h1",
        "series": [{"asset": IMM, "signal": SERIES[0].signal, "unit": "Cel", "description": "zone 1"}],
    }
    for _ in range(2):
        answer = await plant.client.put("/v1/declarations", json=declared, headers=plant.agent)
        assert answer.status_code == 204
    answer = await plant.client.post("/v1/heartbeats", json=heartbeat(), headers=plant.agent)
    assert answer.json()["declarations_wanted"] is False
    await plant.post(batch())
    series = (await plant.get("/v1/series", signal="barrel.*"))["series"]
    assert [(one["unit"], one["description"]) for one in series] == [("Cel", "zone 1")]
    (agent,) = (await plant.get("/v1/agents"))["agents"]
    assert (agent["id"], agent["asset"], agent["contact"], agent["lag_s"]) == (
        "gateway",
        "acme/hk01",
        True,
        0.0,
    )
    stranger = plant.token(Role.AGENT, "acme/dg01")
    for asset in ("acme/hk01", "acme/dg01"):
        answer = await plant.client.post("/v1/heartbeats", json=heartbeat(asset=asset), headers=stranger)
        assert answer.status_code == 403


async def test_reading_needs_a_token_and_sees_only_its_reach(plant: Running) -> None:
    await plant.post(batch())
    paths = ["series", "latest", "samples", "sites", "machines", "agents", "live"]
    for path in [f"/v1/{one}" for one in paths] + ["/metrics"]:
        assert (await plant.client.get(path)).status_code == 401
        assert (await plant.client.get(path, headers=plant.agent)).status_code == 403
    elsewhere = plant.token(Role.VIEWER, "acme/dg01")
    assert await plant.get("/v1/series", elsewhere) == {"series": []}
    assert (await plant.get("/v1/samples", elsewhere, asset="acme"))["series"] == []
    assert (await plant.get("/v1/latest", elsewhere))["id"] == []
    assert (await plant.get("/v1/sites", elsewhere))["sites"] == []


async def test_reading_raw_bucketed_and_binary(plant: Running) -> None:
    begin = 1_760_000_000_000
    sent = block(1000, at=begin * 1_000_000)
    assert (await plant.post(Batch("gateway", "s", Lane.BACKLOG, 1, sent))).status_code == 200
    span: dict[str, Any] = {"from": begin, "to": begin + 1000}
    raw = await plant.get("/v1/samples", **span)
    assert sum(len(one["t"]) for one in raw["series"]) == 1000
    same: dict[str, Any] = {"from": "2025-10-09T08:53:20Z", "to": "2025-10-09T16:53:21+08:00"}
    iso = await plant.get("/v1/samples", **same)
    assert iso == raw
    buckets = await plant.get("/v1/samples", points=10, signal="barrel.*", **span)
    assert buckets["series"][0]["count"] == [50] * 10
    assert buckets["series"][0]["first"][1] == 100 / 8
    by_width = await plant.get("/v1/samples", every=0.1, signal="barrel.*", **span)
    assert by_width == buckets
    headers = plant.viewer | {"Accept": "application/vnd.shopfloor.block"}
    answer = await plant.client.get("/v1/samples", params=span, headers=headers)
    body, blocks = answer.content, []
    while body:
        size = int.from_bytes(body[:4], "little")
        blocks.append(decode_block(body[4 : 4 + size]))
        body = body[4 + size :]
    got = concat(blocks)
    order = np.lexsort((got.source_time,))
    assert np.array_equal(got.source_time[order], sent.source_time)
    assert np.array_equal(got.value[order], sent.value)


@pytest.mark.parametrize(
    "query",
    [
        "from=x",
        "from=2&to=1",
        "from=99999999999999999999",
        "points=0",
        "every=-1",
        "every=nan",
        "points=x",
        "to=9999-99-99",
    ],
)
async def test_odd_questions_are_the_askers_fault(plant: Running, query: str) -> None:
    answer = await plant.client.get(f"/v1/samples?{query}", headers=plant.viewer)
    assert answer.status_code in {400, 422}


async def test_every_answer_carries_security_headers(plant: Running) -> None:
    for path in ("/healthz", "/", "/v1/series", "/nothing"):
        headers = (await plant.client.get(path)).headers
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


async def test_a_token_is_told_what_it_is_good_for_and_nothing_changes(plant: Running) -> None:
    for headers, role, asset in ((plant.agent, "agent", "acme/hk01"), (plant.viewer, "viewer", "acme")):
        answer = await plant.client.get("/v1/token", headers=headers)
        told = answer.json()
        assert (answer.status_code, told["role"], told["asset"]) == (200, role, asset)
        assert abs(told["now"] - time.time_ns()) < 60 * 10**9
    for stranger in ({}, {"Authorization": "Bearer sf_nobody"}):
        assert (await plant.client.get("/v1/token", headers=stranger)).status_code == 401
    assert (await plant.get("/v1/agents"))["agents"] == []


async def test_openapi_holds_examples(plant: Running) -> None:
    document = (await plant.client.get("/openapi.json")).json()
    assert BATCH_MEDIA_TYPE in document["paths"]["/v1/batches"]["post"]["requestBody"]["content"]
    body = document["paths"]["/v1/heartbeats"]["post"]["requestBody"]["content"]["application/json"]
    answer = await plant.client.post("/v1/heartbeats", json=body["example"], headers=plant.agent)
    assert answer.status_code == 200, answer.text


async def test_open_reading_answers_only_to_local_names(tmp_path: Path) -> None:
    async with running(tmp_path, read_access="open") as plant:
        assert (await plant.client.get("/v1/series")).status_code == 200
        assert (await plant.client.get("/v1/series", headers={"Host": "localhost:1"})).status_code == 200
        assert (await plant.client.get("/v1/series", headers={"Host": "evil.example"})).status_code == 421
        assert (await plant.post(batch(), {})).status_code == 401


async def test_the_page_is_served(tmp_path: Path) -> None:
    page = tmp_path / "page"
    (page / "assets").mkdir(parents=True)
    (page / "index.html").write_text("<title>live</title>")
    (page / "assets" / "app.js").write_text("let a")
    async with running(tmp_path, page=page) as plant:
        assert (await plant.client.get("/")).text == "<title>live</title>"
        assert (await plant.client.get("/assets/app.js")).status_code == 200
        assert (await plant.client.get("/../plant.sqlite")).status_code == 404
        assert (await plant.client.get("/healthz")).json() == {"status": "ok"}


async def test_migrations_make_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from ingest_service.plant.schema import metadata

    store = PlantStore(tmp_path / "plant.sqlite")
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    store.close()
    PlantStore(tmp_path / "plant.sqlite").close()


async def test_metrics_tell_what_the_store_has_still_to_rewrite(plant: Running) -> None:
    await plant.post(batch())
    assert await plant.metric("shopfloor_ingest_store_hot_rows") == 10
    assert await plant.metric("shopfloor_ingest_store_generations") == 0
