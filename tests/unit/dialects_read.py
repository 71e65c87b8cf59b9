"""What the edge agent's own mapping makes of what a dialect says; for the tests of the dialects."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.inbox import Message as Received
from edge_agent.sources.mqtt.mapping import Translator
from edge_agent.sources.mqtt.repeats import RecentPayloads
from shopfloor import signal
from shopfloor.asset import parse_asset
from simulators.protocols.mqtt_dialects import (
    Dialect,
    Gateway,
    PackML,
    PlainMeter,
    Said,
    Shelly,
    Shown,
    Stored,
    Tasmota,
    Umh,
    distinct_topics,
)

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
