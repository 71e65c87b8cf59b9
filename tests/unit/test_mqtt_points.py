"""Lists of points in messages: their times, what comes twice, what one bad point costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from edge_agent.sources.mqtt import mapping
from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.mqtt.repeats import RecentPayloads
from shopfloor.block import problems
from tests.unit.test_mqtt_mapping import NOW, TIMELESS, messages, translate, translator

BURST = {"topic": "b/{cell}", "asset": "acme/s/a/l/{cell}", "points": {}, "signals": [{"signal": "v"}]}


def test_points_without_a_time_have_times_that_no_other_value_has() -> None:
    made = translator(BURST, TIMELESS)
    crowded = [
        Message("b/c", b"[1, 1, 1]", NOW),
        Message("plain/c", b"1", NOW + 1),
        Message("b/c", b"[1, 1]", NOW + 2),
        Message("b/c", b"[1]", NOW + 1_000),
    ]
    block = made.translate(crowded, RecentPayloads({})).block
    assert problems(block) == []
    assert (block.source_time - NOW).tolist() == [0, 1, 2, 3, 3, 4, 1_000]
    assert len(set(zip(block.series_index.tolist(), block.source_time.tolist(), strict=True))) == len(block)
    # A clock that is put back is believed.
    earlier = NOW - 3_600_000_000_000
    block = made.translate([Message("b/c", b"[1]", earlier)], RecentPayloads({})).block
    assert block.source_time.tolist() == [earlier]


def test_points_that_come_again_are_told_by_their_own_times_or_by_dup() -> None:
    timed = {
        **BURST,
        "topic": "t/{cell}",
        "points": {"time": {"path": "t", "format": "ms"}},
        "signals": [{"path": "v", "signal": "v"}],
    }
    made = translator(BURST, timed)
    recent = RecentPayloads({})
    for dup, found in ((False, 2), (True, 0)):
        block, counts = made.translate(messages(("b/c", [1, 2]), dup=dup), recent)
        assert (len(block), counts["repeated_message"]) == (found, 0 if found else 1)
        # These the buffer recognises, sample by sample.
        block, counts = made.translate(messages(("t/c", [{"t": 5, "v": 1}]), dup=dup), recent)
        assert (len(block), counts["repeated_message"]) == (1, 0)


def test_one_bad_point_costs_only_itself() -> None:
    timed = {
        **BURST,
        "points": {"path": "p", "time": {"path": "t", "format": "ms"}},
        "signals": [{"path": "v", "signal": "v", "type": "number"}],
    }
    points: list[Any] = [
        {"t": 1, "v": 1},
        None,
        {"t": 2, "v": {}},
        5,
        {"t": "x", "v": 3},
        [],
        {"t": 4},
        {"t": 5, "v": "5"},
    ]
    translation, rows = translate(translator(timed), ("b/c", {"p": points}))
    assert [row.value for row in rows if not math.isnan(row.value)] == [1.0, 3.0, 5.0]
    assert translation.counts == {
        "missing_time": 3,
        "missing_value": 4,
        "not_convertible": 1,
        "bad_time": 1,
        "no_source_time": 1,
    }


@pytest.mark.parametrize(
    ("form", "begin", "interval_ms", "number", "timed"),
    [
        ("ns", 2**63 - 1, 2.5, 2, 1),
        # The 342 steps of 2.5 ms that are left of the last second, and its beginning.
        ("s", 9_223_372_036, 2.5, 400, 342),
        ("s", 9_223_372_036, 86_400_000.0, 5_000, 1),
    ],
)
def test_points_that_run_out_of_time_cost_neither_each_other_nor_other_messages(
    form: str, begin: int, interval_ms: float, number: int, timed: int
) -> None:
    series = {
        **BURST,
        "time": {"path": "t", "format": form},
        "points": {"path": "b", "interval_ms": interval_ms},
    }
    sent = ("b/c", {"t": begin, "b": list(range(number))})
    translation, rows = translate(translator(series, TIMELESS), ("plain/c", -1), sent, ("plain/c", -2))
    assert [row.value for row in rows] == [-1.0, *range(number), -2.0]
    assert [row.source_time > NOW + 3_600_000_000_000 for row in rows[1:-1]] == [True] * timed + [False] * (
        number - timed
    )
    assert translation.counts["bad_time"] == number - timed
    assert translation.counts["no_source_time"] == number - timed + 2


@pytest.mark.parametrize(("form", "raw"), [("s", 1e305), ("ms", 1e308), ("ns", 2**63)])
def test_an_absurd_time_costs_only_itself(form: str, raw: float) -> None:
    time = {"path": "t", "format": form}
    one = {**BURST, "time": time, "signals": [{"path": "v", "signal": "v"}]}
    del one["points"]
    many = {**one, "topic": "m/{cell}", "points": {"time": time}}
    del many["time"]
    sent = {"t": raw, "v": 1}
    translation, rows = translate(
        translator(one, many), ("b/c", sent), ("m/d", [sent, {"t": 5, "v": 2}]), ("b/c", {"t": 5, "v": 3})
    )
    assert [row.value for row in rows] == [1.0, 1.0, 2.0, 3.0]
    assert translation.counts == {"bad_time": 2, "no_source_time": 2}


def test_a_defect_of_ours_costs_one_message(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for path, raw in content.items():
            if path == "bad":
                raise ZeroDivisionError
            yield path, raw

    monkeypatch.setattr(mapping, "leaves", failing)
    everything = {**BURST, "signals": "all"}
    del everything["points"]
    made = translator(everything)
    sent = [("b/c", {"a": 1}), ("b/c", {"a": 2, "bad": 0, "z": 0}), ("b/d", {"bad": 0}), ("b/c", {"a": 3})]
    translation, rows = translate(made, *sent)
    assert [row.value for row in rows] == [1.0, 2.0, 3.0]
    assert translation.counts == {"defect": 2, "no_source_time": 3}
    # Told with its place once, and with each topic; without a payload.
    assert [bool(record.exc_info) for record in caplog.records] == [True, False, False]
    assert "'b/d': defect: 10 bytes" in caplog.text


def test_what_is_not_the_messages_fault_is_not_taken_for_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(_payload: bytes) -> Any:
        raise MemoryError

    monkeypatch.setattr(mapping, "decode_json", exhausted)
    with pytest.raises(MemoryError):
        translate(translator(TIMELESS), ("plain/c", 1))


def test_a_flood_of_points_is_bounded() -> None:
    made = translator({**BURST, "points": {"max_points": 3}}, max_payload_bytes=2**20)
    translation, rows = translate(made, ("b/c", [0] * 100_000), ("b/c", [7]))
    assert [row.value for row in rows] == [0, 0, 0, 7]
    assert translation.counts == {"too_many_points": 99_997, "no_source_time": 4}
