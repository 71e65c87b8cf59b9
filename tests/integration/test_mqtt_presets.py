"""What simulated devices say, over a real broker, read by a preset and an asset template alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from edge_agent.sources.mqtt import MqttSource
from edge_agent.sources.mqtt.check import check
from shopfloor import signal
from shopfloor.asset import parse_asset
from shopfloor.signal import SeriesKey
from simulators.physics import signals
from simulators.physics.meter import MeterReading
from simulators.physics.unit import Change, CycleEnd, Moment
from simulators.protocols.mqtt_dialects import Dialect, Said, Shelly, Shown, Tasmota, Umh
from tests.integration.mqtt_brokers import (
    Broker,
    MemorySink,
    config,
    mosquitto,
    nats,
    publish,
    running,
    until,
)

MakeBroker: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Broker]]
Rows: TypeAlias = set[tuple[SeriesKey, int | None, float | str]]
S = 1_000_000_000
START = 1_763_778_000 * S
PLUG = Tasmota(parse_asset("acme/hk01/utilities/plugs/plug-imm-01"), "plug-imm-01", "Asia/Hong_Kong", 0)
METER = Shelly(
    parse_asset("acme/dg01/utilities/meters/shellypro3em-08f9e0e5c1a4"), "shellypro3em-08f9e0e5c1a4"
)
WORKPLACE = {
    signal.GOOD_PARTS_COUNTER: Shown("good-parts"),
    "garment.style": Shown("style"),
    "garment.pace": Shown("pace", "1"),
}
GARMENT = Umh(parse_asset("acme/hk01/garment/line-1/place-07"), WORKPLACE)
PRESETS = [
    {"preset": "tasmota", "asset": "acme/hk01/utilities/plugs/{device}", "zone": "Asia/Hong_Kong"},
    {"preset": "shelly_gen2", "asset": "acme/dg01/utilities/meters/{device}"},
    {"preset": "umh"},
]
NAMES: Mapping[Dialect, Mapping[str, str]] = {
    # The simulator takes the factor of one phase for the machine's; the preset says of which phase each is.
    METER: {signals.POWER_FACTOR: "energy.power_factor_l1"},
    # A historian's topic is the signal's name.
    GARMENT: {name: shown.key.replace("-", "_") for name, shown in WORKPLACE.items()},
}


def meaning(dialect: Dialect, said: list[Said]) -> Rows:
    """What a correct collector stores, by the names of the presets."""
    names = NAMES.get(dialect, {})
    return {
        (SeriesKey(dialect.asset, names.get(row.signal, row.signal)), row.time_ns, row.value)
        for each in said
        for row in each.rows
    }


def days_of(number: int) -> MeterReading:
    return MeterReading(
        START + number * 3_600 * S, 7.5 - number / 7, 1_234.5 + number * 3.7, 399.6, 12.345, 0.8
    )


@pytest.mark.parametrize("make_broker", [mosquitto, nats])
async def test_presets_read_what_simulated_devices_say(make_broker: MakeBroker, tmp_path: Path) -> None:
    moments: list[Moment] = [
        Change("c", "garment.style", START, "polo-m"),
        CycleEnd("c", START + 4 * S, {signal.GOOD_PARTS_COUNTER: 18.0, "garment.pace": 0.97}),
    ]
    said: dict[Dialect, list[Said]] = {
        PLUG: [
            PLUG.connection(START, online=True),
            *(each for number in range(30) for each in PLUG.reading(days_of(number))),
        ],
        METER: [each for number in range(30) for each in METER.reading(days_of(number))],
        GARMENT: GARMENT.moments(moments, 0),
    }
    expected = {row for dialect, each in said.items() for row in meaning(dialect, each)}
    async with make_broker(tmp_path) as broker:
        sink = MemorySink()
        async with running(MqttSource(config(broker.port, topics=PRESETS)), sink):
            for each in (each for some in said.values() for each in some):
                await publish(broker.port, each.message.topic, each.message.payload)
            await until(lambda: expected <= stored(sink), "all arrived")
        found = stored(sink)
    # Of the same messages the preset knows more than the simulator's own configuration takes, and nothing else.
    more = {(key.signal, time_ns) for key, time_ns, _ in found - expected}
    assert {name for name, _ in more} <= {
        *(
            f"energy.{what}_l{phase}"
            for what in ("current", "active_power", "power_factor")
            for phase in "123"
        ),
        *("energy.frequency", "energy.current_n", "energy.returned_energy"),
    }
    assert {time_ns for _, time_ns in more} <= {time_ns for _, time_ns, _ in expected}
    assert set(sink.counts) <= {"message", "session_begun", "no_source_time", "qos_lowered"}


def stored(sink: MemorySink) -> Rows:
    return {
        (
            row.series,
            None if row.source_time == row.received_time else row.source_time,
            # A null (the neutral's current, which is not measured) is not to differ from itself.
            row.text if row.text is not None else row.value if row.value == row.value else "null",
        )
        for row in sink.rows
    }


async def test_the_check_shows_what_presets_make_of_a_broker(tmp_path: Path) -> None:
    reading = days_of(0)
    retained: list[Any] = [
        *PLUG.reading(reading),
        PLUG.connection(START, online=True),
        *METER.reading(reading),
    ]
    async with mosquitto(tmp_path) as broker:
        for each in retained:
            await publish(broker.port, each.message.topic, each.message.payload, retain=True)
        await publish(
            broker.port, "umh/v1/acme/hk01/_historian/power", '{"timestamp_ms": 1, "value": [1]}', retain=True
        )
        text = ""
        for listen_s in (0.5, 2.0, 8.0, 30.0):
            findings = await check(config(broker.port, topics=PRESETS), listen_s=listen_s)
            text = "\n".join(map(str, findings))
            if "not_convertible" in text and "meter.connection" in text:
                break
    assert "tele/{device}/SENSOR: 1 topics; tele/plug-imm-01/SENSOR gives" in text
    assert "acme/hk01/utilities/plugs/plug-imm-01:energy.active_power = 7.5" in text
    assert "meter.connection = 'Online'" in text
    assert "tele/{device}/STATE: no message" in text
    assert (
        "not_convertible: 1 times; first on umh/v1/acme/hk01/_historian/power: power is not a value but a list"
        in text
    )
