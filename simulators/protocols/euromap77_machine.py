"""One injection moulding machine as OPC 40077 has it: its live variables, and what stands still about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from asyncua import ua

from simulators.protocols.opcua_instances import Item, place
from simulators.protocols.opcua_types import Names
from simulators.protocols.opcua_variable import Variable

MANUFACTURER: Final = "Shopfloor"
_LOGGED: Final = (4, 5, 8)
"""LogbookEventsEnumeration: changes of the machine mode, of the production status, of the standstill reason."""
_ENCODING: Final = "Default Binary"
Statics = dict[tuple[str, ...], ua.Variant]


class Identity(NamedTuple):
    """What a machine's nameplate says, and where it stands."""

    serial: str
    model: str
    location: str
    time_zone: str
    """IANA name."""
    electric: bool


def machine_item(
    identity: Identity,
    zones: int,
    numbered: Iterable[tuple[int, Variable]],
    reasons: Sequence[ua.ExtensionObject],
) -> Item:
    """Return the instance of IMM_MES_InterfaceType for a machine, its live variables with their numbers."""
    root = Item(type_name="imm:IMM_MES_InterfaceType", description=f"{identity.model}, {identity.location}")
    place_live(root, numbered)
    place(root, dict(_about(identity, reasons)))
    power = root.at("imm:PowerUnits", "gen:PowerUnit_1")
    power.type_name = "gen:ElectricDriveType" if identity.electric else "gen:HydraulicUnitType"
    place(
        power, {("gen:Index",): _uint32(1), ("gen:Id",): text("1"), ("gen:IsPresent",): boolean(present=True)}
    )
    mould = root.at("imm:Moulds", "gen:Mould_1")
    mould.type_name = "gen:MouldType"
    place(mould, {("gen:Index",): _uint32(1), ("gen:IsPresent",): boolean(present=True)})
    unit = root.at("imm:InjectionUnits", "imm:InjectionUnit_1")
    unit.type_name = "imm:InjectionUnitType"
    place(
        unit,
        {
            ("imm:Index",): _uint32(1),
            ("imm:BarrelId",): text(f"{identity.serial}-1"),
            ("imm:IsPresent",): boolean(present=True),
            ("imm:InProduction",): boolean(present=True),
        },
    )
    for zone in range(1, zones + 1):
        at = unit.at("imm:TemperatureZones", f"gen:TemperatureZone_{zone}")
        _zone(at, zone, f"Barrel zone {zone}", "gen:BarrelTemperatureZoneType", classification=1)
        at.at("gen:Position").value = _uint32(zone)
    for half in (1, 2):
        at = mould.at("gen:TemperatureZones", f"gen:TemperatureZone_{half}")
        name = ("Fixed", "Moving")[half - 1] + " half"
        _zone(at, half, name, "gen:MouldTemperatureZoneType", classification=3)
    for container in (
        root.at("imm:PowerUnits"),
        root.at("imm:Moulds"),
        root.at("imm:InjectionUnits"),
        root.at("imm:MachineStatus", "gen:Users"),
        unit.at("imm:TemperatureZones"),
        mould.at("gen:TemperatureZones"),
    ):
        # What these hold never changes while the server runs (Part 3 §9.32.2).
        container.at("NodeVersion").value = text("1")
    return root


def place_live(root: Item, numbered: Iterable[tuple[int, Variable]]) -> None:
    """Put live variables at their places."""
    for number, variable in numbered:
        item = root.at(*variable.path)
        item.number, item.unit, item.description = number, variable.shown_unit, variable.description
        if variable.path[-1].startswith("own:"):
            item.data_type = "gen:CycleQualityEnumeration" if variable.kind == "Int32" else variable.kind


def standstill_reasons(names: Names, reasons: Mapping[str, str]) -> list[ua.ExtensionObject]:
    """Return StandstillReasonType structures: id and text of each reason, none locked by the MES.

    As encoded bytes: asyncua's registry of structure classes is the process's, and other clients and servers in it
    may number the namespaces otherwise.
    """
    type_id = names.encoding("gen:StandstillReasonType", _ENCODING)
    pack: Any = ua.ua_binary.Primitives
    return [
        ua.ExtensionObject(
            TypeId=type_id,
            Body=pack.String.pack(reason)
            + ua.ua_binary.to_binary(ua.LocalizedText, ua.LocalizedText(words))
            + pack.Boolean.pack(False),
        )
        for reason, words in reasons.items()
    ]


def time_zone_offset(time_zone: str) -> ua.Variant:
    """Return TimeZoneDataType: minutes east of UTC now, and that daylight saving is within them (Part 3 §8.28)."""
    offset = datetime.now(UTC).astimezone(ZoneInfo(time_zone)).utcoffset()
    minutes = 0 if offset is None else int(offset.total_seconds()) // 60
    zone = ua.TimeZoneDataType(Offset=minutes, DaylightSavingInOffset=True)
    return ua.Variant(zone, ua.VariantType.ExtensionObject)


def text(value: str) -> ua.Variant:
    """Return a String."""
    return ua.Variant(value, ua.VariantType.String)


def localized(value: str) -> ua.Variant:
    """Return a LocalizedText without a locale."""
    return ua.Variant(ua.LocalizedText(value), ua.VariantType.LocalizedText)


def boolean(*, present: bool) -> ua.Variant:
    """Return a Boolean."""
    return ua.Variant(present, ua.VariantType.Boolean)


def enumerated(value: int) -> ua.Variant:
    """Return a value of an enumeration."""
    return ua.Variant(value, ua.VariantType.Int32)


def _uint32(value: int) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.UInt32)


def _about(
    identity: Identity, reasons: Sequence[ua.ExtensionObject]
) -> Iterator[tuple[tuple[str, ...], ua.Variant]]:
    information = "imm:MachineInformation"
    yield (information, "di:DeviceClass"), text("Injection Moulding Machine")
    yield (information, "di:Manufacturer"), localized(MANUFACTURER)
    yield (information, "di:Model"), localized(identity.model)
    yield (information, "di:SerialNumber"), text(identity.serial)
    yield (information, "gen:ControllerName"), text("Shopfloor simulator")
    logged = ua.Variant(list(_LOGGED), ua.VariantType.Int32, is_array=True)
    yield (information, "gen:SupportedLogbookEvents"), logged
    configuration = "imm:MachineConfiguration"
    yield (configuration, "gen:UserMachineName"), text(identity.serial)
    yield (configuration, "gen:LocationName"), text(identity.location)
    yield (configuration, "gen:TimeZoneOffset"), time_zone_offset(identity.time_zone)
    listed = ua.Variant(list(reasons), ua.VariantType.ExtensionObject, is_array=True)
    yield ("imm:MachineMESConfiguration", "gen:StandstillReasons"), listed
    yield ("imm:MachineStatus", "gen:IsPresent"), boolean(present=True)
    control = ("imm:MachineMESStatus", "gen:ProductionControl")
    yield (*control, "gen:AutomaticRunEnabled"), boolean(present=True)
    yield (*control, "gen:ProductionReleasedByMES"), boolean(present=True)


def _zone(zone: Item, index: int, name: str, type_name: str, *, classification: int) -> None:
    zone.type_name = type_name
    place(
        zone,
        {
            ("gen:Index",): _uint32(index),
            ("gen:Name",): text(name),
            ("gen:IsPresent",): boolean(present=True),
            # ControlModeEnumeration: 2 is AUTOMATIC.
            ("gen:ControlMode",): enumerated(2),
            ("gen:Classification",): enumerated(classification),
        },
    )
