"""What a client finds on a EUROMAP 77 server without physics behind it: names, values, methods, events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.node import Node
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors._base import UaStatusCodeError

from shopfloor import signal
from shopfloor.errors import StoreUnavailable
from simulators.protocols import tcd
from simulators.protocols.euromap77_events import (
    CYCLE_TYPE,
    MODE_TYPE,
    PRODUCTION_TYPE,
    STANDSTILL_TYPE,
    CycleEvent,
    InjectionUnitCycle,
)
from simulators.protocols.opcua import PlantServer, Written, node_mappings
from simulators.protocols.opcua_types import NAMESPACES
from tests.integration.euromap77_servers import TCU, URI, at, connected, number, serving
from tests.integration.mqtt_brokers import until

MACHINE = ("di:DeviceSet", "own:IMM_Shopfloor_imm-01")
START_MS = 1_750_000_000_000
CYCLE = CycleEvent(
    cell="imm-01",
    time_ms=START_MS + 20_000,
    job_name="J-7",
    job_status=6,
    lot="L-1",
    cycle_time_s=19.5,
    quality=1,
    job_cycle_counter=12,
    job_parts_counter=48,
    job_good_parts_counter=46,
    job_bad_parts_counter=2,
    job_test_samples_counter=0,
    injection=InjectionUnitCycle(1.25, 6.5, 4.2, 38.5, 912.0, cushion_stroke_mm=3.5, back_pressure_bar=80.0),
    machine_cycle_counter=100_012,
    cavity_quality=(1, 2, 1, 2),
)


class Listener:
    """Keeps the events that a subscription brings."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def event_notification(self, event: Any) -> None:
        self.events.append(event)


@asynccontextmanager
async def listening(client: Client, source: Any, kinds: list[Node]) -> AsyncIterator[list[Any]]:
    listener = Listener()
    subscription = await client.create_subscription(20, listener)
    await subscription.subscribe_events(source, kinds)
    yield listener.events
    await subscription.delete()


async def own_type(client: Client, name: str) -> Node:
    return client.get_node(f"ns={await client.get_namespace_index(URI)};s={name}")


async def test_machines_say_who_they_are() -> None:
    async with (
        serving(standstill_reasons={"E07": "Heater band", "W01": "Waiting"}) as server,
        connected(server) as client,
    ):
        device_set = await at(client, "di:DeviceSet")
        names = [(await child.read_browse_name()).Name for child in await device_set.get_children()]
        assert names == ["IMM_Shopfloor_imm-01", "IMM_Shopfloor_imm-02"]
        machine = await at(client, *MACHINE)
        definition = await machine.read_type_definition()
        index: Any = await client.get_namespace_index(NAMESPACES["imm"])
        machine_type: Any = 1007
        assert definition == ua.NodeId(machine_type, index)
        said = {}
        for path in (
            ("imm:MachineInformation", "di:DeviceClass"),
            ("imm:MachineInformation", "di:SerialNumber"),
            ("imm:MachineConfiguration", "gen:UserMachineName"),
            ("imm:MachineConfiguration", "gen:LocationName"),
            ("imm:InjectionUnits", "imm:InjectionUnit_1", "imm:Index"),
        ):
            said[path[-1]] = await (await at(client, *MACHINE, *path)).read_value()
        assert said == {
            "di:DeviceClass": "Injection Moulding Machine",
            "di:SerialNumber": "imm-01",
            "gen:UserMachineName": "imm-01",
            "gen:LocationName": "Hong Kong",
            "imm:Index": 1,
        }
        zone = await (
            await at(client, *MACHINE, "imm:MachineConfiguration", "gen:TimeZoneOffset")
        ).read_value()
        assert zone.Offset == 480
        for cell, kind in (("imm-01", "HydraulicUnitType"), ("imm-02", "ElectricDriveType")):
            unit = await at(
                client, "di:DeviceSet", f"own:IMM_Shopfloor_{cell}", "imm:PowerUnits", "gen:PowerUnit_1"
            )
            type_id: Any = await unit.read_type_definition()
            type_node = client.get_node(type_id)
            assert (await type_node.read_browse_name()).Name == kind


async def test_a_client_can_decode_the_standards_own_structures() -> None:
    async with (
        serving(standstill_reasons={"E07": "Heater band", "W01": "Waiting"}) as server,
        connected(server) as client,
    ):
        node = await at(client, *MACHINE, "imm:MachineMESConfiguration", "gen:StandstillReasons")
        data_type = client.get_node(await node.read_data_type())
        definition: Any = await data_type.read_data_type_definition()
        assert [field.Name for field in definition.Fields] == ["Id", "Text", "LockedByMES"]
        await client.load_data_type_definitions()
        reasons = await node.read_value()
        assert [(reason.Id, reason.Text.Text, reason.LockedByMES) for reason in reasons] == [
            ("E07", "Heater band", False),
            ("W01", "Waiting", False),
        ]


async def test_values_stand_where_the_standard_has_them() -> None:
    wanted: dict[str, tuple[Any, tuple[str, ...], Any]] = {
        "job.material": ("ABS", ("imm:Jobs", "gen:ActiveJob", "gen:Material"), ["ABS"]),
        "job.product": ("", ("imm:Jobs", "gen:ActiveJob", "gen:ProductName"), []),
        "mould.id": ("M-17", ("imm:Moulds", "gen:Mould_1", "gen:Id"), "M-17"),
        "job.lot": ("L-9", ("imm:Jobs", "gen:ActiveJobValues", "gen:CurrentLotName"), "L-9"),
        "job.test_samples_counter": (3, ("imm:Jobs", "gen:ActiveJobValues", "gen:JobTestSamplesCounter"), 3),
        "status.alarm": ("E07", ("imm:MachineMESStatus", "gen:StandstillMessage", "Severity"), 700),
        "status.alarm_text": (
            "Heater",
            ("imm:MachineMESStatus", "gen:StandstillMessage", "Message"),
            ua.LocalizedText("Heater"),
        ),
    }
    async with serving() as server:
        await server.write(
            [Written(number(server, "imm-01", name), START_MS, raw) for name, (raw, _, _) in wanted.items()]
        )
        async with connected(server) as client:
            for name, (_, path, shown) in wanted.items():
                value = await (await at(client, *MACHINE, *path)).read_data_value()
                assert value.Value is not None
                assert value.Value.Value == shown, name
                assert value.SourceTimestamp == datetime.fromtimestamp(START_MS / 1000, UTC)
            history = await at(client, *MACHINE, "imm:Jobs", "gen:ActiveJob", "gen:Material")
            read = await history.read_raw_history(
                datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
            )
            values = [value.Value.Value for value in read if value.Value]
            assert [value for value in values if value is not None] == [["ABS"]]


async def test_a_live_variable_has_its_unit_range_and_history() -> None:
    zone = ("imm:InjectionUnits", "imm:InjectionUnit_1", "imm:TemperatureZones", "gen:TemperatureZone_1")
    async with serving() as server, connected(server) as client:
        actual = await at(client, *MACHINE, *zone, "gen:ActualTemperature")
        units = await (await actual.get_child("0:EngineeringUnits")).read_value()
        assert (units.UnitId, units.DisplayName.Text) == (4408652, "°C")
        span = await (await actual.get_child("0:EURange")).read_value()
        assert (span.Low, span.High) == (0.0, 500.0)
        access = await actual.get_access_level()
        assert {ua.AccessLevel.CurrentRead, ua.AccessLevel.HistoryRead} == access
        historizing: Any = (await actual.read_attribute(AttributeIds.Historizing)).Value
        assert historizing.Value is True
        capability: Any = ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData
        limit = await client.get_node(ua.NodeId(capability)).read_value()
        reads = [ua.HistoryReadValueId(NodeId=actual.nodeid)] * (limit + 1)
        begin = datetime(1970, 1, 1, tzinfo=UTC)
        details = ua.ReadRawModifiedDetails(False, begin, begin + timedelta(days=40_000), 1, False)
        with pytest.raises(UaStatusCodeError) as caught:
            await client.uaclient.history_read(
                ua.HistoryReadParameters(details, ua.TimestampsToReturn.Source, False, reads)
            )
        assert caught.value.code == StatusCodes.BadTooManyOperations


async def test_a_taken_port_is_said_in_one_line() -> None:
    async with serving("cell: imm-01, zones: 3") as server:
        second = PlantServer(server.site, "127.0.0.1")
        with pytest.raises(
            StoreUnavailable, match=rf"can't listen on opc\.tcp://127\.0\.0\.1:{server.site.opcua_port}"
        ):
            await second.start()
        await second.stop()


async def test_scalars_are_mapped_for_collectors() -> None:
    async with serving(tcus=[TCU]) as server:
        mapped = node_mappings(server.site)
        shown = {(name, variable.signal): variable.logged for name, variable in server.variables}
        assert {(mapping.asset.name, mapping.signal) for mapping in mapped} == {
            key for key, logged in shown.items() if logged
        }
        assert {name for (_, name), logged in shown.items() if not logged} == {"job.material", "job.product"}
        async with connected(server) as client:
            index = await client.get_namespace_index(URI)
            for mapping in mapped:
                assert mapping.node.startswith(f"nsu={URI};s={mapping.asset.name}.")
                node = client.get_node(f"ns={index};s={mapping.node.partition(';s=')[2]}")
                assert ua.AccessLevel.HistoryRead in await node.get_access_level()


async def test_a_temperature_control_unit_stands_beside_the_machines() -> None:
    async with serving(tcus=[TCU]) as server:
        shown = {tcd.TEMPERATURE: 61.5, tcd.SETPOINT: 60.0, tcd.FLOW_RATE: 12.5, tcd.STATUS: 2}
        values = [Written(number(server, TCU.name, name), START_MS, raw) for name, raw in shown.items()]
        await server.write(values)
        async with connected(server) as client:
            unit = ("di:DeviceSet", f"own:TCD_Shopfloor_{TCU.name}")
            for path, value in (
                (("tcd:DeviceZone", "tcd:Temperature", "gen:ActualValue"), 61.5),
                (("tcd:DeviceZone", "tcd:Temperature", "gen:SetValue"), 60.0),
                (("tcd:DeviceZone", "tcd:TemperatureMainLine"), 61.5),
                (("tcd:DeviceZone", "tcd:FlowRate", "gen:ActualValue"), 12.5),
                (("tcd:Operation", "tcd:OperatingMode"), 2),
                (("tcd:TCDSpecification", "tcd:MaxTemperature"), 140.0),
                (("tcd:Identification", "di:DeviceClass"), "Temperature Control Device"),
            ):
                assert await (await at(client, *unit, *path)).read_value() == value, path
            units = await at(client, *unit, "tcd:DeviceZone", "tcd:ActualProcessPower", "EngineeringUnits")
            assert (await units.read_value()).UnitId == 4937556


async def test_commands_are_refused_in_the_protocols_own_words() -> None:
    async with serving() as server, connected(server) as client:
        values = await at(client, *MACHINE, "imm:Jobs", "gen:ActiveJobValues")
        index = await client.get_namespace_index(NAMESPACES["gen"])
        for name in ("StartJob", "InterruptJob", "FinishJob", "StopAtCycleEnd", "ResetJobCounters"):
            with pytest.raises(UaStatusCodeError) as caught:
                await values.call_method(f"{index}:{name}")
            assert caught.value.code == StatusCodes.BadNotImplemented, name
        job = await at(
            client, *MACHINE, "imm:Jobs", "gen:ActiveJob", "gen:SetCyclicJobData", "InputArguments"
        )
        assert [argument.Name for argument in await job.read_value()][:2] == ["JobName", "JobDescription"]
        job_name = await at(client, *MACHINE, "imm:Jobs", "gen:ActiveJob", "gen:JobName")
        with pytest.raises(UaStatusCodeError) as caught:
            await job_name.write_value("mine")
        assert caught.value.code == StatusCodes.BadUserAccessDenied


@pytest.mark.parametrize("at_server", [False, True])
async def test_a_cycle_arrives_as_an_event_with_its_nested_fields(at_server: bool) -> None:
    async with serving() as server, connected(server) as client:
        machine = await at(client, *MACHINE)
        source: Any = client.nodes.server if at_server else machine
        async with listening(client, source, [await own_type(client, CYCLE_TYPE)]) as events:
            await server.fire([CYCLE, CYCLE._replace(cell="imm-02", quality=0)])
            await until(lambda: len(events) >= (2 if at_server else 1), "cycles heard")
            await server.fire([CYCLE._replace(job_name="J-8", time_ms=START_MS + 40_000)])
            await until(lambda: len(events) == (3 if at_server else 2), "the next cycle heard")
        event = events[0]
        said = {name: getattr(event, name) for name in vars(event) if "/" in name or name[0].isupper()}
        unit = "InjectionUnitCycleParameters_1"
        assert event.SourceNode == machine.nodeid
        assert event.Time == datetime.fromtimestamp(CYCLE.time_ms / 1000, UTC)
        for name, value in {
            "SourceName": "imm-01",
            "JobName": "J-7",
            "JobStatus": 6,
            "CurrentLotName": "L-1",
            "CycleTime": 19_500.0,
            "CycleQuality": 1,
            "JobCycleCounter": 12,
            "JobPartsCounter": 48,
            "JobGoodPartsCounter": 46,
            "JobBadPartsCounter": 2,
            "JobTestSamplesCounter": 0,
            "MachineCycleCounter": 100_012,
            "CavityCycleQuality": [1, 2, 1, 2],
            "AverageCycleTime": None,
            f"{unit}/Index": 1,
            f"{unit}/InjectionTime": 1250.0,
            f"{unit}/DosingTime": 6500.0,
            f"{unit}/CushionVolume": 4.2,
            f"{unit}/PlastificationVolume": 38.5,
            f"{unit}/SpecificPressureMaximum": 912.0,
            f"{unit}/CushionStroke": 3.5,
            f"{unit}/BackPressure": 80.0,
            f"{unit}/CavityPressureMaximum": None,
            "MouldCycleParameters_1/Index": 1,
        }.items():
            assert said[name] == value, name
        types = {name: event.data_types[name] for name in said}
        assert types["CycleTime"] == types[f"{unit}/CushionVolume"] == ua.VariantType.Double
        assert types["JobCycleCounter"] == ua.VariantType.UInt64
        assert types["CycleQuality"] == types["JobStatus"] == ua.VariantType.Int32
        assert types[f"{unit}/Index"] == ua.VariantType.UInt32
        assert len({event.EventId for event in events}) == len(events)


async def test_the_cycle_type_is_found_below_the_standards_abstract_one() -> None:
    async with serving() as server, connected(server) as client:
        abstract = client.get_node(f"ns={await client.get_namespace_index(NAMESPACES['gen'])};i=1038")
        found = await abstract.get_children(refs=ObjectIds.HasSubtype)
        assert found == [await own_type(client, CYCLE_TYPE)]
        unit = f"{CYCLE_TYPE}.InjectionUnitCycleParameters_1.CushionVolume.EngineeringUnits"
        assert (await (await own_type(client, unit)).read_value()).UnitId == 4410705
        machine = await at(client, *MACHINE)
        assert await machine.read_event_notifier() == {ua.EventNotifier.SubscribeToEvents}
        notifiers = await client.nodes.server.get_referenced_nodes(ObjectIds.HasNotifier)
        assert machine in notifiers
        machine_type: Any = await machine.read_type_definition()
        interface = client.get_node(machine_type)
        generated = await interface.get_referenced_nodes(ObjectIds.GeneratesEvent)
        assert abstract in generated


async def changes(server: PlantServer, name: str, *raws: Any) -> None:
    await server.write(
        [
            Written(number(server, "imm-01", name), START_MS + step * 1000, raw)
            for step, raw in enumerate(raws)
        ]
    )


async def test_the_logbook_reports_what_changes() -> None:
    async with serving() as server, connected(server) as client:
        kinds = [await own_type(client, name) for name in (MODE_TYPE, PRODUCTION_TYPE, STANDSTILL_TYPE)]
        async with listening(client, await at(client, *MACHINE), kinds) as events:
            await changes(server, signal.MACHINE_MODE, 1, 3, 3)
            await changes(server, signal.PRODUCTION_STATUS, 4, 1)
            await changes(server, signal.STANDSTILL_REASON, "", "E07", "")
            await until(lambda: len(events) == 4, "the logbook heard")
            await asyncio.sleep(0.1)
        assert len(events) == 4
        mode, production, stopped, resumed = events
        assert (mode.OldMachineMode, mode.NewMachineMode) == (1, 3)
        assert mode.Time == datetime.fromtimestamp(START_MS / 1000 + 1, UTC)
        assert mode.EventOriginator == 1
        assert (production.OldProductionStatus, production.NewProductionStatus) == (4, 1)
        assert [stopped.StandstillReasonId, resumed.StandstillReasonId] == ["E07", ""]


async def test_a_fault_is_a_condition_that_comes_and_goes() -> None:
    async with serving() as server, connected(server) as client:
        kind = client.get_node(f"ns={await client.get_namespace_index(NAMESPACES['gen'])};i=1004")
        async with listening(client, await at(client, *MACHINE), [kind]) as events:
            await server.write(
                [
                    Written(number(server, "imm-01", "status.alarm"), START_MS, ""),
                    Written(number(server, "imm-01", "status.alarm"), START_MS + 1000, "E07"),
                    Written(
                        number(server, "imm-01", "status.alarm_text"),
                        START_MS + 1000,
                        "Heater band of zone 2",
                    ),
                    Written(number(server, "imm-01", "status.alarm_classification"), START_MS + 1000, 111),
                ]
            )
            await server.write([Written(number(server, "imm-01", "status.alarm"), START_MS + 9000, "")])
            await until(lambda: len(events) == 2, "the fault heard")
        came, went = events
        assert (came.Id, came.Message.Text, came.Classification) == ("E07", "Heater band of zone 2", 111)
        assert (came.Severity, came.Retain, getattr(came, "ActiveState/Id")) == (700, True, True)
        assert came.IsStandstillMessage is True
        assert (went.Retain, getattr(went, "ActiveState/Id")) == (False, False)
        assert came.NodeId == went.NodeId
