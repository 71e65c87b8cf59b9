"""The past as readers get it: pages, exports, aggregates, thinning; against a real server."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from ingest_service.config import LimitsConfig
from ingest_service.reading.slots import Slots
from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.messages import Batch, Lane
from shopfloor.signal import SeriesKey
from tests.integration.ingest_server import Running, running

S = 1_000_000_000
BEGIN_MS = 1_760_000_000_000
SPAN: dict[str, Any] = {"from": BEGIN_MS, "to": BEGIN_MS + 1_000_000}
MACHINES = [
    parse_asset(f"acme/hk01/moulding/cell-{cell}/imm-0{number}") for cell in "ab" for number in (1, 2)
]
KEYS = tuple(SeriesKey(asset, signal) for asset in MACHINES for signal in ("pressure", "shots"))


def sent() -> SampleBlock:
    rows = np.arange(8_000)
    time = BEGIN_MS * 1_000_000 + (rows // 8) * S + 123
    value = np.where(rows % 2 == 0, rows % 100, rows // 8)
    quality = np.where(rows % 80 == 0, 2, 0).astype(np.uint8)
    text = {16: 'Grüße, "Welt"\n', 24: ""}
    value = value.astype(np.float64)
    value[list(text)] = np.nan
    return make_block(KEYS, rows % 8, time, time + 5, value, quality=quality, text=text)


@pytest.fixture
async def plant(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as one:
        assert (await one.post(Batch("gateway", "s", Lane.BACKLOG, 1, sent()))).status_code == 200
        yield one


async def test_pages_of_json_give_every_sample_once(plant: Running) -> None:
    whole = await plant.get("/v1/samples", **SPAN)
    assert whole["next"] is None
    found: list[tuple[str, str, int, Any]] = []
    cursor: dict[str, Any] = {}
    while True:
        page = await plant.get("/v1/samples", limit=777, **SPAN, **cursor)
        for one in page["series"]:
            found += [(one["asset"], one["signal"], *row) for row in zip(one["t"], one["value"], strict=True)]
        assert page["truncated"] is (page["next"] is not None)
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert len(found) == 8_000
    assert found == [
        (one["asset"], one["signal"], *row)
        for one in whole["series"]
        for row in zip(one["t"], one["value"], strict=True)
    ]


async def test_exports_hold_exactly_what_was_sent(plant: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_service.reading.pages.PAGE_ROWS", 1_500)
    answers = {
        form: (await plant.client.get("/v1/samples", params={**SPAN, "format": form}, headers=plant.viewer))
        for form in ("arrow", "parquet", "csv")
    }
    assert answers["arrow"].headers["content-type"] == "application/vnd.apache.arrow.stream"
    tables = {
        "arrow": pa.ipc.open_stream(answers["arrow"].content).read_all(),
        "parquet": pq.read_table(io.BytesIO(answers["parquet"].content)),
        "csv": pacsv.read_csv(
            io.BytesIO(answers["csv"].content),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False),
        ),
    }
    order = np.array(sorted(range(8_000), key=lambda row: (*KEYS[row % 8], row)))
    block = sent().take(order)
    for form, table in tables.items():
        assert len(table) == 8_000, form
        times = table["source_time"].cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy()
        assert np.array_equal(times, block.source_time), form
        assert np.array_equal(table["value"].to_numpy(zero_copy_only=False), block.value, equal_nan=True), (
            form
        )
        assert table["quality"].to_pylist() == block.quality.tolist(), form
        assert [text for text in table["text"].to_pylist() if text is not None] == [
            block.text[row] for row in sorted(block.text)
        ], form
        assert table["asset"].to_pylist() == [
            str(block.series[index].asset) for index in block.series_index
        ], form
    assert pl.read_parquet(io.BytesIO(answers["parquet"].content)).height == 8_000


async def test_an_export_may_be_limited_gone_on_with_and_asked_for_by_accept(plant: Running) -> None:
    headers = plant.viewer | {"Accept": "application/vnd.apache.parquet"}
    answer = await plant.client.get("/v1/samples", params={**SPAN, "limit": 10}, headers=headers)
    assert len(pq.read_table(io.BytesIO(answer.content))) == 10
    cursor = (await plant.get("/v1/samples", limit=10, **SPAN))["next"]
    answer = await plant.client.get("/v1/samples", params={**SPAN, "cursor": cursor}, headers=headers)
    assert len(pq.read_table(io.BytesIO(answer.content))) == 7_990
    empty: dict[str, Any] = {"from": 0, "to": 1000, "format": "arrow"}
    answer = await plant.client.get("/v1/samples", params=empty, headers=plant.viewer)
    assert len(pa.ipc.open_stream(answer.content).read_all()) == 0


async def test_globs_over_assets(plant: Running) -> None:
    found = await plant.get("/v1/series", asset="acme/*/moulding/*/imm-01")
    assert [one["asset"] for one in found["series"]] == [str(MACHINES[0])] * 2 + [str(MACHINES[2])] * 2
    found = await plant.get("/v1/samples", asset="**/cell-b/**", signal="shots", limit=1, **SPAN)
    assert [one["asset"] for one in found["series"]] == [str(MACHINES[2])]


async def test_aggregates_as_asked_for(plant: Running) -> None:
    asked = {
        "asset": str(MACHINES[0]),
        "every": "100s",
        "aggregate": "increase,bad,time_weighted_mean",
        **SPAN,
    }
    found = await plant.get("/v1/samples", **asked)
    shots = found["series"][1]
    assert set(shots) == {"id", "asset", "signal", "unit", "t", "bad", "increase", "time_weighted_mean"}
    # One shot a second; the first bucket has nothing to rise from.
    assert shots["increase"] == [99] + [100] * 9
    assert sum(found["series"][0]["bad"]) == 100
    # 123 ns of each bucket still hold the value before.
    assert shots["time_weighted_mean"][1] == pytest.approx(149.5, abs=1e-6)
    answer = await plant.client.get("/v1/samples", params={**asked, "format": "csv"}, headers=plant.viewer)
    lines = answer.text.splitlines()
    assert lines[0] == '"asset","signal","start","end","increase","bad","time_weighted_mean"'
    assert len(lines) == 1 + 2 * 10


async def test_days_of_a_time_zone(plant: Running) -> None:
    month: dict[str, Any] = {"from": "2025-10-01T00:00:00+08:00", "to": "2025-11-01T00:00:00+08:00"}
    found = await plant.get("/v1/samples", every="1d", time_zone="Asia/Hong_Kong", signal="shots", **month)
    assert found["series"][0]["t"] == [1_759_939_200_000]  # 2025-10-09 00:00 in Hong Kong
    assert found["series"][0]["count"] == [1000]


async def test_a_span_of_nothing_has_no_buckets_in_any_form(plant: Running) -> None:
    nothing: dict[str, Any] = {"from": BEGIN_MS, "to": BEGIN_MS, "points": 5, "aggregate": "max"}
    assert (await plant.get("/v1/samples", **nothing)) == {"series": [], "truncated": False}
    answer = await plant.client.get("/v1/samples", params={**nothing, "format": "csv"}, headers=plant.viewer)
    assert answer.text.splitlines() == ['"asset","signal","start","end","max"']
    answer = await plant.client.get(
        "/v1/samples", params={**nothing, "format": "parquet"}, headers=plant.viewer
    )
    assert pq.read_table(io.BytesIO(answer.content)).column_names == [
        "asset",
        "signal",
        "start",
        "end",
        "max",
    ]


async def test_texts_and_numbers_stand_side_by_side(plant: Running) -> None:
    found = await plant.get("/v1/samples", asset=str(MACHINES[0]), signal="pressure", **SPAN)
    values = found["series"][0]["value"]
    assert values[:5] == [0, 8, 'Grüße, "Welt"\n', "", 32]
    assert len(values) == 1000


async def test_thinning_keeps_the_shape(plant: Running) -> None:
    found = await plant.get("/v1/samples", thin="lttb", points=50, signal="pressure", **SPAN)
    assert [len(one["t"]) for one in found["series"]] == [50] * 4


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("every=1x", "every"),
        ("every=1d&time_zone=Mars/Olympus", "time_zone"),
        ("every=1h&aggregate=median", "aggregate"),
        ("every=1h&from=0&to=0&aggregate=median", "aggregate"),
        ("cursor=abc", "cursor"),
        (f"asset={'a' * 1001}", "a selector"),
        ("limit=100000000", "limit"),
        ("thin=lttb&every=1h", "thin"),
        ("thin=lttb&limit=5", "limit"),
        ("every=1h&limit=5", "limit"),
        ("points=10&cursor=abc", "cursor"),
        ("every=0.000000001&from=0&to=1000000", "every"),
    ],
)
async def test_what_can_not_be_answered_is_named(plant: Running, query: str, what: str) -> None:
    answer = await plant.client.get(f"/v1/samples?{query}", headers=plant.viewer)
    assert answer.status_code == 400
    assert json.loads(answer.content)["error"].startswith(what)


async def test_blocks_come_as_a_whole(plant: Running) -> None:
    headers = plant.viewer | {"Accept": "application/vnd.shopfloor.block"}
    answer = await plant.client.get("/v1/samples", params={**SPAN, "limit": 5}, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("cursor, limit")


async def test_too_many_samples_to_thin(tmp_path: Path) -> None:
    async with running(tmp_path, limits=LimitsConfig(export_samples=100)) as plant:
        assert (await plant.post(Batch("gateway", "s", Lane.BACKLOG, 1, sent()))).status_code == 200
        answer = await plant.client.get("/v1/samples", params={**SPAN, "thin": "lttb"}, headers=plant.viewer)
        assert answer.status_code == 400
        assert "more than 100 samples" in answer.json()["error"]


async def test_only_so_many_large_answers_are_on_their_way(tmp_path: Path) -> None:
    async with running(tmp_path, limits=LimitsConfig(large_answers=1)) as plant:
        assert (await plant.post(Batch("gateway", "s", Lane.BACKLOG, 1, sent()))).status_code == 200
        slots: Slots = plant.server.config.app.app.state.large_answers  # type: ignore[union-attr]
        asked: dict[str, Any] = {**SPAN, "format": "csv"}
        slot = slots.take()
        for refused in (asked, {**SPAN, "thin": "lttb"}):
            answer = await plant.client.get("/v1/samples", params=refused, headers=plant.viewer)
            assert answer.status_code == 429
            assert answer.headers["retry-after"] == "2"
        assert len((await plant.get("/v1/samples", **SPAN))["series"]) == 8
        slot.release()
        slot.release()
        for _ in range(3):
            answer = await plant.client.get("/v1/samples", params=asked, headers=plant.viewer)
            assert answer.status_code == 200
        bad = await plant.client.get(
            "/v1/samples", params={**SPAN, "thin": "lttb", "points": 1}, headers=plant.viewer
        )
        assert bad.status_code == 200
        assert slots.taken == 0
