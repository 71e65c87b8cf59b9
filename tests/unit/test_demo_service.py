"""How the demo reads back everything that the store holds."""

from __future__ import annotations

import struct

import httpx
import numpy as np
import pytest

from shopfloor.asset import parse_asset
from shopfloor.block import SampleBlock, make_block
from shopfloor.signal import SeriesKey
from shopfloor.wire import encode_block
from simulators.demo.service import Service, ServiceTrouble, split_blocks, window_edges

KEY = SeriesKey(parse_asset("acme/hk01/moulding/cell-a/imm-01"), "cycle.time")
START_NS = 1_763_778_000_000_000_123


def rows(count: int, step_ns: int = 250_000_000) -> SampleBlock:
    times = START_NS + step_ns * np.arange(count)
    return make_block((KEY,), np.zeros(count), times, times, np.arange(count))


def framed(*blocks: SampleBlock) -> bytes:
    messages = [encode_block(block) for block in blocks]
    return b"".join(struct.pack("<I", len(message)) + message for message in messages)


def service_of(store: SampleBlock, asked: list[httpx.Request]) -> Service:
    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        query = request.url.params
        inside = (store.source_time >= int(query["from"]) * 1_000_000) & (
            store.source_time < int(query["to"]) * 1_000_000
        )
        found = store.take(inside)
        return httpx.Response(200, content=framed(found) if len(found) else b"")

    return Service("http://service", transport=httpx.MockTransport(answer))


def test_everything_is_read_once_in_windows_that_cover_all_times() -> None:
    store = rows(120_000)
    outside = make_block((KEY,), [0, 0], [5, 2**62], 0, [1.0, 2.0])
    asked: list[httpx.Request] = []
    service = service_of(
        make_block(
            (KEY,),
            np.zeros(120_002),
            np.concatenate([store.source_time, outside.source_time]),
            0,
            np.concatenate([store.value, outside.value]),
        ),
        asked,
    )
    found = service.everything(["acme/hk01"], store.source_time)
    assert sorted(found.source_time.tolist()) == sorted([5, *store.source_time.tolist(), 2**62])
    assert len(asked) == 4
    assert {request.url.params["asset"] for request in asked} == {"acme/hk01"}
    assert {request.headers["accept"] for request in asked} == {"application/vnd.shopfloor.block"}


def test_nothing_expected_is_still_looked_for_everywhere() -> None:
    asked: list[httpx.Request] = []
    found = service_of(rows(3), asked).everything(["acme/hk01", "acme/dg01"], np.empty(0, np.int64))
    assert len(found) == 6
    assert len(asked) == 2


def test_windows_are_whole_milliseconds_and_never_empty() -> None:
    edges = window_edges(np.full(200_000, START_NS))
    assert edges == [0, START_NS // 1_000_000, edges[-1]]
    assert edges[-1] > START_NS // 1_000_000


def test_blocks_are_split_and_what_is_torn_is_refused() -> None:
    content = framed(rows(10), rows(3))
    assert [len(block) for block in split_blocks(content)] == [10, 3]
    assert list(split_blocks(b"")) == []
    with pytest.raises(ServiceTrouble, match="1 bytes short"):
        list(split_blocks(content[:-1]))
    with pytest.raises(ServiceTrouble, match="in the middle of a length"):
        list(split_blocks(content + b"\x00"))
    with pytest.raises(ServiceTrouble, match="are not blocks"):
        list(split_blocks(struct.pack("<I", 4) + b"oops"))


def test_an_unhappy_answer_is_trouble() -> None:
    down = Service("http://service", transport=httpx.MockTransport(lambda _: httpx.Response(503)))
    assert not down.is_ready()
    with pytest.raises(ServiceTrouble, match="503"):
        down.samples("acme", 0, 1)
