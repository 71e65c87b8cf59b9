"""The quarantine by HTTP: looked at, taken along, stored after all, thrown away; and the ledger adds up all the while."""

from __future__ import annotations

import base64
import csv
import io
import json
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ingest_service.auth import Role
from ingest_service.stores import Admitted, Outcome
from shopfloor.block import make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch, Lane
from tests.integration.ingest_server import SERIES, STRANGER, Running, block, heartbeat, running
from tests.integration.test_ingest_ledger import adds_up


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as one:
        yield one


async def send_some(plant: Running, n: int = 10, first_seq: int = 1, stream: str = "s") -> None:
    """Of ``n`` samples every other one belongs to another site."""
    assert (
        await plant.client.post("/v1/heartbeats", json=heartbeat(), headers=plant.agent)
    ).status_code == 200
    rows = block(n, series=(SERIES[0], STRANGER))
    answer = await plant.post(Batch("gateway", stream, Lane.LIVE, first_seq, rows))
    assert answer.json()["rejected"] == n // 2, answer.text


async def act(
    plant: Running, what: str, role: Role = Role.ADMIN, reach: str = "", **chosen: Any
) -> httpx.Response:
    return await plant.client.post(
        f"/v1/quarantine/{what}", json=chosen, headers=plant.token(role, reach or "acme")
    )


async def figures(plant: Running) -> tuple[int, int, int, int]:
    total = (await plant.get("/v1/ledger"))["total"]
    assert adds_up(total), total
    assert total["missing"] == 0
    return total["stored"], total["readmitted"], total["quarantined"], total["dropped"]


async def test_samples_are_listed_newest_first_and_by_pages(plant: Running) -> None:
    await send_some(plant)
    await send_some(plant, 4, 11)
    seen: list[int] = []
    page = await plant.get("/v1/quarantine", limit=3)
    while True:
        seen += [one["seq"] for one in page["samples"]]
        if page["next"] is None:
            break
        page = await plant.get("/v1/quarantine", limit=3, cursor=page["next"])
    assert seen == [14, 12, 10, 8, 6, 4, 2]
    newest = (await plant.get("/v1/quarantine", limit=1))["samples"][0]
    assert (newest["agent"], newest["reason"], newest["asset"]) == (
        "gateway",
        "outside_scope",
        STRANGER.asset,
    )
    shown = await plant.get("/v1/quarantine/s/14")
    assert shown == newest | {"readmit_stream": None, "readmit_seq": None}
    (group,) = (await plant.get("/v1/quarantine/summary"))["groups"]
    assert (group["agent"], group["reason"], group["samples"]) == ("gateway", "outside_scope", 7)
    answer = await plant.client.get("/v1/quarantine", params={"cursor": "rubbish"}, headers=plant.viewer)
    assert answer.status_code == 400
    assert (await plant.client.get("/v1/quarantine/s/13", headers=plant.viewer)).status_code == 404


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({"agent": "gateway"}, 5),
        ({"agent": "other"}, 0),
        ({"reason": "outside_scope"}, 5),
        ({"reason": "infinite"}, 0),
        ({"asset": "acme/dg01"}, 5),
        ({"asset": "acme/dg0"}, 0),
        ({"asset": "acme/hk01"}, 0),
        ({"from": "2000-01-01", "to": "2100-01-01"}, 5),
        ({"to": "2000-01-01"}, 0),
        ({"state": "readmitted"}, 0),
        ({"state": "all", "stream": "s"}, 5),
    ],
)
async def test_filters(plant: Running, chosen: dict[str, Any], found: int) -> None:
    await send_some(plant)
    assert len((await plant.get("/v1/quarantine", **chosen))["samples"]) == found


async def test_who_sees_what(plant: Running) -> None:
    await send_some(plant)
    for reach, found in (("acme", 5), ("acme/hk01", 5), ("acme/dg01", 5), ("acme/sz01", 0)):
        listed = await plant.get("/v1/quarantine", plant.token(Role.VIEWER, reach))
        assert len(listed["samples"]) == found, reach
    for what in ("readmit", "purge"):
        assert (await act(plant, what, Role.VIEWER, all=True)).status_code == 403
        assert (await act(plant, what)).status_code == 400
        assert (await act(plant, what, seq=3)).status_code == 400
        since: dict[str, Any] = {"from": "x"}
        assert (await act(plant, what, **since)).status_code == 400
    assert (await act(plant, "purge", Role.OPERATOR, "acme/sz01", all=True)).json() == {"purged": 0}
    assert await figures(plant) == (5, 0, 5, 0)


async def test_an_export_holds_everything(plant: Running) -> None:
    now = time.time_ns()
    values = [np.inf, -np.inf, 1.5, np.nan]
    rows = make_block((STRANGER,), np.zeros(4), now, now, values, text={3: 'a "word",\nanother 模'})
    assert (
        await plant.client.post("/v1/heartbeats", json=heartbeat(), headers=plant.agent)
    ).status_code == 200
    await plant.post(Batch("gateway", "s", Lane.LIVE, 1, rows))
    for _ in range(3):
        await plant.post(Batch("gateway", f"s{_}", Lane.LIVE, 1, block(3000, series=(STRANGER,))))
    answer = await plant.client.get("/v1/quarantine/export", headers=plant.viewer)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert len(lines) == 9004
    assert [one["value"] for one in lines[:4]] == ["+inf", "-inf", 1.5, None]
    assert lines[3]["text"] == 'a "word",\nanother 模'
    assert len({(one["stream"], one["seq"]) for one in lines}) == 9004
    answer = await plant.client.get("/v1/quarantine/export", params={"format": "csv"}, headers=plant.viewer)
    table = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(table) == 9004
    assert (table[3]["text"], table[2]["value"], table[3]["value"]) == ('a "word",\nanother 模', "1.5", "")


async def test_readmitted_samples_are_stored_once_and_stay_to_be_seen(plant: Running) -> None:
    await send_some(plant)
    assert (await act(plant, "readmit", Role.OPERATOR, "acme/hk01", all=True)).json() == {
        "readmitted": 0,
        "still_refused": {"outside_scope": 5},
    }
    assert await figures(plant) == (5, 0, 5, 0)
    assert (await act(plant, "readmit", Role.OPERATOR, stream="s", seq=4)).json()["readmitted"] == 1
    assert await figures(plant) == (6, 1, 4, 0)
    assert (await act(plant, "readmit", all=True)).json() == {"readmitted": 4, "still_refused": {}}
    assert (await act(plant, "readmit", all=True)).json() == {"readmitted": 0, "still_refused": {}}
    assert await figures(plant) == (10, 5, 0, 0)
    (series,) = (await plant.get("/v1/samples", asset="acme/dg01"))["series"]
    assert series["value"] == [0.125, 0.375, 0.625, 0.875, 1.125]
    kept = (await plant.get("/v1/quarantine", state="readmitted"))["samples"]
    assert len(kept) == 5
    assert all(one["readmitted"] and "token" in one["readmitted_by"] for one in kept)
    assert (await plant.get("/v1/quarantine"))["samples"] == []
    # A repeat of the batch changes nothing either.
    rows = block(10, series=(SERIES[0], STRANGER))
    await plant.post(Batch("gateway", "s", Lane.LIVE, 1, rows))
    assert await figures(plant) == (10, 5, 0, 0)


async def test_a_readmission_that_breaks_off_is_finished_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as plant:
        await send_some(plant)
        write = plant.service.store.write

        async def written_but_not_told(admitted: Sequence[Admitted]) -> Sequence[Outcome | StoreUnavailable]:
            await write(admitted)
            return [StoreUnavailable("the answer was lost")]

        monkeypatch.setattr(plant.service.store, "write", written_but_not_told)
        assert (await act(plant, "readmit", all=True)).status_code == 503
        monkeypatch.undo()
        assert (await act(plant, "purge", all=True)).json() == {"purged": 0}, "it is about to be stored"
    async with running(tmp_path) as plant:
        assert (await act(plant, "readmit", all=True)).json()["readmitted"] == 0
        assert await figures(plant) == (10, 5, 0, 0)
        (series,) = (await plant.get("/v1/samples", asset="acme/dg01"))["series"]
        assert len(series["t"]) == 5


async def test_what_is_purged_counts_as_dropped(plant: Running) -> None:
    await send_some(plant)
    assert (await act(plant, "readmit", stream="s", seq=2)).json()["readmitted"] == 1
    assert (await act(plant, "purge", Role.OPERATOR, stream="s", seq=4)).json() == {"purged": 1}
    assert await figures(plant) == (6, 1, 3, 1)
    assert (await act(plant, "purge", all=True)).json() == {"purged": 3}
    assert await figures(plant) == (6, 1, 0, 4)
    assert (await act(plant, "purge", state="readmitted", all=True)).json() == {"purged": 1}
    assert await figures(plant) == (6, 1, 0, 4)
    reasons = (await plant.get("/v1/ledger"))["total"]["dropped_by_reason"]
    assert len(reasons) == 2, "two people did it"
    assert all(reason.startswith("quarantine purged: by token ") for reason in reasons)
    assert plant.service.plant.quarantined == 0


async def test_what_is_not_settled_is_left_alone(plant: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(*_: object) -> list[StoreUnavailable]:
        return [StoreUnavailable("disk full")]

    assert (
        await plant.client.post("/v1/heartbeats", json=heartbeat(), headers=plant.agent)
    ).status_code == 200
    sent = Batch("gateway", "s", Lane.LIVE, 1, block(4, series=(SERIES[0], STRANGER)))
    monkeypatch.setattr(plant.service.store, "write", unavailable)
    assert (await plant.post(sent)).status_code == 503
    monkeypatch.undo()
    assert (await act(plant, "purge", all=True)).json() == {"purged": 0}
    assert (await act(plant, "readmit", all=True)).json() == {
        "readmitted": 0,
        "still_refused": {"unsettled": 2},
    }
    await plant.post(sent)
    assert await figures(plant) == (2, 0, 2, 0)
    assert (await act(plant, "readmit", all=True)).json()["readmitted"] == 2


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/quarantine/s/99999999999999999999999", 422),
        ("/v1/quarantine/s/x", 422),
        (
            f"/v1/quarantine?cursor={base64.urlsafe_b64encode(b'[99999999999999999999,%22%22,1]').decode()}",
            400,
        ),
        ("/v1/quarantine?stream=%00&asset=%F0%9F%98%80&reason='--", 200),
        ("/v1/quarantine?from=999999999999999999999", 400),
        ("/v1/alarms?state=all&cursor=99999999999999999999-x", 400),
        ("/v1/alarms?state=all&cursor=9999999999999999999-x", 400),
        ("/v1/ledger?stream=%00&after=%FF&limit=1", 200),
        ("/v1/ledger/assets?asset=acme&from=0&to=1e9", 400),
    ],
)
async def test_odd_questions_are_answered(plant: Running, path: str, status: int) -> None:
    answer = await plant.client.get(path, headers=plant.viewer)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"seq": 99999999999999999999, "stream": "s"}',
        b'{"all": 1}',
        b'{"nothing": 1}',
        b'{"to": 1e99}',
    ],
)
async def test_odd_acts_are_refused(plant: Running, body: bytes) -> None:
    for what in ("readmit", "purge"):
        answer = await plant.client.post(
            f"/v1/quarantine/{what}", content=body, headers=plant.token(Role.ADMIN, "acme")
        )
        assert answer.status_code == 400, answer.text
