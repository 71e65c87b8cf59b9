"""What a dialect says is what the edge agent reads by the configuration that comes with it, to the last bit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopfloor import signal
from shopfloor.asset import parse_asset
from shopfloor.signal import parse_signal
from simulators.physics.meter import MeterReading
from simulators.physics.unit import Change, CycleEnd, Moment
from simulators.protocols.mqtt_dialects import Dialect, PlainMeter, Said, Umh, distinct_topics
from tests.unit.dialects_read import (
    ASSET,
    CELLS,
    MAKE,
    METERS,
    MS,
    START,
    WORKPLACE,
    assert_read_exactly,
    collected,
    rows_of,
)

CASES = sorted((Path(__file__).parents[1] / "cases" / "mqtt_dialects").glob("*.json"))


def moment_of(entry: list[Any]) -> Moment:
    what, after_ms, *rest = entry
    time_ns = START + after_ms * MS
    if what == "change":
        return Change(ASSET.name, rest[0], time_ns, rest[1])
    assert what == "cycle"
    return CycleEnd(ASSET.name, time_ns, rest[0])


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_case_is_said_and_read_as_it_stands_there(path: Path) -> None:
    case = json.loads(path.read_text())
    dialect: Any = MAKE[case["dialect"]]()
    said: list[Said] = []
    for after_ms, *values in case.get("readings", []):
        numbers = [math.nan if value is None else value for value in values]
        said += dialect.reading(MeterReading(START + after_ms * MS, *numbers))
    if "moments" in case:
        moments = [moment_of(entry) for entry in case["moments"]]
        said += dialect.moments(moments, START // MS + case["until_ms"])
    assert_read_exactly(case["dialect"], dialect, said)
    shown = [
        {
            "topic": each.message.topic,
            "payload": json.loads(each.message.payload),
            "rows": [
                [
                    row.signal,
                    None if row.time_ns is None else (row.time_ns - START) // MS,
                    None if isinstance(row.value, float) and math.isnan(row.value) else row.value,
                ]
                for row in each.rows
            ],
        }
        for each in said
    ]
    assert json.loads(json.dumps(shown).replace("NaN", "null")) == case["messages"]


times = st.integers(946_684_800_000, 4_102_444_800_000).map(lambda time_ms: time_ms * MS)
measured = st.floats(-1e9, 1e9) | st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 0.1 + 0.2])
readings = st.builds(MeterReading, times, measured, measured, measured, measured, measured)
sound_readings = st.builds(MeterReading, times, *[st.floats(0.0, 1e6)] * 5)
values = st.floats() | st.integers(-(2**60), 2**60).map(float) | st.text(max_size=20)


@pytest.mark.parametrize("name", METERS)
@given(st.lists(readings, max_size=6))
@settings(max_examples=60)
def test_the_agent_reads_what_a_meter_says(name: str, given_readings: list[MeterReading]) -> None:
    dialect: Any = MAKE[name]()
    said = [each for reading in given_readings for each in dialect.reading(reading)]
    assert_read_exactly(name, dialect, said)


@st.composite
def cell_moments(draw: st.DrawFn, signals: tuple[str, ...]) -> list[Moment]:
    moments: list[Moment] = []
    time_ms = START // MS
    for _ in range(draw(st.integers(0, 12))):
        # Clocks may be put back.
        time_ms += draw(st.sampled_from([0, 1, 10, 999, 10_000, 25_000, -420_000]))
        if draw(st.booleans()):
            moments.append(Change("test-1", draw(st.sampled_from(signals)), time_ms * MS, draw(values)))
        else:
            some = draw(st.dictionaries(st.sampled_from(signals), values, max_size=len(signals)))
            moments.append(CycleEnd("test-1", time_ms * MS, some))
    return moments


@pytest.mark.parametrize("name", CELLS)
@given(data=st.data())
@settings(max_examples=60)
def test_the_agent_reads_what_a_cell_says_wherever_its_time_is_cut(name: str, data: st.DataObject) -> None:
    dialect: Any = MAKE[name]()
    known = (signal.MACHINE_MODE, signal.POWER_ON, signal.STANDSTILL_REASON, "not.shown")
    moments = data.draw(cell_moments((*dialect.signals, *known)))
    until_ms = max([START // MS, *(moment.time_ns // MS for moment in moments)]) + 1
    said = dialect.moments(moments, until_ms)
    assert_read_exactly(name, dialect, said)
    # A restart between two moments of different times changes nothing.
    steps = [
        number
        for number in range(1, len(moments))
        if moments[number].time_ns > max(moment.time_ns for moment in moments[:number])
    ]
    cut = data.draw(st.sampled_from(steps)) if steps else 0
    first: Any = MAKE[name]()
    again = first.moments(moments[:cut], moments[cut].time_ns // MS) if cut else []
    second: Any = MAKE[name]()
    second.restore(first.snapshot())
    again += second.moments(moments[cut:], until_ms)
    assert [each.message for each in again] == [each.message for each in said]
    assert [each.time_ns for each in again] == [each.time_ns for each in said]


@pytest.mark.parametrize("name", METERS)
@given(st.lists(sound_readings, min_size=2, max_size=5))
@settings(max_examples=30)
def test_a_meter_goes_on_after_a_restart(name: str, given_readings: list[MeterReading]) -> None:
    whole: Any = MAKE[name]()
    said = [whole.reading(reading) for reading in given_readings]
    first: Any = MAKE[name]()
    for reading in given_readings[:1]:
        first.reading(reading)
    second: Any = MAKE[name]()
    second.restore(first.snapshot())
    assert [second.reading(reading) for reading in given_readings[1:]] == said[1:]


def test_one_agent_reads_all_dialects_of_a_site_at_once() -> None:
    dialects: list[Dialect] = [make() for make in MAKE.values()]
    other = parse_asset("acme/hk01/assembly/u-line/test-2")
    dialects += [PlainMeter(other), Umh(other, WORKPLACE)]
    said: list[Said] = []
    for dialect in dialects:
        device: Any = dialect
        if hasattr(device, "reading"):
            said += device.reading(MeterReading(START, 1.0, 2.0, 400.0, 3.0, 0.9))
        else:
            moments = [Change("c", name, START, 1.0) for name in dialect.signals]
            said += device.moments(moments, START // MS + 1)
    read, _ = collected(said, *dialects)
    assert read == rows_of(said)
    # What is said of a second meter and of a second workplace needs no word more.
    assert len(distinct_topics(dialects)) == len(distinct_topics(dialects[:-2]))


def test_the_names_are_names_and_each_signal_has_one_meaning() -> None:
    for make in MAKE.values():
        dialect = make()
        assert [parse_signal(name) for name in dialect.signals] == list(dict.fromkeys(dialect.signals))
        assert dialect.untimed <= set(dialect.signals)
        configured = [each["signal"] for topic in dialect.topics() for each in topic["signals"]]
        assert set(configured) == set(dialect.signals)
