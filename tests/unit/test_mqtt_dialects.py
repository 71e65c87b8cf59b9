"""What a dialect says is what the edge agent reads by the configuration that comes with it, to the last bit."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.inbox import Message as Received
from edge_agent.sources.mqtt.mapping import Translator
from edge_agent.sources.mqtt.repeats import RecentPayloads
from shopfloor import signal
from shopfloor.asset import parse_asset
from shopfloor.signal import parse_signal
from simulators.physics.meter import MeterReading
from simulators.physics.unit import Change, CycleEnd, Moment
from simulators.protocols.mqtt_dialects import (
    CellDialect,
    Dialect,
    Gateway,
    MeterDialect,
    PackML,
    PlainMeter,
    Said,
    Shelly,
    Shown,
    Stored,
    Tasmota,
    Umh,
    distinct_topics,
    log_rows,
    repeated,
)
from simulators.protocols.mqtt_dialects.gateway import (
    CYCLE,
    CYCLE_NUMBER,
    POLL_NUMBER,
    STATE,
    Field,
    spelled,
    state_word,
)

CASES = sorted((Path(__file__).parents[1] / "cases" / "mqtt_dialects").glob("*.json"))
ASSET = parse_asset("acme/hk01/assembly/u-line/test-1")
S = 1_000_000_000
MS = 1_000_000
START = 1_795_600_800 * S
"""2026-11-25 18:00:00 in Hong Kong."""
RECEIVED = 4_200_000_000 * S + 1
"""Later than all machines say, and no whole millisecond."""
STATUS = {
    "packml.state": Shown("StateCurrent"),
    "packml.mode": Shown("UnitModeCurrent"),
    "packml.stop_reason": Shown("StopReason"),
}
UNIT = {"unit.serial": Shown("Serial"), "unit.result": Shown("Result"), "unit.value": Shown("Value", "N")}
WORKPLACE = {
    signal.GOOD_PARTS_COUNTER: Shown("good_parts"),
    "garment.style": Shown("style"),
    "garment.pace": Shown("pace", "1"),
}
MAKE: dict[str, Callable[[], Dialect]] = {
    "plain_meter": lambda: PlainMeter(ASSET),
    "tasmota": lambda: Tasmota(ASSET, "plug-test-1", "Asia/Hong_Kong", START - 90 * 86_400 * S),
    "shelly": lambda: Shelly(ASSET, "shellypro3em-08f9e0e5c1a4"),
    "gateway": lambda: Gateway(ASSET, "hydraulic/dg01/imm-05", START // MS),
    "packml": lambda: PackML(ASSET, "Asia/Hong_Kong", STATUS, UNIT),
    "umh": lambda: Umh(ASSET, WORKPLACE),
}
METERS = ("plain_meter", "tasmota", "shelly")
CELLS = ("gateway", "packml", "umh")
Bits: TypeAlias = tuple[str, int | None, bytes | str]


def as_bits(row: Stored) -> Bits:
    """A row that equals another one only where both are the same to the last bit; all NaN are one null."""
    if isinstance(row.value, str):
        return row.signal, row.time_ns, row.value
    return row.signal, row.time_ns, b"null" if math.isnan(row.value) else struct.pack("<d", row.value)


def config(*dialects: Dialect) -> MqttConfig:
    """An agent's configuration for these devices, after the detour that YAML is."""
    topics = json.loads(json.dumps(distinct_topics(dialects)))
    return MqttConfig.model_validate(
        {"name": "m", "broker": "mqtt://127.0.0.1", "client_id": "c", "topics": topics}
    )


def collected(said: Sequence[Said], *dialects: Dialect) -> tuple[list[Bits], Counter[str]]:
    """What the agent's own code makes of the messages, and what it counted."""
    received = [
        Received(each.message.topic, each.message.payload, RECEIVED + number * 1_000)
        for number, each in enumerate(said)
    ]
    block, counts = Translator(config(*dialects)).translate(received, RecentPayloads({}))
    rows = [
        Stored(
            row.series.signal,
            None if row.source_time == row.received_time else row.source_time,
            row.value if row.text is None else row.text,
        )
        for row in block.rows()
    ]
    assert {row.series.asset for row in block.rows()} <= {dialect.asset for dialect in dialects}
    return [as_bits(row) for row in rows], counts


def rows_of(said: Sequence[Said]) -> list[Bits]:
    return [as_bits(row) for each in said for row in each.rows]


def assert_read_exactly(name: str, dialect: Dialect, said: Sequence[Said]) -> None:
    read, counts = collected(said, dialect)
    assert read == rows_of(said)
    ordinary = {"no_source_time", "not_a_number", "integer_rounded"}
    # A Shelly's messages hold either powers or registers; old machines don't print what they did not measure.
    ordinary |= {"missing_value"} if name in {"shelly", "gateway", "packml"} else set()
    assert counts.keys() <= ordinary
    for each in said:
        for row in each.rows:
            assert row.signal in dialect.signals
            assert (row.time_ns is None) == (row.signal in dialect.untimed)


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


def test_plugs_say_online_and_leave_a_will() -> None:
    plug = Tasmota(ASSET, "plug-test-1", "Asia/Hong_Kong", START)
    online = plug.connection(START, online=True)
    assert online.message == ("tele/plug-test-1/LWT", b"Online", 1, True)
    assert plug.will == ("tele/plug-test-1/LWT", b"Offline", 1, True)
    assert_read_exactly("tasmota", plug, [online, plug.connection(START + S, online=False)])


def test_a_plug_counts_its_days_by_local_midnight() -> None:
    plug = Tasmota(ASSET, "plug-test-1", "Asia/Hong_Kong", START)
    midnight = START + 6 * 3600 * S
    seen = []
    for after_h, kwh in ((-1.0, 10.0), (-0.01, 14.0), (0.0, 14.5), (23.9, 20.0), (24.1, 21.0), (100.0, 30.0)):
        reading = MeterReading(midnight + round(after_h * 3600) * S, 1.0, kwh, 400.0, 1.0, 0.9)
        energy = json.loads(plug.reading(reading)[0].message.payload)["ENERGY"]
        seen.append((energy["Yesterday"], energy["Today"]))
    # The plug was off over two midnights: of the day before it knows nothing.
    assert seen == [(0.0, 0.0), (0.0, 4.0), (4.0, 0.5), (4.0, 6.0), (6.0, 1.0), (0.0, 9.0)]


def test_an_hour_that_comes_twice_is_read_as_the_first_one() -> None:
    # 2026-10-25, 01:00 UTC: Berlin's clocks go from 03:00 back to 02:00.
    end_of_summer = 1_792_890_000 * S
    plug = Tasmota(ASSET, "plug-test-1", "Europe/Berlin", end_of_summer)
    said = [
        each
        for minutes in (-30, 30, 90)
        for each in plug.reading(MeterReading(end_of_summer + minutes * 60 * S, 1.0, 1.0, 1.0, 1.0, 1.0))
    ]
    texts = [json.loads(each.message.payload)["Time"] for each in said]
    assert texts == ["2026-10-25T02:30:00", "2026-10-25T02:30:00", "2026-10-25T03:30:00"]
    minutes_after = [
        ((each.rows[0].time_ns or 0) - end_of_summer) // (60 * S) for each in said if each.rows[0].time_ns
    ]
    assert minutes_after == [-30, -30, 90]
    assert_read_exactly("tasmota", plug, said)


@pytest.mark.parametrize(
    ("value", "decimals", "bits", "text"),
    [
        (221.449, 1, 0, "221,4"),
        (-0.5, 0, 0, "-0"),
        (-0.04, 1, 0, "-0,0"),
        (65_535.0, 0, 16, "65535"),
        (65_536.0, 0, 16, "0"),
        (200_000.0, 0, 16, "3392"),
        (math.nan, 1, 0, "NaN"),
        (math.inf, 0, 16, "NaN"),
    ],
)
def test_how_old_machines_spell_numbers(value: float, decimals: int, bits: int, text: str) -> None:
    assert spelled(value, decimals, bits) == text
    dialect = Gateway(ASSET, "g", START // MS, cycle=[Field("x", "cycle.x", decimals, "", bits)])
    said = dialect.moments([CycleEnd("c", START, {"cycle.x": value})], START // MS)
    assert json.loads(said[0].message.payload)["x"] == text
    assert_read_exactly("gateway", dialect, said)


@pytest.mark.parametrize(
    ("power", "mode", "reason", "word"),
    [
        (0.0, 1.0, "", "AUS"),
        (1.0, 1.0, "", "AUTO"),
        (1.0, 2.0, "", "AUTO"),
        (1.0, 1.0, "mould", "STOP"),
        (1.0, 3.0, "mould", "MAN"),
        (1.0, 4.0, "", "MAN"),
        (1.0, 0.0, "", "STOP"),
    ],
)
def test_the_word_for_a_machine_s_state(power: float, mode: float, reason: str, word: str) -> None:
    known: dict[str, float | str] = {
        signal.POWER_ON: power,
        signal.MACHINE_MODE: mode,
        signal.STANDSTILL_REASON: reason,
    }
    assert state_word(known) == word
    assert state_word({}) == "AUS"


def test_the_gateway_never_says_the_same_twice() -> None:
    dialect = Gateway(ASSET, "g", START // MS)
    said = dialect.moments([], START // MS + 600_000)
    assert [each.time_ns - START for each in said] == [10 * S * number for number in range(60)]
    assert len({each.message.payload for each in said}) == 60
    assert all(row.time_ns is None for each in said for row in each.rows)
    assert {row.signal for row in said[0].rows} == {POLL_NUMBER, STATE}


def test_a_machine_tells_of_a_cycle_only_what_it_measured() -> None:
    dialect = Gateway(ASSET, "g", START // MS)
    (said,) = dialect.moments([CycleEnd("c", START, {signal.CYCLE_COUNTER: 7.0})], START // MS)
    assert json.loads(said.message.payload) == {"n": "0", "zyk": "7"}
    assert [row.signal for row in said.rows] == [CYCLE_NUMBER, CYCLE[0].signal]


def test_stations_refuse_names_that_clash() -> None:
    with pytest.raises(ValueError, match=r"packml\.state is of the status and of the unit"):
        PackML(ASSET, "UTC", STATUS, {"packml.state": Shown("X")})
    with pytest.raises(ValueError, match="JSON key stands there twice"):
        PackML(ASSET, "UTC", {"a": Shown("Time")}, {})
    with pytest.raises(ValueError, match="a signal stands in two messages"):
        Gateway(ASSET, "g", 0, polled=CYCLE)
    with pytest.raises(ValueError, match="two signals of one name"):
        Umh(ASSET, {"a": Shown("x"), "b": Shown("x")})


def test_a_message_that_is_sent_twice_is_two_readings_only_without_a_time() -> None:
    timed: MeterDialect = PlainMeter(ASSET)
    once = timed.reading(MeterReading(START, 1.0, 2.0, 400.0, 3.0, 0.9))
    twice = repeated(once, 2)
    assert [each.message for each in twice] == [once[0].message] * 2
    assert rows_of(twice) == rows_of(once)
    read, _ = collected(twice, timed)
    assert set(read) == set(rows_of(twice))  # of two equal rows the agent's buffer keeps one

    untimed: CellDialect = Gateway(ASSET, "g", START // MS)
    twice = repeated(untimed.moments([], START // MS + 1), 2)
    assert_read_exactly("gateway", untimed, twice)
    assert len(rows_of(twice)) == 4


def test_the_log_has_the_publisher_s_clock_where_there_is_no_other() -> None:
    untimed = Gateway(ASSET, "g", START // MS)
    numbers = {name: number for number, name in enumerate(untimed.signals)}
    rows = log_rows(untimed.moments([], START // MS + 1), numbers)
    assert [tuple(row) for row in rows] == [(0, START, 0.0), (2, START, "AUS")]
