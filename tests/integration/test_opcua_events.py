"""Events, alarms and conditions of real servers, through interruptions."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.events import Event
from asyncua.server.history import HistoryDict
from asyncua.ua.object_ids import ObjectIds

from edge_agent.sources.opcua import OpcUaSource
from edge_agent.sources.opcua.config import OpcUaConfig
from simulators.protocols.euromap77_events import CycleEvent
from simulators.protocols.opcua import PlantServer, Written
from tests.integration.euromap77_servers import number, serving
from tests.integration.opcua_plant import EPOCH, MemorySink, Plant, config, running
from tests.integration.test_euromap77_server import CYCLE
from tests.links import Link

ASSET = "acme/hk01/moulding/cell-a/imm-01"
V = ua.VariantType
MACHINE = {"notifier": "/DeviceSet/IMM_Shopfloor_imm-01", "asset": ASSET}
CYCLES = {
    **MACHINE,
    "type": "nsu=http://opcfoundation.org/UA/PlasticsRubber/GeneralTypes/;CycleParametersEventType",
}


def euromap77(port: int) -> OpcUaConfig:
    return OpcUaConfig.model_validate(
        {
            "name": "imm",
            "endpoint": f"opc.tcp://127.0.0.1:{port}",
            "keepalive_s": 0.5,
            "events": [
                {**CYCLES, "prefix": "all"},
                {
                    **CYCLES,
                    "prefix": "cycle",
                    "fields": {
                        "CycleTime": {"signal": "cycle.time", "unit": "s", "scale": 0.001},
                        "JobCycleCounter": "cycle.counter",
                        "InjectionUnitCycleParameters_1/CushionVolume": "cycle.cushion",
                        "CavityCycleQuality": "cycle.cavity",
                    },
                },
            ],
            "alarms": [MACHINE],
        }
    )


MOMENTS = itertools.count(time.time_ns() // 1_000_000)
"""UTC ms: a machine's times rise."""


def cycle(counter: int) -> CycleEvent:
    return CYCLE._replace(time_ms=next(MOMENTS), job_cycle_counter=counter)


def values(sink: MemorySink, signal: str) -> list[Any]:
    """Return what a signal was, in the order of its times."""
    rows = sorted(
        (row for row in sink.samples if row.series.signal == signal), key=lambda row: row.source_time
    )
    return [row.value if row.text is None else row.text for row in rows]


async def fault(server: PlantServer, what: str) -> None:
    now_ms = next(MOMENTS)
    await server.write(
        [
            Written(number(server, "imm-01", "status.alarm"), now_ms, what),
            Written(number(server, "imm-01", "status.alarm_text"), now_ms, what and "Heater band broken"),
        ]
    )


async def test_cycles_and_alarms_of_a_machine_arrive_once_whatever_breaks() -> None:
    async with serving("cell: imm-01, zones: 3") as server:
        link = Link(int(server.endpoint.rpartition(":")[2].rstrip("/")))
        await link.start()
        sink = MemorySink()
        source = OpcUaSource(euromap77(link.port))
        try:
            assert source.assets == (ASSET,)
            async with running(source, sink, again=True):
                await sink.until(lambda: sink.running)
                await server.fire([cycle(1), cycle(2)])
                await fault(server, "")
                await fault(server, "E07")
                await sink.until(lambda: len(values(sink, "cycle.counter")) == 2)
                await sink.until(lambda: values(sink, "alarm.standstill_message.active") == [1.0])
                before = len(sink.reports)
                link.reset()
                await server.fire([cycle(3)])
                await fault(server, "")
                await sink.until(lambda: len(sink.reports) > before)
                await sink.until(lambda: len(values(sink, "cycle.counter")) == 3)
                await sink.until(lambda: len(values(sink, "alarm.standstill_message.active")) == 2)
        finally:
            await link.stop()
    assert values(sink, "cycle.counter") == values(sink, "all.job_cycle_counter") == [1.0, 2.0, 3.0]
    assert values(sink, "cycle.time") == [19.5] * 3
    assert values(sink, "cycle.cushion") == [4.2] * 3
    assert values(sink, "all.injection_unit_cycle_parameters_1.cushion_volume") == [4.2] * 3
    assert [values(sink, f"cycle.cavity.{place}")[0] for place in range(4)] == [1.0, 2.0, 1.0, 2.0]
    assert values(sink, "all.job_name") == ["J-7"] * 3
    assert "all.event_id" not in {row.series.signal for row in sink.samples}
    assert values(sink, "alarm.standstill_message") == ["Heater band broken", ""]
    assert values(sink, "alarm.standstill_message.active") == [1.0, 0.0]
    assert values(sink, "alarm.standstill_message.severity") == [700.0, 100.0]
    assert sink.gaps == []
    assert sink.moved == 0


@pytest.fixture
async def plant() -> AsyncIterator[Plant]:
    plant = Plant((), history=False)
    await plant.start()
    assert plant.server is not None
    plant.server.iserver.bind_condition_methods = 100
    await plant.server.iserver.setup_condition_methods()
    yield plant
    await plant.stop()


def alarm(name: str, *, active: bool) -> Event:
    event = Event(ObjectIds.Server)
    now: datetime = EPOCH + timedelta(microseconds=time.time_ns() // 1_000)
    for key, value, kind in (
        ("EventId", uuid.uuid4().bytes, V.ByteString),
        ("EventType", ua.NodeId(ua.Int32(ObjectIds.ExclusiveLevelAlarmType), ua.Int16(0)), V.NodeId),
        ("SourceName", "imm-01", V.String),
        ("Time", now, V.DateTime),
        ("Message", ua.LocalizedText(f"{name} is high"), V.LocalizedText),
        ("Severity", 500, V.UInt16),
        ("ConditionName", name, V.String),
        ("NodeId", ua.NodeId(ua.String(name), ua.Int16(1)), V.NodeId),
        ("BranchId", ua.NodeId(), V.NodeId),
        ("Retain", active, V.Boolean),
        ("ActiveState/Id", active, V.Boolean),
        ("AckedState/Id", False, V.Boolean),
    ):
        event.add_property(key, value, kind)
    return event


async def test_what_stands_is_known_after_every_connection(plant: Plant) -> None:
    assert plant.server is not None
    trigger = plant.server.iserver.subscription_service.trigger_event
    settings = config(
        plant,
        nodes=[],
        alarms=[{"asset": ASSET}],
        events=[{"notifier": "/Nowhere", "asset": ASSET, "fields": {"Message": "event.message"}}],
    )
    sink = MemorySink()
    await trigger(alarm("Pressure", active=True))
    async with running(OpcUaSource(settings), sink):
        await sink.until(lambda: values(sink, "alarm.pressure") == ["Pressure is high"])
        await sink.until(lambda: "events of /Nowhere" in sink.reports[-1][1])
        await trigger(alarm("Level", active=True))
        await sink.until(lambda: values(sink, "alarm.level.active") == [1.0])
    assert values(sink, "alarm.level.acknowledged") == [0.0]
    await trigger(alarm("Pressure", active=False))
    async with running(OpcUaSource(settings), sink):
        # Its end was not seen by anybody: it shows in what the server does not name any more.
        await sink.until(lambda: values(sink, "alarm.pressure.active") == [1.0, 0.0])
    assert values(sink, "alarm.pressure") == ["Pressure is high", ""]
    assert values(sink, "alarm.level.active") == [1.0]
    assert ["keeps no history of them" in reason for reason, *_ in sink.gaps] == [True]


async def test_what_was_reported_while_nobody_listened_is_read_from_the_history_of_events(
    plant: Plant,
) -> None:
    server = plant.server
    assert server is not None
    reporter = await server.get_event_generator()
    server.iserver.history_manager.set_storage(HistoryDict())
    await server.historize_node_event(server.nodes.server)
    settings = config(
        plant,
        nodes=[],
        history={"backfill_h": 0, "overlap_s": 1, "settle_s": 0.1},
        events=[{"asset": ASSET, "fields": {"Message": "event.message"}}],
    )
    sink = MemorySink()
    async with running(OpcUaSource(settings), sink):
        await sink.until(lambda: sink.running)
        await reporter.trigger(message="seen")
        await sink.until(lambda: values(sink, "event.message") == ["seen"])
    await reporter.trigger(message="missed")
    async with running(OpcUaSource(settings), sink):
        await sink.until(lambda: values(sink, "event.message") == ["seen", "missed"])
        await sink.until(lambda: not [key for key in sink.saved if "/hole/" in key])
    assert sink.counts["history_events"] > 0
    assert sink.repeats > 0, "the overlap brings again what was seen"
    assert sink.gaps == []
