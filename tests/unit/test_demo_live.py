"""The demo's subscriber: what it notes of the live stream, over reconnects and with numbers that change."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import httpx

from shopfloor.asset import parse_asset
from shopfloor.signal import SeriesKey
from simulators.demo.live import LiveRecorder

ASSET = "acme/hk01/moulding/cell-a/imm-01"
A, B = SeriesKey(parse_asset(ASSET), "a"), SeriesKey(parse_asset(ASSET), "b")


def event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def series(numbers: list[int], signals: list[str]) -> bytes:
    units = [""] * len(numbers)
    return event("series", {"id": numbers, "asset": [ASSET] * len(numbers), "signal": signals, "unit": units})


def values(numbers: list[int], times: list[int]) -> bytes:
    columns = {"id": numbers, "t": times, "v": [1.5, "text", None][: len(numbers)], "q": [0] * len(numbers)}
    return event("values", columns)


class Script(httpx.SyncByteStream):
    def __init__(self, chunks: list[bytes], then: threading.Event | None = None) -> None:
        self._chunks, self._then = chunks, then

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        if self._then is not None:
            self._then.set()


def record(*connections: list[bytes]) -> LiveRecorder:
    """Let a recorder see these connections one after the other, and stop."""
    last = threading.Event()
    scripts = [Script(chunks) for chunks in connections[:-1]]
    scripts.append(Script(connections[-1], last))
    waiting: list[Script | None] = [*scripts]

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/live"
        script = waiting.pop(0) if waiting else None
        return httpx.Response(200, stream=script) if script else httpx.Response(503)

    recorder = LiveRecorder("http://service", transport=httpx.MockTransport(answer))
    recorder.start()
    assert last.wait(10)
    recorder.stop()
    return recorder


def test_values_are_noted_with_their_series_and_arrival() -> None:
    before_ns = time.time_ns()
    recorder = record(
        [
            event("hello", {"now": 1}) + series([7, 3], ["a", "b"]),
            values([3, 7], [1000, 1001]) + event("ping", {"now": 2}),
            values([7], [1002]),
        ]
    )
    seen = recorder.arrivals()
    assert [seen.series[index] for index in seen.series_index] == [B, A, A]
    assert seen.time_ms.tolist() == [1000, 1001, 1002]
    assert before_ns <= seen.arrival_ns[0] <= seen.arrival_ns[-1] <= time.time_ns()
    assert recorder.unreadable == 0


def test_numbers_mean_other_series_after_a_reconnect() -> None:
    recorder = record(
        [series([1, 2], ["a", "b"]) + values([1], [10])], [series([1, 2], ["b", "a"]) + values([1], [20])]
    )
    seen = recorder.arrivals()
    assert [seen.series[index] for index in seen.series_index] == [A, B]
    assert recorder.connections == 2


def test_what_breaks_the_promise_is_counted_and_costs_nothing_else() -> None:
    recorder = record(
        [
            series([1], ["a"]),
            values([99], [10]),
            b"event: values\ndata: {oops\n\n",
            event("values", {"id": [1, 1], "t": [1], "v": [], "q": []}),
            values([1], [30]),
        ]
    )
    assert recorder.arrivals().time_ms.tolist() == [30]
    assert recorder.unreadable == 3


def test_a_recorder_that_was_never_started_stops_at_once() -> None:
    recorder = LiveRecorder("http://service")
    recorder.stop()
    assert len(recorder.arrivals().time_ms) == 0
