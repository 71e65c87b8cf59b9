"""Clients of InfluxDB as they are: influxdb-client's WriteApi, curl, and requests as Telegraf's outputs send them."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException

from ingest_service.auth import Role, create_token
from tests.integration.ingest_server import Running, running

MAPPING = {"rules": [{"measurement": "press", "asset": "acme/hk01/{line}/press", "signal": "{field}"}]}
BEGIN = 1_760_000_000


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path, line_protocol={"mapping": MAPPING}) as one:
        yield one


def token_of(plant: Running) -> str:
    return create_token(plant.service.plant.engine, Role.AGENT, "acme", "client")


def address(plant: Running) -> str:
    return str(plant.client.base_url).rstrip("/")


async def stored(plant: Running) -> dict[str, tuple[list[int], list[float | str]]]:
    """Return series -> (times in seconds, values)."""
    found = (await plant.client.get("/v1/samples", params={"from": 0}, headers=plant.viewer)).json()
    return {
        f"{one['asset']}:{one['signal']}": ([at // 1000 for at in one["t"]], one["value"])
        for one in found["series"]
    }


def points(count: int) -> list[dict[str, Any]]:
    at = dt.datetime.fromtimestamp(BEGIN, dt.UTC)
    return [
        {
            "measurement": "press",
            "tags": {"line": "line 1"},
            "fields": {"force": number / 4, "strokes": number, "on": True, "note": 'a "b", c=d'},
            "time": at + dt.timedelta(seconds=number),
        }
        for number in range(count)
    ]


async def test_influxdb_client_writes_synchronously(plant: Running) -> None:
    token = token_of(plant)

    def write() -> None:
        with InfluxDBClient(address(plant), token, org="acme", enable_gzip=True) as client:
            assert client.ping()
            with pytest.warns(DeprecationWarning, match="ping"):
                assert client.health().status == "pass"
            assert client.version().startswith("shopfloor-")
            with client.write_api(write_options=SYNCHRONOUS) as api:
                api.write("plant", record=points(3), write_precision=WritePrecision.S)
                api.write(
                    "plant",
                    record="press,line=line\\ 1 force=9i 1760000009",
                    write_precision=WritePrecision.S,
                )
                with pytest.raises(ApiException) as caught:
                    api.write("plant", record=["press,line=l2 force=1 5000000000000000000", "press force=x"])
        assert caught.value.status == 400
        assert "unable to parse 'press force=x': invalid number" in caught.value.message

    await asyncio.to_thread(write)
    found = await stored(plant)
    assert found["acme/hk01/line_1/press:force"] == (
        [BEGIN, BEGIN + 1, BEGIN + 2, BEGIN + 9],
        [0.0, 0.25, 0.5, 9.0],
    )
    assert found["acme/hk01/line_1/press:strokes"][1] == [0.0, 1.0, 2.0]
    assert found["acme/hk01/line_1/press:on"][1] == [1.0] * 3
    assert found["acme/hk01/line_1/press:note"][1] == ['a "b", c=d'] * 3
    reasons = sorted(row["reason"] for row in plant.service.plant.list_quarantine())
    assert reasons == ["implausible_time", "line_unreadable"]


BATCHING = """
import sys
from influxdb_client import InfluxDBClient, WriteOptions

failed = []
options = WriteOptions(batch_size=50, flush_interval=100, max_retries=3)
with InfluxDBClient(sys.argv[1], sys.argv[2], org="acme", enable_gzip=True) as client:
    with client.write_api(write_options=options, error_callback=lambda *error: failed.append(error)) as api:
        for number in range(120):
            api.write("plant", record=f"press,line=l1 force={number / 4} {int(sys.argv[3]) + number}", write_precision="s")
sys.exit(str(failed) if failed else 0)
"""
"""In a process of its own: its threads stay when it is closed."""


async def test_influxdb_client_writes_in_batches(plant: Running) -> None:
    arguments = [address(plant), token_of(plant), str(BEGIN)]
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", BATCHING, *arguments],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert (done.returncode, done.stderr) == (0, "")
    times, values = (await stored(plant))["acme/hk01/l1/press:force"]
    assert times == [BEGIN + number for number in range(120)]
    assert values == [number / 4 for number in range(120)]


async def test_a_wrong_token_is_told_so(plant: Running) -> None:
    def write() -> None:
        with InfluxDBClient(address(plant), "wrong", org="acme") as client:
            with client.write_api(write_options=SYNCHRONOUS) as api:
                with pytest.raises(ApiException) as caught:
                    api.write("plant", record="press,line=l1 force=1")
        assert (caught.value.status, caught.value.message) == (401, "unauthorized access")

    await asyncio.to_thread(write)


async def test_requests_of_telegraf(plant: Running) -> None:
    """As its outputs influxdb_v2 and influxdb write: packed in chunks, without a length, times in nanoseconds."""
    token = token_of(plant)
    lines = "".join(
        f"press,host=gw,line=l1 force={number},up=true {(BEGIN + number) * 10**9}\n" for number in range(5)
    )

    async def chunks() -> AsyncIterator[bytes]:
        packed = gzip.compress(lines.encode())
        for start in range(0, len(packed), 40):
            yield packed[start : start + 40]

    common = {
        "User-Agent": "Telegraf/1.36.2 Go/1.25.1",
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Encoding": "gzip",
    }
    second = await plant.client.post(
        "/api/v2/write?bucket=telegraf&org=acme",
        content=chunks(),
        headers=common | {"Authorization": f"Token {token}"},
    )
    first = await plant.client.post(
        "/write?consistency=any&db=telegraf&precision=ns&rp=",
        content=chunks(),
        headers=common,
        auth=("user", token),
    )
    assert (second.status_code, first.status_code) == (204, 204)
    assert (await stored(plant))["acme/hk01/l1/press:force"][1] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert await plant.metric("shopfloor_ingest_line_repeats_total") == 1


async def test_plain_curl(plant: Running) -> None:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    token = token_of(plant)
    now = time.time_ns()

    def curl(*arguments: str) -> str:
        command = [program, "--silent", "--show-error", "--include", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    url = f"{address(plant)}/api/v2/write?org=acme&bucket=plant&precision=ns"
    said = await asyncio.to_thread(
        curl,
        url,
        "--header",
        f"Authorization: Token {token}",
        "--data-binary",
        f"press,line=l1 force=5 {now}",
    )
    assert said.startswith("HTTP/1.1 204")
    url = f"{address(plant)}/write?db=plant"
    said = await asyncio.to_thread(
        curl, url, "--user", f"anybody:{token}", "--data-binary", "press,line=l1 force"
    )
    assert said.startswith("HTTP/1.1 400")
    assert said.endswith("""{"error":"unable to parse 'press,line=l1 force': missing field value"}""")
    assert (await stored(plant))["acme/hk01/l1/press:force"][1] == [5.0]
