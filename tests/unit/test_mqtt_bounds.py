"""What publishers can make a source remember: bounded, however long their topics and keys are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

from tests.unit.test_mqtt_mapping import EVERYTHING, METERS, translate, translator

LONG = "x" * 60_000
TIMES = 100
AFTER = {"topic": "{cell}/{rest}", "asset": "acme/s/a/l/{cell}", "signals": "all", "max_signals": 3}


@contextmanager
def _keeping_little() -> Iterator[None]:
    """Expect that what is done meanwhile keeps much less than ``TIMES`` texts as long as ``LONG``."""
    tracemalloc.start()
    try:
        yield
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < TIMES * len(LONG) / 4


def test_long_topics_are_not_kept() -> None:
    made = translator(METERS, AFTER)
    with _keeping_little():
        for number in range(TIMES):
            translation, rows = translate(
                made, (f"no/{number}/{LONG}/", 1), (f"c{number}/{LONG}", {"a": number})
            )
            assert [row.value for row in rows] == [number]
            assert translation.counts == {"unmatched_topic": 1, "no_source_time": 1}


def test_what_a_long_topic_means_is_remembered() -> None:
    made = translator(AFTER)
    for _ in range(5):
        # Each has two signals of the three that it may have.
        translation, rows = translate(
            made, (f"c1/{LONG}", {"a": 1, "b": 2}), (f"c1/{LONG}y", {"a": 3, "c": 4})
        )
        assert [(row.series.signal, row.value) for row in rows] == [("a", 1), ("b", 2), ("a", 3), ("c", 4)]
        assert set(translation.counts) == {"no_source_time"}
    assert made._routes._found_signals == 4


def test_long_keys_are_not_kept_and_cost_no_others() -> None:
    made = translator(EVERYTHING, max_payload_bytes=2**20)
    with _keeping_little():
        for number in range(TIMES):
            long = f"{number}{LONG}"
            sent = {"Time": 1, long: 1, "deep": {long: 2}, "k" * 500: 3, "a": 4}
            translation, rows = translate(made, ("all/c", sent))
            assert [row.value for row in rows] == [3, 4]
            assert translation.counts == {"invalid_signal": 2}


def test_long_names_of_points_are_not_kept() -> None:
    made = translator({**AFTER, "points": {"name": "n", "value": "v"}})
    with _keeping_little():
        for number in range(TIMES):
            points = [{"n": f"{number}{LONG}", "v": 1}, {"n": "a", "v": 2}]
            translation, rows = translate(made, ("c1/t", points))
            assert [row.value for row in rows] == [2]
            assert translation.counts == {"invalid_signal": 1, "no_source_time": 1}
