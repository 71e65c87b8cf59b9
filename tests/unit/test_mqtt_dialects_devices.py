"""How each device speaks: its days, its words, its numbers, its will, and what it says twice."""

from __future__ import annotations

import json
import math

import pytest

from shopfloor import signal
from simulators.physics.meter import MeterReading
from simulators.physics.unit import CycleEnd
from simulators.protocols.mqtt_dialects import (
    CellDialect,
    Gateway,
    MeterDialect,
    PackML,
    PlainMeter,
    Shown,
    Tasmota,
    Umh,
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
from tests.unit.dialects_read import (
    ASSET,
    MS,
    START,
    STATUS,
    S,
    assert_read_exactly,
    collected,
    rows_of,
)


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


def test_a_collector_that_is_told_of_the_numbers_knows_a_message_sent_twice() -> None:
    numbered = Gateway(ASSET, "g", START // MS, numbered=True)
    assert [topic["numbered"] for topic in numbered.topics()] == [True, True]
    twice = repeated(numbered.moments([], START // MS + 1), 2, numbered=numbered.numbered)
    assert [len(each.rows) for each in twice] == [2, 0]
    assert twice[0].message == twice[1].message


def test_the_log_has_the_publisher_s_clock_where_there_is_no_other() -> None:
    untimed = Gateway(ASSET, "g", START // MS)
    numbers = {name: number for number, name in enumerate(untimed.signals)}
    rows = log_rows(untimed.moments([], START // MS + 1), numbers)
    assert [tuple(row) for row in rows] == [(0, START, 0.0), (2, START, "AUS")]
