"""What a site's protocols take, log and say, without sockets: the log holds exactly what a correct collector stores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import pytest

from edge_agent.sources.mqtt.payload import signal_of
from shopfloor import signal
from shopfloor.asset import AssetPath
from shopfloor.signal import SeriesKey
from simulators.data_faults import DataFaults, Fault, Window
from simulators.emissions import EmissionLog, read_series
from simulators.physics import signals
from simulators.physics.meter import MeterReading
from simulators.physics.unit import MS, Change, CycleEnd, Moment
from simulators.plant.mqtt_outlet import MqttOutlet
from simulators.plant.sparkplug_outlet import metric_name
from simulators.plant.typed import fitting, raw_of
from simulators.protocols import euromap77
from simulators.protocols.mqtt import MqttPublisher
from simulators.protocols.mqtt_dialects import METER_SIGNALS, Gateway, PlainMeter, Said, Shown, Umh
from simulators.protocols.opcua_variable import Kind, Variable
from tests.unit.plant_parts import ASSET, CELL, T0, FakeLog, opcua_outlet, sparkplug_outlet, waiting

COUNT = Variable(signal.CYCLE_COUNTER, ("own:Count",), "UInt64", "1", "")
FLOW = Variable("cooling.flow", ("own:Flow",), "Double", "l/min", "")
STEPS = Variable("screw.steps", ("own:Steps",), "Double", "mm", "", scale=0.5)
NAME = Variable(signal.JOB_NAME, ("imm:Jobs", "gen:JobName"), "String", "", "")
POWER = Variable(signal.POWER_ON, ("own:On",), "Boolean", "", "")


def change(name: str, after_ms: int, value: float | str) -> Change:
    return Change(CELL, name, (T0 + after_ms) * MS, value)


def reading(after_ms: int, power_kw: float = 10.0) -> MeterReading:
    return MeterReading((T0 + after_ms) * MS, power_kw, 1_000.0, 400.0, 18.0, 0.8)


@pytest.mark.parametrize(
    ("kind", "value", "held"),
    [
        ("Double", -1.5, -1.5),
        ("Int32", 2.6, 3),
        ("Int32", -1e12, -(2**31)),
        ("UInt16", 70_000.0, 65_535),
        ("UInt32", -3.0, 0),
        ("UInt64", 1e300, 2**53),
        ("Boolean", 0.1, True),
        ("Boolean", math.nan, None),
        ("Int32", math.nan, None),
        ("String", "A", "A"),
    ],
)
def test_a_variable_holds_what_its_type_can(kind: Kind, value: float | str, held: object) -> None:
    assert fitting(kind, value) == held
    assert raw_of(COUNT._replace(kind=kind), value) == held


def test_null_of_a_scaled_number_is_null() -> None:
    found = raw_of(STEPS, math.nan)
    assert isinstance(found, float)
    assert math.isnan(found)
    assert raw_of(STEPS, 2.6) == 5.0


async def test_opc_ua_logs_what_its_variables_show() -> None:
    log = FakeLog()
    outlet, server = opcua_outlet(log, [COUNT, FLOW, STEPS, NAME, POWER])
    assert outlet.series_total == 5
    rows = outlet.take(
        CELL,
        [
            change(COUNT.signal, 0, 7.0),
            change(FLOW.signal, 0, 14.25),
            change(FLOW.signal, 0, 14.5),  # at the same time: a millisecond later
            change(FLOW.signal, 5, 14.5),  # nothing new
            change(COUNT.signal, 5, math.nan),  # an integer can't say that it is none
            change(FLOW.signal, 6, math.nan),
            change(STEPS.signal, 6, 2.6),
            change(NAME.signal, 7, "J-1"),
            change(POWER.signal, 7, 1.0),
            change("unknown.signal", 8, 1.0),
            change(COUNT.signal, 9, -4.0),
        ],
        T0 + 10,
    )
    named = log.named(rows)
    assert [row for row in named if row[2] == row[2]] == [
        (COUNT.signal, 0, 7.0),
        (FLOW.signal, 0, 14.25),
        (FLOW.signal, 1, 14.5),
        (STEPS.signal, 6, 2.5),
        (NAME.signal, 7, "J-1"),
        (POWER.signal, 7, 1.0),
        (COUNT.signal, 9, 0.0),
    ]
    assert [row[:2] for row in named if row[2] != row[2]] == [(FLOW.signal, 6)]
    assert server.written == []
    assert await outlet.expose(past=False) == len(rows) == 8
    assert len(server.written) == 8
    times = [written.time_ms for written in server.written]
    assert times == sorted(times)
    assert await outlet.expose(past=False) == 0


async def test_the_opc_ua_past_is_history_and_cycles_are_events() -> None:
    outlet, server = opcua_outlet(FakeLog(), [COUNT])
    outlet.take(CELL, [change(COUNT.signal, 0, 1.0)], T0)
    assert await outlet.expose(past=True) == 1
    assert (len(server.past), server.written) == (1, [])
    values: dict[str, float | str] = {
        signal.JOB_NAME: "J-1",
        signal.CYCLE_TIME: 20.5,
        signals.JOB_CAVITIES: 4.0,
        "cycle.bad_parts": 1.0,
        "cycle.bad_cavity": 3.0,
    }
    assert outlet.take(CELL, [CycleEnd(CELL, (T0 + 5) * MS, values)], T0 + 6) == []
    await outlet.expose(past=False)
    (event,) = server.cycles
    assert (event.job_name, event.cycle_time_s, event.cavity_quality) == ("J-1", 20.5, (1, 1, 2, 1))


async def test_opc_ua_variables_without_a_value_begin_with_what_a_server_shows() -> None:
    log = FakeLog()
    outlet, server = opcua_outlet(log, [COUNT, FLOW, NAME, POWER])
    outlet.take(CELL, [change(FLOW.signal, 0, 14.5)], T0)
    rows = outlet.begin(T0 + 5)
    assert log.named(rows) == [(COUNT.signal, 5, 0.0), (NAME.signal, 5, ""), (POWER.signal, 5, 0.0)]
    assert outlet.begin(T0 + 6) == []
    assert await outlet.expose(past=True) == 4
    assert [written.raw for written in server.past] == [14.5, 0, "", False]
    assert outlet.take(CELL, [change(COUNT.signal, 7, 0.0)], T0 + 7) == [], (
        "nothing that a subscriber hears of"
    )


async def test_what_happens_while_the_opc_ua_server_is_down_is_its_history() -> None:
    outlet, server = opcua_outlet(FakeLog(), [COUNT])
    await outlet.start()
    await outlet.go_down()
    outlet.take(CELL, [change(COUNT.signal, 0, 1.0), CycleEnd(CELL, T0 * MS, {})], T0)
    assert await outlet.expose(past=False) == 1
    assert (len(server.past), server.written, server.cycles) == (1, [], [])
    await outlet.stop()
    assert server.done == ["start", "stop"], "a server that is down already can't be stopped"
    await outlet.come_up()
    outlet.take(CELL, [change(COUNT.signal, 1, 2.0)], T0 + 1)
    await outlet.expose(past=False)
    assert len(server.written) == 1


async def test_a_new_opc_ua_outlet_goes_on_from_the_log(tmp_path: Path) -> None:
    with EmissionLog(tmp_path) as log:
        first, _ = opcua_outlet(FakeLog(), [FLOW, NAME])
        for variable in (FLOW, NAME):
            log.series(SeriesKey(ASSET, variable.signal))
        log.append(
            first.take(CELL, [change(FLOW.signal, 0, 14.0), change(NAME.signal, 0, "J-1")], T0)
            + first.take(CELL, [change(FLOW.signal, 1, math.nan)], T0)
        )
    again = FakeLog()
    outlet, server = opcua_outlet(again, [FLOW, NAME])
    outlet.remember(read_series(tmp_path))
    assert len(server.past) == 3
    rows = outlet.take(CELL, [change(NAME.signal, 1, "J-1"), change(FLOW.signal, 1, 14.0)], T0 + 1)
    assert again.named(rows) == [(FLOW.signal, 2, 14.0)], "rising times; nothing said anew"


def test_metrics_are_named_as_a_host_names_the_signals_again() -> None:
    names = {variable.signal for variable in euromap77.variables(12) if variable.logged}
    names |= {name for _, name, *_ in METER_SIGNALS}
    assert len({metric_name(name) for name in names}) == len(names)
    for name in names:
        assert signal_of(metric_name(name).replace("/", ".")) == name


async def test_an_edge_node_logs_what_a_host_stores(tmp_path: Path) -> None:
    log = FakeLog()
    outlet = sparkplug_outlet(tmp_path, log, [COUNT, FLOW, NAME, POWER])
    rows = outlet.take(
        CELL,
        [
            change(COUNT.signal, 0, 6553.6),  # a unit that has changed, of a whole number
            change(COUNT.signal, 1, 6554.4),  # which is the same whole number
            change(COUNT.signal, 2, -2.0),
            change(POWER.signal, 2, 0.1),
            change(FLOW.signal, 2, math.nan),
            change(NAME.signal, 3, "J-1"),
            CycleEnd(CELL, (T0 + 3) * MS, {}),
        ],
        T0 + 4,
    )
    rows += outlet.take_reading(CELL, reading(5))
    assert [row for row in log.named(rows) if row[2] == row[2]][:4] == [
        (COUNT.signal, 0, 6554.0),
        (COUNT.signal, 2, 0.0),
        (POWER.signal, 2, 1.0),
        (NAME.signal, 3, "J-1"),
    ]
    assert await outlet.expose(past=False) == len(rows) == 5 + len(METER_SIGNALS)
    assert outlet.node.session.refused_total == 0
    assert outlet.unacknowledged == len(rows)
    sent = waiting(outlet)
    assert sent[:5] == [
        ("Cycle/Counter", 0, 6554),
        ("Cycle/Counter", 2, 0),
        (metric_name(POWER.signal), 2, True),
        (metric_name(FLOW.signal), 2, None),
        (metric_name(NAME.signal), 3, "J-1"),
    ]


async def test_the_clock_of_an_edge_node_is_right_whatever_its_meter_s_fault(tmp_path: Path) -> None:
    behind = Window(Fault("data.clock_behind"), CELL, T0, T0 + 10_000)
    log = FakeLog()
    outlet = sparkplug_outlet(tmp_path, log, [], DataFaults([behind]))
    rows = outlet.take_reading(CELL, reading(5))
    assert {row[1] for row in log.named(rows)} == {5}


async def test_what_may_not_have_arrived_is_said_again(tmp_path: Path) -> None:
    with EmissionLog(tmp_path / "log") as log:
        outlet = sparkplug_outlet(tmp_path, log, [COUNT, FLOW, NAME])
        log.append(
            outlet.take(
                CELL,
                [
                    *(change(COUNT.signal, second * 1000, float(second)) for second in range(5)),
                    change(FLOW.signal, 1500, math.nan),
                    change(NAME.signal, 3500, "J-1"),
                ],
                T0,
            )
        )
    past = read_series(tmp_path / "log")
    everything = sparkplug_outlet(tmp_path, FakeLog(), [COUNT, FLOW, NAME])
    everything.remember(past)
    assert await everything.expose(past=True) == 7
    (tmp_path / "sent-acme-dg01").write_text(str(T0 + 2_000))
    rest = sparkplug_outlet(tmp_path, FakeLog(), [COUNT, FLOW, NAME])
    rest.remember(past)
    rest.take(CELL, [change(COUNT.signal, 4_000, 4.0), change(COUNT.signal, 4_000, 5.0)], T0)
    await rest.expose(past=True)
    name = metric_name(NAME.signal)
    assert waiting(rest) == [
        ("Cycle/Counter", 3_000, 3),
        (name, 3_500, "J-1"),
        ("Cycle/Counter", 4_000, 4),
        ("Cycle/Counter", 4_001, 5),
    ]


class Broker:
    """Takes what is published."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.unacknowledged = 0

    def say(self, said: Said) -> None:
        self.said.append(said)


def mqtt_outlet(
    log: FakeLog, *windows: Window, umh: AssetPath | None = None
) -> tuple[MqttOutlet, Broker, list[Moment]]:
    broker = Broker()
    cell = (
        Umh(umh, {"pressure": Shown("pressure", "bar")})
        if umh
        else Gateway(ASSET, "gateway/dg01/imm-01", T0, 2_000, numbered=True)
    )
    outlet = MqttOutlet(
        cast("MqttPublisher", broker), {CELL: cell}, {CELL: PlainMeter(ASSET)}, DataFaults(windows), log.log
    )
    return outlet, broker, []


DUPLICATE = Window(Fault("data.duplicate"), CELL, T0 + 1_000, T0 + 3_000)


async def test_a_message_published_twice_says_nothing_new() -> None:
    log = FakeLog()
    outlet, broker, _ = mqtt_outlet(log, DUPLICATE)
    assert all(key in log.untimed for key in log.keys if key.signal.startswith("gateway"))
    polls = outlet.take(CELL, [], T0 + 4_001)
    assert [row for row in log.named(polls) if row[0] == "gateway.poll"] == [
        ("gateway.poll", 0, 0.0),
        ("gateway.poll", 2_000, 1.0),
        ("gateway.poll", 4_000, 2.0),
    ]
    readings = [row for at_ms in (500, 1_500, 3_500) for row in outlet.take_reading(CELL, reading(at_ms))]
    assert len(readings) == 3 * len(METER_SIGNALS)
    assert broker.said == []
    assert await outlet.expose(past=False) == len(polls) + len(readings)
    counts = {each.message.payload: 0 for each in broker.said}
    for each in broker.said:
        counts[each.message.payload] += 1
    assert sorted(counts.values()) == [1, 1, 1, 1, 2, 2]
    assert [each.time_ns for each in broker.said] == sorted(each.time_ns for each in broker.said)


async def test_what_nobody_heard_is_not_published() -> None:
    outlet, broker, _ = mqtt_outlet(FakeLog())
    outlet.pass_over(CELL, [], T0 + 9_000)
    outlet.take(CELL, [], T0 + 9_000)
    assert await outlet.expose(past=True) == 0
    outlet.take(CELL, [], T0 + 11_000)
    await outlet.expose(past=False)
    assert [each.time_ns // MS - T0 for each in broker.said] == [10_000]


async def test_an_mqtt_outlet_goes_on_from_its_snapshots() -> None:
    outlet, _, _ = mqtt_outlet(FakeLog())
    outlet.take(CELL, [CycleEnd(CELL, (T0 + 1) * MS, {signal.CYCLE_COUNTER: 5.0})], T0 + 3_000)
    log = FakeLog()
    later, _, _ = mqtt_outlet(log)
    later.restore(outlet.snapshots())
    rows = later.take(CELL, [CycleEnd(CELL, (T0 + 3_500) * MS, {signal.CYCLE_COUNTER: 6.0})], T0 + 4_001)
    named = {(name, value) for name, _, value in log.named(rows)}
    assert {("gateway.cycle", 1.0), ("gateway.poll", 2.0), (signal.CYCLE_COUNTER, 6.0)} <= named
