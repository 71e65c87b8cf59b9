"""Numbers read all at once give the same samples as value by value."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.normalise import NO_TIME
from edge_agent.sources.mqtt import rows as rows_module
from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.mqtt.mapping import Translator
from edge_agent.sources.mqtt.paths import finder
from edge_agent.sources.mqtt.payload import NOT_CONVERTIBLE, Value
from edge_agent.sources.mqtt.repeats import RecentPayloads
from edge_agent.sources.mqtt.rows import Numbering, Rows, number_reader
from shopfloor.asset import AssetPath
from shopfloor.block import Quality, SampleBlock, problems
from shopfloor.signal import SeriesKey

NOW = 1_763_778_000_000_000_000
KEYS = ("a", "b", "c")
NEUTRAL = (1.0, 0.0)
SERIES = tuple(SeriesKey(AssetPath("acme/s/a/l/c"), f"v.{key}") for key in KEYS)


def config(*scales: tuple[float, float], paths: tuple[str, ...] = KEYS) -> MqttConfig:
    signals = [
        {"path": path, "signal": f"v.{number}", "scale": scale, "offset": offset}
        for number, (path, (scale, offset)) in enumerate(zip(paths, scales, strict=True))
    ]
    topic = {"topic": "t/{cell}", "asset": "acme/s/a/l/{cell}", "signals": signals}
    return MqttConfig.model_validate(
        {"name": "m", "broker": "mqtt://127.0.0.1", "client_id": "c", "topics": [topic]}
    )


def samples(made: MqttConfig, payloads: list[bytes], *, one_by_one: bool) -> tuple[list[str], dict[str, int]]:
    translator = Translator(made)
    if one_by_one:
        for meaning in translator._routes.meanings:
            meaning.read_numbers = None
    messages = [
        Message(f"t/c{number % 2}", each, NOW + number * 1_000) for number, each in enumerate(payloads)
    ]
    block, counts = translator.translate(messages, RecentPayloads({}))
    assert problems(block) == []
    # As text: NaN equals itself there, and 0.0 differs from -0.0.
    return [repr(row) for row in block.rows()], dict(counts)


_VALUES = st.one_of(
    st.floats(),
    st.integers(),
    st.integers(2**53 - 2, 2**53 + 2),
    st.sampled_from([10**400, -0.0, True, None, "12", "run", [1], {"x": 1}]),
)
_PAYLOADS = st.lists(
    st.one_of(
        st.fixed_dictionaries(dict.fromkeys(KEYS, _VALUES)),
        st.fixed_dictionaries(dict.fromkeys(KEYS, st.floats(allow_nan=False) | st.integers(0, 9))),
        st.dictionaries(st.sampled_from(KEYS), _VALUES),
        st.lists(st.integers(), max_size=3),
        _VALUES,
    ).map(lambda payload: json.dumps(payload).encode()),
    max_size=6,
)
_SCALES = st.sampled_from([NEUTRAL, NEUTRAL, (0.1, 0.0), (-2.0, 5.5), (1.0, -0.0)])


@given(_PAYLOADS, st.tuples(_SCALES, _SCALES, _SCALES))
def test_all_at_once_is_as_one_by_one(
    payloads: list[bytes], scales: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
) -> None:
    made = config(*scales)
    assert samples(made, payloads, one_by_one=False) == samples(made, payloads, one_by_one=True)


@pytest.mark.parametrize("paths", [("a.b", "a.c"), ("0", "1"), ("",), ("a", "a.b")])
def test_any_paths_are_read_as_one_by_one(paths: tuple[str, ...]) -> None:
    made = config(*[NEUTRAL] * len(paths), paths=paths)
    payloads = [b'{"a":{"b":1,"c":2.5}}', b"[3,4]", b"5", b'{"a":6,"a.b":7,"a.c":8,"0":9,"1":10}']
    assert samples(made, payloads, one_by_one=False) == samples(made, payloads, one_by_one=True)


@pytest.mark.parametrize(
    "payload",
    [{"a": 1}, {"a": 1, "b": "2"}, {"a": True, "b": 2}, {"a": None, "b": 2}, {"a": 2**53 + 1, "b": math.nan}],
)
def test_what_is_no_plain_number_is_left_to_the_one_by_one_reader(payload: dict[str, Any]) -> None:
    paths = ("a", "b")
    read = number_reader(paths, [finder(path) for path in paths], [NEUTRAL, NEUTRAL])
    assert read(payload) is None
    assert read([1, 2]) is None
    assert list(read({"a": 1, "b": 2.5}) or ()) == [1, 2.5]


def test_one_by_one_and_all_at_once_stand_in_order() -> None:
    rows = Rows(Numbering())
    rows.add_numbers(SERIES, NOW, NOW + 5, (1.0, 2.0, 3.0))
    rows.add(SERIES[2], NO_TIME, NOW + 6, Value(math.nan, text="run"))
    rows.add_numbers(SERIES, NOW + 1, NOW + 7, (4.0, 5.0, 6.0))
    assert len(rows) == 7
    block = rows.block()
    assert block.series == SERIES
    assert block.series_index.tolist() == [0, 1, 2, 2, 0, 1, 2]
    assert block.source_time.tolist() == [NOW] * 3 + [NOW + 6] + [NOW + 1] * 3
    assert block.received_time.tolist() == [NOW + 5] * 3 + [NOW + 6] + [NOW + 7] * 3
    assert block.text == {3: "run"}
    assert set(block.quality.tolist()) == {Quality.GOOD}
    assert rows.counts == {"no_source_time": 1}


def test_nothing_is_an_empty_block() -> None:
    block = Rows(Numbering()).block()
    assert len(block) == 0
    assert problems(block) == []


def block_of(numbering: Numbering, *series: int) -> SampleBlock:
    rows = Rows(numbering)
    for number in series:
        rows.add(SeriesKey(AssetPath("acme/s/a/l/c"), f"v.s{number}"), NOW, NOW, Value(float(number)))
    block = rows.block()
    assert problems(block) == []
    assert [row.series.signal for row in block.rows()] == [f"v.s{number}" for number in series]
    return block


def test_blocks_of_the_same_series_share_one_tuple_whatever_their_order() -> None:
    numbering = Numbering()
    first = block_of(numbering, 1, 2, 3)
    assert block_of(numbering, 3, 1).series is first.series
    grown = block_of(numbering, 4, 2)
    assert len(grown.series) == 4
    assert block_of(numbering, 1).series is grown.series


def test_a_few_samples_do_not_name_many_series() -> None:
    numbering = Numbering()
    everything = block_of(numbering, *range(500))
    few = block_of(numbering, 400, 7, 400)
    assert len(few.series) == 2
    assert block_of(numbering, *range(499, -1, -1)).series is everything.series


def test_what_was_begun_and_failed_leaves_no_trace() -> None:
    rows = Rows(Numbering())
    many = SERIES[:2]

    def failing() -> Iterator[float]:
        yield 1.0
        raise ArithmeticError

    for number in range(2):
        rows.add(many[0], NOW, NOW, Value(float(number), text="whole" if number else None))
        for sample in (
            Value(5.0),
            Value(math.nan, text="torn"),
            Value(math.nan, is_null=True),
            NOT_CONVERTIBLE,
        ):
            with pytest.raises(OverflowError):
                rows.add(many[1], 2**63, NOW, sample)
            rows.cut_torn()
        with pytest.raises(ArithmeticError):
            rows.add_numbers(many, NOW, NOW, failing())
        rows.cut_torn()
        rows.add_numbers(many, NOW, NOW, (7.0, 8.0))
    block = rows.block()
    assert problems(block) == []
    assert [(row.series.signal, row.value, row.text, row.status) for row in block.rows() if not row.text] == [
        ("v.a", 0.0, None, 0),
        ("v.a", 7.0, None, 0),
        ("v.b", 8.0, None, 0),
        ("v.a", 7.0, None, 0),
        ("v.b", 8.0, None, 0),
    ]
    assert block.text == {3: "whole"}


def test_the_memory_of_series_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "_MAX_SERIES", 10)
    numbering = Numbering()
    for start in range(0, 100, 5):
        numbering.trim()
        assert len(block_of(numbering, *range(start, start + 5)).series) <= 15


def test_the_memory_of_a_topics_series_is_bounded_though_they_are_the_same_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows_module, "_MAX_SERIES", 10)
    numbering = Numbering()
    for _ in range(50):
        numbering.trim()
        # As of a topic that was forgotten and worked out again.
        again = tuple(SeriesKey(*key) for key in SERIES)
        assert numbering.places(again).tolist() == [0, 1, 2]
        assert len(numbering._places) <= 7
        assert numbering.places(again) is numbering.places(again)
