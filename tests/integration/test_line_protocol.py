"""The ecosystem's door: what clients of InfluxDB 2 and 1.8 send is stored once, named where it is wrong, never lost."""

from __future__ import annotations

import asyncio
import base64
import gzip
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ingest_service.auth import Role, create_token
from ingest_service.line_protocol import door
from ingest_service.stores import Selector, TimeSpan
from shopfloor.block import STATUS_NO_SOURCE_TIME, Quality
from shopfloor.errors import StoreUnavailable
from tests.integration.ingest_server import Running, running

RULES: dict[str, Any] = {
    "rules": [
        {
            "measurement": "cpu",
            "asset": "acme/hk01/it/{host}",
            "exclude": ["usage_guest*"],
            "units": {"usage_*": "%"},
        },
        {
            "measurement": "opcua",
            "asset": "acme/{site}/{line}/{tag:machine}",
            "signal": "{field}",
            "quality": "Quality",
        },
        {"measurement": "disk", "discard": True},
    ]
}


class Writing:
    """A running service and a token that writes line protocol to it."""

    def __init__(self, plant: Running) -> None:
        self.plant = plant
        engine = plant.service.plant.engine
        self.token = create_token(engine, Role.AGENT, "acme/hk01", "telegraf")
        self.headers = {"Authorization": f"Token {self.token}"}

    async def post(
        self, body: str | bytes, path: str = "/api/v2/write?org=o&bucket=b", **headers: str
    ) -> Any:
        return await self.plant.client.post(path, content=body, headers=self.headers | headers)

    async def samples(self) -> dict[str, Any]:
        """Return series -> (times in ms, values)."""
        found = (
            await self.plant.client.get("/v1/samples", params={"from": 0}, headers=self.plant.viewer)
        ).json()
        return {f"{one['asset']}:{one['signal']}": (one["t"], one["value"]) for one in found["series"]}

    def quarantine(self) -> list[tuple[str, str, str]]:
        rows = self.plant.service.plant.list_quarantine()
        return sorted((row["reason"], row["asset"], row["text"]) for row in rows)


@pytest.fixture
async def writing(tmp_path: Path) -> AsyncIterator[Writing]:
    async with running(tmp_path, line_protocol={"mapping": RULES}) as plant:
        yield Writing(plant)


def own(value: str, at: int, cell: str = "imm-01", signal: str = "barrel.temperature") -> str:
    return f"sample,enterprise=acme,site=hk01,area=moulding,line=a,cell={cell},signal={signal} {value} {at}"


async def test_our_own_layout_is_read_without_a_mapping(writing: Writing) -> None:
    now = time.time_ns()
    body = [
        own("value=21.5,quality=1i,status=1073741824i", now),
        own('text="M-7",quality=0i', now, signal="job.name"),
    ]
    answer = await writing.post("\n".join(body))
    assert (answer.status_code, answer.content) == (204, b"")
    at = now // 1_000_000
    asset = "acme/hk01/moulding/a/imm-01"
    assert await writing.samples() == {
        f"{asset}:barrel.temperature": ([at], [21.5]),
        f"{asset}:job.name": ([at], ["M-7"]),
    }
    latest = await writing.plant.get("/v1/latest")
    assert latest["quality"] == [Quality.UNCERTAIN, Quality.GOOD]


async def test_rules_place_measurements_tags_and_fields(writing: Writing) -> None:
    now = time.time_ns()
    body = (
        f"cpu,host=GW\\ 01,cpu=cpu0 usage_user=1.5,usage_guest=0,n=3i {now}\n"
        f'opcua,site=hk01,line=l1,machine=imm-07 Temp=80.5,Quality="OK (0x0)" {now}\n'
        f'opcua,site=hk01,line=l1,machine=imm-08 Temp=79,Quality="Bad (0x80000000)" {now}\n'
        f"disk,host=gw used=1 {now}\n"
    )
    assert (await writing.post(body)).status_code == 204
    assert set(await writing.samples()) == {
        "acme/hk01/it/gw_01:cpu.usage_user",
        "acme/hk01/it/gw_01:cpu.n",
        "acme/hk01/l1/imm-07:temp",
        "acme/hk01/l1/imm-08:temp",
    }
    latest = await writing.plant.get("/v1/latest")
    assert dict(zip(latest["asset"], latest["quality"], strict=True))["acme/hk01/l1/imm-08"] == Quality.BAD
    series = (await writing.plant.get("/v1/series"))["series"]
    assert {one["signal"]: one["unit"] for one in series}["cpu.usage_user"] == "%"
    assert writing.quarantine() == []


async def test_lines_that_no_rule_places_are_quarantined_with_what_they_said(writing: Writing) -> None:
    now = time.time_ns()
    unmapped = f'mem,host=gw used=1i,name="a b" {now}'
    unplaceable = f"opcua,site=hk01,line=l1 Temp=1 {now}"
    stranger = f"opcua,site=dg01,line=l1,machine=m Temp=1 {now}"
    answer = await writing.post("\n".join([unmapped, own("value=1", now), unplaceable, stranger]))
    assert answer.status_code == 204
    assert answer.headers["x-shopfloor-quarantined"] == "2"
    assert writing.quarantine() == [
        ("line_unmapped", "acme/hk01", unmapped),
        ("line_unplaceable", "acme/hk01", unplaceable),
        ("outside_scope", "acme/dg01/l1/m", None),
    ]
    assert len(await writing.samples()) == 1
    assert await writing.plant.metric("shopfloor_ingest_samples_stored_total") == 1
    (run,) = await writing.plant.service.store.ledger(None, TimeSpan(0, 2**63 - 1))
    assert (run.first_seq, run.last_seq, run.stored, run.rejected) == (1, 4, 1, 3)


async def test_a_bad_line_is_named_and_the_others_are_stored(writing: Writing) -> None:
    now = time.time_ns()
    answer = await writing.post(
        "\n".join([own("value=1", now), "cpu", own("value=abc", now), own("value=2", now + 1)])
    )
    assert answer.status_code == 400
    said = answer.json()
    assert (said["code"], said["line"]) == ("invalid", 2)
    assert said["message"].startswith(
        "partial write: unable to parse 'cpu': missing fields\nunable to parse 'sample,"
    )
    assert said["message"].endswith("invalid number")
    ((_, values),) = (await writing.samples()).values()
    assert values == [1.0, 2.0]
    assert [reason for reason, _, _ in writing.quarantine()] == ["line_unreadable"] * 2
    first = await writing.post("cpu\n", "/write?db=x")
    assert (first.status_code, first.json()) == (400, {"error": "unable to parse 'cpu': missing fields"})


async def test_everything_outside_of_the_tokens_reach_is_403(writing: Writing) -> None:
    answer = await writing.post("opcua,site=dg01,line=l1,machine=m Temp=1")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert writing.quarantine() == []


async def test_precisions(writing: Writing) -> None:
    factors = {
        "/api/v2/write": 1,
        "/api/v2/write?precision=ns": 1,
        "/api/v2/write?precision=us": 1000,
        "/api/v2/write?precision=ms": 10**6,
        "/write?db=x&precision=s": 10**9,
        "/write?db=x&precision=m": 60 * 10**9,
        "/write?db=x&precision=h": 3600 * 10**9,
        "/write?db=x&precision=n": 1,
        "/write?db=x&precision=u": 1000,
    }
    begin = 1_760_000_400 * 10**9
    for number, (path, factor) in enumerate(factors.items()):
        at = begin // factor
        assert (await writing.post(own(f"value={number}", at, signal=f"s{number}"), path)).status_code == 204
    found = await writing.samples()
    for number, factor in enumerate(factors.values()):
        at = begin // factor * factor // 10**6
        assert found[f"acme/hk01/moulding/a/imm-01:s{number}"] == ([at], [float(number)])


async def test_who_may_write(writing: Writing) -> None:
    token, body = writing.token, own("value=1", time.time_ns())
    basic = base64.b64encode(f"anybody:{token}".encode()).decode()
    post = writing.plant.client.post
    for header in (f"Token {token}", f"Bearer {token}", f"Token anybody:{token}", f"Basic {basic}"):
        answer = await post("/api/v2/write", content=body, headers={"Authorization": header})
        assert answer.status_code == 204, header
    assert (await post(f"/write?db=x&u=anybody&p={token}", content=body)).status_code == 204
    for header in (
        "",
        "Token",
        "Token sf_x",
        "Basic ???",
        "Digest x",
        f"Basic {base64.b64encode(b'x').decode()}",
    ):
        answer = await post("/api/v2/write", content=body, headers={"Authorization": header})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), header
    answer = await post("/write?u=x&p=y", content=body)
    assert (answer.status_code, answer.headers["www-authenticate"][:5]) == (401, "Basic")
    viewer = await post("/api/v2/write", content=body, headers=writing.plant.viewer)
    assert (viewer.status_code, viewer.json()["code"]) == (403, "forbidden")


async def test_packed_bodies_and_what_is_too_large(tmp_path: Path) -> None:
    options = {"unpacked_bytes": 100_000}
    async with running(
        tmp_path, line_protocol=options, limits={"batch_bytes": 50_000, "batch_samples": 100}
    ) as plant:
        writing = Writing(plant)
        now = time.time_ns()
        packed = gzip.compress(own("value=1", now).encode()) + gzip.compress(
            b"\n" + own("value=2", now + 10**6).encode()
        )
        assert (await writing.post(packed, **{"Content-Encoding": "gzip"})).status_code == 204
        bomb = gzip.compress(b"\n" * 10_000_000)
        assert len(bomb) < 50_000
        answer = await writing.post(bomb, **{"Content-Encoding": "gzip"})
        assert (answer.status_code, answer.json()["code"]) == (413, "request too large")
        for broken in (packed[:-9], b"no gzip", b"", gzip.compress(b"") * 200):
            assert (await writing.post(broken, **{"Content-Encoding": "gzip"})).status_code == 400
        assert (await writing.post(b"x" * 50_001)).status_code == 413
        many = "\n".join(own(f"value={number}", now + number) for number in range(101))
        assert (await writing.post(many)).status_code == 413
        assert (await writing.post("x", **{"Content-Encoding": "zstd"})).status_code == 415
        ((_, values),) = (await writing.samples()).values()
        assert values == [1.0, 2.0]
        assert plant.service.backpressure.waiting_bytes == 0


async def test_an_immediate_retry_stores_nothing_twice_and_hears_the_same(writing: Writing) -> None:
    body = "\n".join([own("value=1", time.time_ns()), "rubbish"])
    first, again, beside = await asyncio.gather(*(writing.post(body) for _ in range(3)))
    assert first.status_code == again.status_code == beside.status_code == 400
    assert first.content == again.content == beside.content
    ((_, values),) = (await writing.samples()).values()
    assert values == [1.0]
    assert len(writing.quarantine()) == 1
    assert await writing.plant.metric("shopfloor_ingest_line_repeats_total") == 2


async def test_a_line_without_a_time_takes_ours_and_is_no_repeat(writing: Writing) -> None:
    body = own("value=1", 0).removesuffix(" 0")
    before = time.time_ns() // 10**6
    for _ in range(2):
        assert (await writing.post(body)).status_code == 204
    ((times, values),) = (await writing.samples()).values()
    assert values == [1.0, 1.0]
    assert before <= times[0] <= times[1] <= time.time_ns() // 10**6
    selector, span = Selector(), TimeSpan(0, 2**63 - 1)
    stored = await writing.plant.service.store.read(selector, span, 10)
    assert stored.block.status.tolist() == [STATUS_NO_SOURCE_TIME] * 2


async def test_a_failed_write_is_503_and_its_numbers_are_used_again(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: object) -> list[StoreUnavailable]:
        return [StoreUnavailable("disk full", retry_after_s=7)]

    now = time.time_ns()
    monkeypatch.setattr(writing.plant.service.store, "write", unavailable)
    answer = await writing.post("\n".join([own("value=1", now), "mem used=1"]))
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["code"]) == (
        503,
        "7",
        "unavailable",
    )
    assert "disk" not in answer.text
    monkeypatch.undo()
    later = "\n".join(
        ["disk used=1", own("value=2", now + 10**6), "swap used=1", own("value=3", now + 2 * 10**6)]
    )
    assert (await writing.post(later)).status_code == 204
    ((_, values),) = (await writing.samples()).values()
    assert values == [2.0, 3.0]
    assert [text for _, _, text in writing.quarantine()] == ["swap used=1"]
    assert await writing.plant.metric("shopfloor_ingest_samples_missing_total") == 0
    assert writing.plant.service.plant.quarantined == 1


async def test_a_unit_that_was_told_with_a_failed_write_is_not_forgotten(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: object) -> list[StoreUnavailable]:
        return [StoreUnavailable("disk full")]

    body = f"cpu,host=gw usage_user=1 {time.time_ns()}"
    monkeypatch.setattr(writing.plant.service.store, "write", unavailable)
    assert (await writing.post(body)).status_code == 503
    monkeypatch.undo()
    assert (await writing.post(body)).status_code == 204
    assert [one["unit"] for one in (await writing.plant.get("/v1/series"))["series"]] == ["%"]


async def test_what_an_agent_said_of_a_series_in_words_stays(writing: Writing) -> None:
    asset, signal = "acme/hk01/it/gw", "cpu.usage_user"
    declared = {
        "agent_id": "gateway",
        "config_hash": "h",
        "series": [{"asset": asset, "signal": signal, "unit": "", "description": "Load of the gateway"}],
    }
    headers = writing.plant.agent
    assert (
        await writing.plant.client.put("/v1/declarations", json=declared, headers=headers)
    ).status_code == 204
    assert (await writing.post(f"cpu,host=gw usage_user=1 {time.time_ns()}")).status_code == 204
    (one,) = (await writing.plant.get("/v1/series"))["series"]
    assert (one["asset"], one["unit"], one["description"]) == (asset, "%", "Load of the gateway")


async def test_what_a_small_packed_body_becomes_needs_room_as_well(writing: Writing) -> None:
    now = time.time_ns()
    lines = "\n".join(f"cpu,host=gw usage_user=1 {now + number}" for number in range(20_000)).encode()
    # A second member says in its end that it is small, and nothing of the first.
    body = gzip.compress(lines) + gzip.compress(b"\n")
    pressure = writing.plant.service.backpressure
    pressure.waiting_bytes = pressure._limit_bytes - 500_000
    assert len(body) < 250_000
    answer = await writing.post(body, **{"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    pressure.waiting_bytes = 0
    assert (await writing.post(body, **{"Content-Encoding": "gzip"})).status_code == 204
    assert pressure.waiting_bytes == 0


async def test_a_busy_service_says_when_to_come_back(writing: Writing) -> None:
    pressure = writing.plant.service.backpressure
    pressure.waiting_bytes = pressure._limit_bytes
    answer = await writing.post(own("value=1", time.time_ns()))
    assert (answer.status_code, answer.json()["code"]) == (429, "too many requests")
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_text_of_ten_megabytes_is_a_fault_of_its_line(writing: Writing) -> None:
    huge = own(f'text="{"x" * 10_000_000}"', time.time_ns())
    answer = await writing.post(f"{huge}\n{own('value=1', time.time_ns())}")
    assert answer.status_code == 400
    assert "a text of 10000000 bytes; at most 65536 are taken" in answer.json()["message"]
    assert len(answer.content) < 1000
    ((reason, _, text),) = writing.quarantine()
    assert (reason, len(text)) == ("line_unreadable", 64 * 1024)
    assert len(await writing.samples()) == 1


async def test_tokens_that_are_forgotten_meanwhile_go_on_with_their_numbers(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_REMEMBERED_TOKENS", 1)
    engine = writing.plant.service.plant.engine
    tokens = [create_token(engine, Role.AGENT, "acme/hk01", f"t{number}") for number in range(4)]
    now = time.time_ns()

    async def write(number: int) -> None:
        header = {"Authorization": f"Token {tokens[number % 4]}"}
        body = own(f"value={number}", now + number * 10**6)
        assert (
            await writing.plant.client.post("/api/v2/write", content=body, headers=header)
        ).status_code == 204

    await asyncio.gather(*(write(number) for number in range(40)))
    ((_, values),) = (await writing.samples()).values()
    assert values == [float(number) for number in range(40)]
    runs = await writing.plant.service.store.ledger(None, TimeSpan(0, 2**63 - 1))
    assert [(run.first_seq, run.last_seq, run.stored) for run in runs] == [(1, 10, 10)] * 4


async def test_ping_and_health(writing: Writing) -> None:
    client = writing.plant.client
    for method in ("GET", "HEAD"):
        answer = await client.request(method, "/ping")
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["x-influxdb-version"].startswith("shopfloor-")
    answer = await client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "pass")


async def test_what_is_no_request_for_it(writing: Writing) -> None:
    answer = await writing.post(own("value=1", 1), "/api/v2/write?precision=m")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert (await writing.post("", "/api/v2/write")).json() == {
        "code": "invalid",
        "message": "writing requires points",
    }
    assert (await writing.post("# nothing\n", "/write?db=x")).status_code == 204
    assert (await writing.post(own("value=1", 1), "/write?precision=d")).status_code == 400


async def test_it_can_be_turned_off(tmp_path: Path) -> None:
    async with running(tmp_path, line_protocol={"enabled": False}) as plant:
        answer = await Writing(plant).post(own("value=1", time.time_ns()))
        assert (answer.status_code, answer.json()["code"]) == (404, "not found")


async def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    now = time.time_ns()
    async with running(tmp_path) as plant:
        writing = Writing(plant)
        assert (await writing.post(own("value=1", now))).status_code == 204
        assert (await plant.get("/v1/agents"))["agents"][0]["contact"] is True
    async with running(tmp_path) as plant:
        writing.plant = plant
        assert (await writing.post(own("value=2", now + 10**6))).status_code == 204
        ((_, values),) = (await writing.samples()).values()
        assert values == [1.0, 2.0]
        runs = await plant.service.store.ledger(None, TimeSpan(0, 2**63 - 1))
        numbers = [
            (run.first_seq, run.last_seq) for run in runs if run.stream_id.startswith("line-protocol.")
        ]
        assert numbers == [(1, 2)]
