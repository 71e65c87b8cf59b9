"""The built page over HTTP: what browsers may do with it, and what they may keep."""

from __future__ import annotations

from pathlib import Path

import pytest

from shopfloor.errors import StoreUnavailable
from tests.integration.ingest_server import running

CSP = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"


async def test_a_page_allows_nothing_inline_and_only_hashed_files_are_kept(tmp_path: Path) -> None:
    page = tmp_path / "dist"
    (page / "assets").mkdir(parents=True)
    (page / "index.html").write_text("<!doctype html>")
    (page / "assets" / "index-Abc123.js").write_text("1")
    async with running(tmp_path, page=page) as plant:
        for path in ("/", "/index.html", "/healthz", "/v1/none"):
            assert (await plant.client.get(path)).headers["content-security-policy"] == CSP
        for path in ("/", "/index.html"):
            assert (await plant.client.get(path)).headers["cache-control"] == "no-cache", path
        gone = await plant.client.get("/assets/gone.js")
        assert (gone.status_code, gone.headers.get("cache-control")) == (404, None)
        kept = await plant.client.get("/assets/index-Abc123.js")
        assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
        again = await plant.client.get(
            "/assets/index-Abc123.js", headers={"if-none-match": kept.headers["etag"]}
        )
        assert (again.status_code, again.headers["cache-control"]) == (304, kept.headers["cache-control"])


async def test_a_token_that_cannot_be_looked_up_is_503_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as plant:

        async def full(*_: object) -> None:
            raise StoreUnavailable("database or disk is full")

        before = await plant.metric("shopfloor_ingest_batches_total")
        with monkeypatch.context() as patch:
            patch.setattr(plant.service.authenticator, "identify", full)
            answer = await plant.post(b"anything")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert answer.json() == {"error": "store_unavailable"}
        assert await plant.metric('shopfloor_ingest_refusals_total{reason="store_unavailable"}') == 1
        assert await plant.metric("shopfloor_ingest_batches_total") == before
