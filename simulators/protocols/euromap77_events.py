"""What a EUROMAP 77 machine reports as events: each cycle, its logbook, its alarms.

The types that OPC 40083 gives for cycles and logbooks are abstract; the ones that are fired are their subtypes in the
server's own namespace.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.common.events import Event
from asyncua.server.server import Server
from asyncua.ua.object_ids import ObjectIds

from simulators.protocols.opcua_instances import InstanceBuilder, Item
from simulators.protocols.opcua_types import Names, own, standard
from simulators.protocols.opcua_variable import BAR, CUBIC_CENTIMETRE, MILLIMETRE, Unit

CYCLE_TYPE: Final = "ShopfloorCycleParametersEventType"
MODE_TYPE: Final = "ShopfloorMachineModeChangeLogType"
PRODUCTION_TYPE: Final = "ShopfloorProductionStatusChangeLogType"
STANDSTILL_TYPE: Final = "ShopfloorStandstillReasonLogType"
_SUBTYPES: Final = {
    CYCLE_TYPE: "gen:CycleParametersEventType",
    MODE_TYPE: "gen:MachineModeChangeLogType",
    PRODUCTION_TYPE: "gen:ProductionStatusChangeLogType",
    STANDSTILL_TYPE: "gen:StandstillReasonLogType",
}
_UNIT_1: Final = "InjectionUnitCycleParameters_1"
_MOULD_1: Final = "MouldCycleParameters_1"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MACHINE_ORIGIN: Final = 1
"""EventOriginatorEnumeration."""
_INFORMATION, _FAULT = 100, 700
"""Severities (Part 5 §6.4.2): 1 to 1000."""
Fields = Iterator[tuple[str, Any, ua.VariantType]]
_V: Final = ua.VariantType


class InjectionUnitCycle(NamedTuple):
    """What an injection unit did in a cycle (OPC 40077 InjectionUnitCycleParametersType)."""

    injection_time_s: float
    dosing_time_s: float
    cushion_volume_cm3: float
    plastification_volume_cm3: float
    specific_pressure_maximum_bar: float
    cushion_stroke_mm: float | None = None
    cavity_pressure_maximum_bar: float | None = None
    hold_pressure_average_bar: float | None = None
    hold_pressure_maximum_bar: float | None = None
    back_pressure_bar: float | None = None
    transfer_stroke_mm: float | None = None
    transfer_volume_cm3: float | None = None
    transfer_pressure_bar: float | None = None
    transfer_cavity_pressure_bar: float | None = None


class CycleEvent(NamedTuple):
    """One finished cycle of a machine (OPC 40083 CycleParametersEventType)."""

    cell: str
    time_ms: int
    """UTC ms since 1970: when the cycle ended."""
    job_name: str
    job_status: int
    """JobStatusEnumeration."""
    lot: str
    cycle_time_s: float
    quality: int
    """CycleQualityEnumeration: 0 good, 1 bad, 2 test sample, 3 failed."""
    job_cycle_counter: int
    job_parts_counter: int
    job_good_parts_counter: int
    job_bad_parts_counter: int
    job_test_samples_counter: int
    injection: InjectionUnitCycle
    machine_cycle_counter: int | None = None
    cavity_quality: tuple[int, ...] | None = None
    """CavityCycleQualityEnumeration of each cavity: 0 no part, 1 good, 2 bad, 3 rework."""
    part_ids: tuple[str, ...] | None = None
    average_cycle_time_s: float | None = None


class Alarm(NamedTuple):
    """The fault that a machine stands with; ``id`` is empty once it is gone."""

    cell: str
    time_ms: int
    id: str
    message: str
    classification: int
    """IMMMessageClassificationEnumeration."""


_MEASURED: Final[tuple[tuple[str, str, Unit | None], ...]] = (
    ("InjectionTime", "injection_time_s", None),
    ("DosingTime", "dosing_time_s", None),
    ("CushionVolume", "cushion_volume_cm3", CUBIC_CENTIMETRE),
    ("PlastificationVolume", "plastification_volume_cm3", CUBIC_CENTIMETRE),
    ("SpecificPressureMaximum", "specific_pressure_maximum_bar", BAR),
    ("CushionStroke", "cushion_stroke_mm", MILLIMETRE),
    ("CavityPressureMaximum", "cavity_pressure_maximum_bar", BAR),
    ("HoldSpecificPressureAverage", "hold_pressure_average_bar", BAR),
    ("HoldSpecificPressureMaximum", "hold_pressure_maximum_bar", BAR),
    ("BackPressure", "back_pressure_bar", BAR),
    ("TransferStroke", "transfer_stroke_mm", MILLIMETRE),
    ("TransferVolume", "transfer_volume_cm3", CUBIC_CENTIMETRE),
    ("TransferSpecificPressure", "transfer_pressure_bar", BAR),
    ("TransferCavityPressure", "transfer_cavity_pressure_bar", BAR),
)


def add_event_types(server: Server, names: Names, builder: InstanceBuilder) -> None:
    """Add our concrete subtypes of the abstract event types."""
    for name, above in _SUBTYPES.items():
        item = ua.AddNodesItem(
            ParentNodeId=names.type(above),
            ReferenceTypeId=standard(ObjectIds.HasSubtype),
            RequestedNewNodeId=own(name),
            BrowseName=names.qualified(f"own:{name}"),
            NodeClass=ua.NodeClass.ObjectType,
            NodeAttributes=ua.ObjectTypeAttributes(DisplayName=ua.LocalizedText(name)),
        )
        server.iserver.node_mgt_service.add_nodes([item])[0].StatusCode.check()
    unit = Item(type_name="imm:InjectionUnitCycleParametersType")
    for browse, _, shown in _MEASURED:
        unit.at(f"imm:{browse}").unit = shown
    mould = Item(type_name="gen:MouldCycleParametersType")
    cycle = own(CYCLE_TYPE)
    builder.declare(cycle, f"{CYCLE_TYPE}.{_UNIT_1}", f"imm:{_UNIT_1}", unit)
    builder.declare(cycle, f"{CYCLE_TYPE}.{_MOULD_1}", f"gen:{_MOULD_1}", mould)


def cycle_event(machine: ua.NodeId, cycle: CycleEvent) -> Event:
    """Return a cycle as the event that is fired."""
    event = _event(machine, own(CYCLE_TYPE), cycle.cell, cycle.time_ms, "Cycle finished", _INFORMATION)
    for name, value, kind in _cycle_fields(cycle):
        event.add_property(name, value, kind)
    return event


def mode_event(machine: ua.NodeId, cell: str, time_ms: int, old: int, new: int) -> Event:
    """Return a change of MachineMode as a logbook entry."""
    event = _logbook(machine, MODE_TYPE, cell, time_ms, "Machine mode changed")
    event.add_property("OldMachineMode", old, _V.Int32)
    event.add_property("NewMachineMode", new, _V.Int32)
    return event


def production_event(machine: ua.NodeId, cell: str, time_ms: int, old: int, new: int) -> Event:
    """Return a change of ProductionStatus as a logbook entry."""
    event = _logbook(machine, PRODUCTION_TYPE, cell, time_ms, "Production status changed")
    event.add_property("OldProductionStatus", old, _V.Int32)
    event.add_property("NewProductionStatus", new, _V.Int32)
    return event


def standstill_event(machine: ua.NodeId, cell: str, time_ms: int, reason: str) -> Event:
    """Return a change of StandstillReasonId as a logbook entry."""
    event = _logbook(machine, STANDSTILL_TYPE, cell, time_ms, "Standstill reason changed")
    event.add_property("StandstillReasonId", reason, _V.String)
    return event


def alarm_event(names: Names, machine: ua.NodeId, alarm: Alarm) -> Event:
    """Return the state of a machine's fault as MessageConditionType: active until its id is empty (Part 9 §5.8.2)."""
    active = bool(alarm.id)
    severity = _FAULT if active else _INFORMATION
    kind = names.type("gen:MessageConditionType")
    event = _event(machine, kind, alarm.cell, alarm.time_ms, alarm.message, severity)
    state = ua.LocalizedText("Active" if active else "Inactive")
    time = _time(alarm.time_ms)
    for name, value, variant in (
        ("Id", alarm.id, _V.String),
        ("Classification", alarm.classification, _V.Int32),
        ("IsStandstillMessage", True, _V.Boolean),
        # One fault at a time: its condition has no node, so its id names none (Part 9 §5.5.2).
        ("NodeId", own(f"{alarm.cell}.StandstillCondition"), _V.NodeId),
        ("ConditionName", "StandstillMessage", _V.String),
        ("ConditionClassId", standard(ObjectIds.ProcessConditionClassType), _V.NodeId),
        ("ConditionClassName", ua.LocalizedText("ProcessConditionClass"), _V.LocalizedText),
        ("BranchId", ua.NodeId(), _V.NodeId),
        ("Retain", active, _V.Boolean),
        ("EnabledState", ua.LocalizedText("Enabled"), _V.LocalizedText),
        ("EnabledState/Id", True, _V.Boolean),
        ("AckedState", ua.LocalizedText("Acknowledged"), _V.LocalizedText),
        ("AckedState/Id", True, _V.Boolean),
        ("ActiveState", state, _V.LocalizedText),
        ("ActiveState/Id", active, _V.Boolean),
        ("Quality", ua.StatusCode(), _V.StatusCode),
        ("Quality/SourceTimestamp", time, _V.DateTime),
        ("LastSeverity", severity, _V.UInt16),
        ("LastSeverity/SourceTimestamp", time, _V.DateTime),
        ("Comment", ua.LocalizedText(""), _V.LocalizedText),
        ("Comment/SourceTimestamp", time, _V.DateTime),
        ("ClientUserId", "", _V.String),
        ("SuppressedOrShelved", False, _V.Boolean),
        ("InputNode", ua.NodeId(), _V.NodeId),
    ):
        event.add_property(name, value, variant)
    return event


async def trigger(server: Server, event: Event) -> None:
    """Send an event to those who listen to its machine, and to those who listen to the whole server."""
    service = server.iserver.subscription_service
    to_all = copy.copy(event)
    to_all.emitting_node = standard(ObjectIds.Server)
    await service.trigger_event(to_all)
    await service.trigger_event(event)


def _event(
    machine: ua.NodeId, kind: ua.NodeId, cell: str, time_ms: int, message: str, severity: int
) -> Event:
    event = Event(machine)
    time = _time(time_ms)
    for name, value, variant in (
        ("EventId", uuid.uuid4().bytes, _V.ByteString),
        ("EventType", kind, _V.NodeId),
        ("SourceNode", machine, _V.NodeId),
        ("SourceName", cell, _V.String),
        ("Time", time, _V.DateTime),
        ("ReceiveTime", datetime.now(UTC), _V.DateTime),
        ("Message", ua.LocalizedText(message), _V.LocalizedText),
        ("Severity", severity, _V.UInt16),
    ):
        event.add_property(name, value, variant)
    return event


def _logbook(machine: ua.NodeId, kind: str, cell: str, time_ms: int, message: str) -> Event:
    event = _event(machine, own(kind), cell, time_ms, message, _INFORMATION)
    event.add_property("EventOriginator", _MACHINE_ORIGIN, _V.Int32)
    # Nobody is logged on at a simulated machine.
    event.add_property("User/Id", "", _V.String)
    event.add_property("User/Name", "", _V.String)
    event.add_property("User/IsPresent", False, _V.Boolean)
    return event


def _cycle_fields(cycle: CycleEvent) -> Fields:
    yield "JobName", cycle.job_name, _V.String
    yield "JobStatus", cycle.job_status, _V.Int32
    yield "CurrentLotName", cycle.lot, _V.String
    yield "CycleTime", _milliseconds(cycle.cycle_time_s), _V.Double
    yield "CycleQuality", cycle.quality, _V.Int32
    yield "JobCycleCounter", cycle.job_cycle_counter, _V.UInt64
    yield "JobPartsCounter", cycle.job_parts_counter, _V.UInt64
    yield "JobGoodPartsCounter", cycle.job_good_parts_counter, _V.UInt64
    yield "JobBadPartsCounter", cycle.job_bad_parts_counter, _V.UInt64
    yield "JobTestSamplesCounter", cycle.job_test_samples_counter, _V.UInt64
    yield "MachineCycleCounter", cycle.machine_cycle_counter, _V.UInt64
    yield "CavityCycleQuality", None if cycle.cavity_quality is None else list(cycle.cavity_quality), _V.Int32
    yield "PartId", None if cycle.part_ids is None else list(cycle.part_ids), _V.String
    average = cycle.average_cycle_time_s
    yield "AverageCycleTime", None if average is None else _milliseconds(average), _V.Double
    yield f"{_MOULD_1}/Index", 1, _V.UInt32
    yield f"{_UNIT_1}/Index", 1, _V.UInt32
    for browse, name, unit in _MEASURED:
        value: float | None = getattr(cycle.injection, name)
        if value is not None and unit is None:
            value = _milliseconds(value)
        yield f"{_UNIT_1}/{browse}", value, _V.Double


def _time(time_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=time_ms)


def _milliseconds(seconds: float) -> float:
    """Return a time as Duration holds it (Part 3 §8.13)."""
    return seconds * 1000.0
