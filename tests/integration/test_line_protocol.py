"""The ecosystem's door: what clients of InfluxDB 2 and 1.8 send is placed, or named where it is wrong, never lost."""

from __future__ import annotations

import base64
import gzip
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingest_service.stores import TimeSpan
from shopfloor.block import Quality
from tests.integration.ingest_server import running
from tests.integration.line_protocol_writing import Writing, own, writing_to


@pytest.fixture
async def writing(tmp_path: Path) -> AsyncIterator[Writing]:
    async with writing_to(tmp_path) as found:
        yield found


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


async def test_a_text_of_ten_megabytes_is_a_fault_of_its_line(writing: Writing) -> None:
    huge = own(f'text="{"x" * 10_000_000}"', time.time_ns())
    answer = await writing.post(f"{huge}\n{own('value=1', time.time_ns())}")
    assert answer.status_code == 400
    assert "a text of 10000000 bytes; at most 65536 are taken" in answer.json()["message"]
    assert len(answer.content) < 1000
    ((reason, _, text),) = writing.quarantine()
    assert (reason, len(text)) == ("line_unreadable", 64 * 1024)
    assert len(await writing.samples()) == 1


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
