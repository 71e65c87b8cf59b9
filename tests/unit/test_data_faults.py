"""Data faults: what each makes a unit say, that nothing else changes, and that chance does not depend on the cut."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopfloor.asset import parse_asset
from shopfloor.signal import ACTIVE_POWER, SeriesKey
from simulators.data_faults import (
    BEHIND_MS,
    KINDS,
    MAX_SCHEDULED_MS,
    DataFaults,
    Fault,
    Window,
    schedule,
)
from simulators.demo.verify import compare
from simulators.emissions import CLOCK_SLACK_NS, EmissionLog, Row, read_emissions
from simulators.physics.meter import MeterReading
from simulators.physics.unit import MS, Change, CycleEnd
from simulators.protocols.euromap77 import variables
from simulators.protocols.mqtt_dialects import METER_SIGNALS
from simulators.protocols.mqtt_dialects.cells import (
    COMPRESSOR,
    STATION,
    STATION_TEST,
    STATION_UNIT,
    WORKPLACE,
)
from simulators.truth import TruthWriter, read_truth

CELL = "imm-01"
ASSET = parse_asset("acme/hk01/moulding/cell-a/imm-01")
DAY_MS = 86_400_000
T0 = 1_795_600_800_000


def window(kind: Any, begin_ms: int = 1_000, end_ms: int = 2_000, **parameters: Any) -> Window:
    return Window(Fault(kind, **parameters), CELL, T0 + begin_ms, T0 + end_ms)


def said(faults: DataFaults, *rows: tuple[int, float | str], signal: str = "cycle.counter") -> list[Any]:
    """(ms, value) of what becomes of changes at (ms, value), both after T0."""
    changed = [faults.change(Change(CELL, signal, (T0 + time_ms) * MS, value)) for time_ms, value in rows]
    assert all(change.cell == CELL and change.signal == signal for change in changed)
    return [(change.time_ns // MS - T0, change.value) for change in changed]


ROWS = ((0, 65_534.0), (999, 65_535.0), (1_000, 65_536.0), (1_999, 65_537.0), (2_000, 65_538.0))


def test_without_faults_everything_passes() -> None:
    assert said(DataFaults(), *ROWS) == list(ROWS)
    other = Window(Fault("data.nan"), "imm-02", T0, T0 + 10_000)
    assert said(DataFaults([other]), *ROWS) == list(ROWS)


@pytest.mark.parametrize(
    ("kind", "signal", "during"),
    [
        ("data.counter_wrap", "cycle.counter", [0.0, 1.0]),
        ("data.counter_reset", "cycle.counter", [1.0, 2.0]),
        ("data.stuck", "cycle.cushion", [65_535.0, 65_535.0]),
        ("data.unit_change", "cycle.peak_pressure", [6_553.6, 6_553.7]),
        ("data.duplicate", "cycle.counter", [65_536.0, 65_537.0]),
    ],
)
def test_a_fault_is_on_from_its_begin_to_before_its_end(kind: str, signal: str, during: list[float]) -> None:
    expected = [ROWS[0], ROWS[1], (1_000, during[0]), (1_999, during[1]), ROWS[4]]
    assert said(DataFaults([window(kind)]), *ROWS, signal=signal) == expected


METER = tuple(name for _, name, *_ in METER_SIGNALS)
NAMES = (
    *(each.signal for each in variables(3)),
    *METER,
    *COMPRESSOR,
    *STATION,
    *STATION_UNIT,
    *STATION_TEST,
    *WORKPLACE,
)


@pytest.mark.parametrize(
    ("kind", "signal", "hit"),
    [
        ("data.counter_wrap", "", {name for name in NAMES if name.endswith("counter")}),
        (
            "data.counter_reset",
            "job",
            {name for name in NAMES if name.startswith("job") and "counter" in name},
        ),
        ("data.unit_change", "", {name for name in NAMES if name.endswith("pressure")}),
        ("data.unit_change", "cycle.counter", set()),
        ("data.unit_change", "injection", {"injection.pressure"}),
        ("data.counter_wrap", "cycle.peak_pressure", set()),
        ("data.stuck", "barrel.zone_2", {"barrel.zone_2.temperature", "barrel.zone_2.heater_output"}),
        ("data.nan", "cooling", {"cooling.flow", "cooling.return_temperature"}),
        ("data.stuck", "status.mode", {"status.mode"}),
        ("data.nan", "job", set()),
        ("data.duplicate", "", set()),
    ],
)
def test_of_several_signals_those_are_affected_that_a_fault_makes_sense_for(
    kind: Any, signal: str, hit: set[str]
) -> None:
    fault = Fault(kind, signal)
    assert {name for name in NAMES if fault.covers(name)} == hit


def test_what_gets_stuck_or_lost_is_measured_and_nothing_else() -> None:
    hit = {name for name in NAMES if Fault("data.stuck").covers(name)}
    assert hit == {name for name in NAMES if Fault("data.nan").covers(name)}
    numbers = {each.signal for each in variables(3) if each.kind == "Double"}
    set_points = {name for name in numbers if name.endswith("setpoint")} | {"job.expected_cycle_time"}
    assert hit & {each.signal for each in variables(3)} == numbers - set_points
    assert {*METER, "compressor.pressure", "compressor.running_hours", "station.cycle_time"} <= hit
    assert (
        not {"compressor.state", "unit.serial", "packml.state", "workplace.status", "test.lower_limit"} & hit
    )


def test_numbers_become_nan_and_texts_stay() -> None:
    faults = DataFaults([window("data.nan", signal="cycle.counter")])
    (_, first), (_, second) = said(faults, (1_000, 1.0), (1_500, "AUTO"))
    assert isinstance(first, float)
    assert math.isnan(first)
    assert second == "AUTO"


def test_a_counter_of_32_bits_wraps_later() -> None:
    wrap = window("data.counter_wrap", modulus=2**32)
    assert said(DataFaults([wrap]), (1_500, 65_537.0), (1_600, 2.0**32 + 5)) == [
        (1_500, 65_537.0),
        (1_600, 5.0),
    ]


def test_a_reset_counter_that_wraps_does_both() -> None:
    both = [window("data.counter_reset"), window("data.counter_wrap", modulus=10)]
    assert said(DataFaults(both), (0, 100.0), (1_000, 105.0), (1_500, 112.0)) == [
        (0, 100.0),
        (1_000, 5.0),
        (1_500, 2.0),
    ]


def test_what_was_stuck_from_its_first_value_on_stays_there() -> None:
    stuck = window("data.stuck", signal="cycle.counter")
    assert said(DataFaults([stuck]), (1_200, "A"), (1_300, "B"), (2_100, "C")) == [
        (1_200, "A"),
        (1_300, "A"),
        (2_100, "C"),
    ]


def test_a_fault_covers_a_signal_or_those_below_it() -> None:
    faults = DataFaults([window("data.nan", signal="cycle")])
    for signal, hit in (("cycle.time", True), ("cycle", True), ("cycles.time", False), ("job.name", False)):
        (_, value), *_ = said(faults, (1_500, 3.0), signal=signal)
        assert math.isnan(value) == hit


def test_cycles_and_readings_are_affected_as_changes_are() -> None:
    faults = DataFaults(
        [
            window("data.nan", signal="energy.active_power"),
            window("data.unit_change", signal="cycle.pressure"),
        ]
    )
    end = faults.cycle(
        CycleEnd(CELL, (T0 + 1_500) * MS, {"cycle.pressure": 900.0, "cycle.time": 20.0, "serial": "X"})
    )
    assert end.time_ns == (T0 + 1_500) * MS
    assert end.values == {"cycle.pressure": 90.0, "cycle.time": 20.0, "serial": "X"}
    reading = faults.reading(CELL, MeterReading((T0 + 1_500) * MS, 1.0, 2.0, 400.0, 3.0, 0.9))
    assert math.isnan(reading.power_kw)
    assert reading[2:] == (2.0, 400.0, 3.0, 0.9)
    change = Change(CELL, "cycle.pressure", (T0 + 1_600) * MS, 5.0)
    (again, changed) = faults.moments([end, change])
    assert isinstance(again, CycleEnd)
    assert again.values == {**end.values, "cycle.pressure": 9.0}
    assert changed == change._replace(value=0.5)


def test_messages_are_doubled_while_acknowledgements_get_lost() -> None:
    faults = DataFaults([window("data.duplicate")])
    assert [faults.copies(CELL, (T0 + time_ms) * MS) for time_ms in (999, 1_000, 1_999, 2_000)] == [
        1,
        2,
        2,
        1,
    ]
    assert faults.copies("imm-02", (T0 + 1_500) * MS) == 1


def test_a_clock_that_is_put_back_says_earlier_times() -> None:
    faults = DataFaults([window("data.clock_behind", 600_000, 1_200_000)])
    assert said(faults, (599_999, 1.0), (600_000, 2.0), (1_199_999, 3.0), (1_200_000, 4.0)) == [
        (599_999, 1.0),
        (600_000 - BEHIND_MS, 2.0),
        (1_199_999 - BEHIND_MS, 3.0),
        (1_200_000, 4.0),
    ]
    end = faults.cycle(CycleEnd(CELL, (T0 + 700_000) * MS, {}))
    assert end.time_ns == (T0 + 700_000 - BEHIND_MS) * MS
    reading = MeterReading((T0 + 700_000) * MS + 17, 1.0, 2.0, 400.0, 3.0, 0.9)
    assert faults.reading(CELL, reading) == reading._replace(time_ns=reading.time_ns - BEHIND_MS * MS)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=60),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 200),
)
@settings(max_examples=200)
def test_no_time_is_said_twice_however_far_a_clock_is_put_back(
    steps: list[int], begin_ms: int, length_ms: int, behind_ms: int
) -> None:
    put_back = window("data.clock_behind", begin_ms, begin_ms + length_ms, behind_ms=behind_ms)
    again = window("data.clock_behind", begin_ms + length_ms, begin_ms + 3 * length_ms, behind_ms=behind_ms)
    for windows in ([put_back], [put_back, again]):
        faults = DataFaults(windows)
        times = [time_ms for time_ms, _ in said(faults, *((at, 1.0) for at in itertools.accumulate(steps)))]
        assert len(set(times)) == len(times)


def test_clocks_put_back_are_in_the_log_as_they_were_said_and_can_be_proven(tmp_path: Path) -> None:
    # A second's period and a fault of whole seconds: every time of before is met again.
    faults = DataFaults([window("data.clock_behind", 600_000, 1_200_000, behind_ms=420_000)])
    with EmissionLog(tmp_path) as log:
        number = log.series(SeriesKey(ASSET, ACTIVE_POWER))
        for second in range(1_800):
            change = faults.change(Change(CELL, ACTIVE_POWER, (T0 + second * 1_000) * MS, second % 3 / 1))
            log.append([Row(number, change.time_ns, change.value)])
    emitted = read_emissions(tmp_path)
    assert len(set(emitted.source_time.tolist())) == 1_800
    assert compare(emitted, emitted).clean
    assert BEHIND_MS * MS < CLOCK_SLACK_NS


def test_a_restart_in_the_middle_of_faults_changes_nothing() -> None:
    windows = [
        window("data.clock_behind", 500, 900, behind_ms=100),
        window("data.stuck", 300, 700, signal="cycle.counter"),
        window("data.counter_reset", 600, 950, signal="cycle.counter"),
    ]
    rows = tuple((time_ms, float(time_ms)) for time_ms in range(0, 1_200, 25))
    whole = said(DataFaults(windows), *rows)
    for cut in range(len(rows)):
        first, second = DataFaults(windows), DataFaults(windows)
        again = said(first, *rows[:cut])
        second.restore(first.snapshot())
        assert again + said(second, *rows[cut:]) == whole


def test_a_snapshot_of_a_cell_without_windows_is_forgotten() -> None:
    first = DataFaults([window("data.stuck")])
    said(first, (0, 1.0))
    second = DataFaults([Window(Fault("data.stuck"), "imm-02", T0, T0 + 1)])
    second.restore(first.snapshot())
    assert said(second, (0, 2.0)) == [(0, 2.0)]


def test_each_fault_is_a_row_of_the_truth_once_it_has_ended(tmp_path: Path) -> None:
    faults = DataFaults(
        [
            window("data.nan", severity=0.25),
            window("data.stuck", 500, 3_000, signal="cycle.cushion"),
            window("data.duplicate", 0, 900),
        ]
    )
    truth = TruthWriter(tmp_path)
    for begin_ms in range(0, 4_000, 500):
        for facts in faults.facts(CELL, T0 + begin_ms, T0 + begin_ms + 500):
            truth.add(ASSET, facts)
    assert faults.facts("imm-02", T0, T0 + 4_000) == []
    truth.close()
    rows = read_truth(tmp_path, "faults").to_pylist()
    assert [(row["kind"], row["severity"], row["asset"], row["place"]) for row in rows] == [
        ("data.duplicate", 1.0, ASSET, None),
        ("data.nan", 0.25, ASSET, None),
        ("data.stuck", 1.0, ASSET, "cycle.cushion"),
    ]


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"kind": "data.rust"}, "no data fault 'data.rust'"),
        ({"kind": "data.nan", "severity": 1.5}, "severity of 1.5"),
        ({"kind": "data.clock_behind", "behind_ms": 0}, "0 ms behind"),
        ({"kind": "data.clock_behind", "behind_ms": 3_600_001}, "3600001 ms behind"),
        ({"kind": "data.clock_behind", "signal": "cycle"}, "whole cell"),
        ({"kind": "data.unit_change", "divisor": 0.0}, "divisor 0.0"),
        ({"kind": "data.counter_wrap", "modulus": 1}, "modulus 1"),
    ],
)
def test_faults_without_sense_are_refused(parameters: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Fault(**parameters)


def test_windows_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.nan of imm-01 ends before it begins"):
        DataFaults([window("data.nan", 5, 5)])
    with pytest.raises(ValueError, match="put back twice"):
        DataFaults([window("data.clock_behind", 0, 10), window("data.clock_behind", 9, 20)])


FAULTS = [Fault(kind) for kind in KINDS]


def test_chance_gives_as_many_faults_as_asked_for_of_every_kind() -> None:
    days = 200
    found = schedule(7, CELL, T0, T0 + days * DAY_MS, 10.0, FAULTS)
    assert found == schedule(7, CELL, T0, T0 + days * DAY_MS, 10.0, FAULTS)
    assert found != schedule(8, CELL, T0, T0 + days * DAY_MS, 10.0, FAULTS)
    # 2,000 of a binomial distribution: its standard deviation is below 45.
    assert abs(len(found) - 10 * days) < 5 * 45
    kinds = Counter(each.fault.kind for each in found)
    assert kinds.keys() == set(KINDS)
    assert min(kinds.values()) > 0.7 * len(found) / len(KINDS)
    assert all(
        1_000 <= each.end_ms - each.begin_ms <= MAX_SCHEDULED_MS for each in found if each.end_ms % 7_200_000
    )
    DataFaults(found)
    for kind in KINDS:
        own = [each for each in found if each.fault.kind == kind]
        assert all(one.end_ms <= other.begin_ms for one, other in itertools.pairwise(own))


@given(st.lists(st.integers(0, 3 * DAY_MS), max_size=8))
@settings(max_examples=30)
def test_chance_does_not_depend_on_how_time_is_cut(cuts: list[int]) -> None:
    whole = schedule(3, CELL, T0, T0 + 3 * DAY_MS, 40.0, FAULTS)
    edges = [T0, *(T0 + cut for cut in sorted(cuts)), T0 + 3 * DAY_MS]
    parts = [
        each
        for begin_ms, end_ms in itertools.pairwise(edges)
        for each in schedule(3, CELL, begin_ms, end_ms, 40.0, FAULTS)
    ]
    assert parts == whole


def test_no_faults_no_schedule_and_too_many_are_refused() -> None:
    assert schedule(1, CELL, T0, T0 + DAY_MS, 10.0, []) == []
    assert schedule(1, CELL, T0, T0 + DAY_MS, 0.0, FAULTS) == []
    with pytest.raises(ValueError, match="84 with so many kinds"):
        schedule(1, CELL, T0, T0 + DAY_MS, 1_000.0, FAULTS)
