"""Temperature control units as OPC 40082-1 has them: which variable shows which signal, and what stands still."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from asyncua import ua

from simulators.protocols.euromap77_machine import (
    MANUFACTURER,
    localized,
    place_live,
    text,
    time_zone_offset,
)
from simulators.protocols.opcua_instances import Item, place
from simulators.protocols.opcua_variable import BAR, CELSIUS, KILOWATT, LITRE_PER_MINUTE, Unit, Variable

TEMPERATURE: Final = "tcu.temperature"
SETPOINT: Final = "tcu.setpoint"
RETURN_TEMPERATURE: Final = "tcu.return_temperature"
FLOW_RATE: Final = "tcu.flow_rate"
PRESSURE: Final = "tcu.pressure"
PROCESS_POWER: Final = "tcu.process_power"
STATUS: Final = "tcu.status"
"""OPC 40082-1 OperatingModeEnumeration: 1 ready to operate, 2 normal operation, 6 cooling."""

_ZONE: Final = "tcd:DeviceZone"
_SPECIFICATION: Final = "tcd:TCDSpecification"


class Tcu(NamedTuple):
    """A temperature control unit of a site."""

    name: str
    """As the site calls it: the first part of its node ids, its serial number, unique among machines and units."""
    model: str = "Simulated water unit"
    connected_load_kw: float = 18.0
    heating_kw: float = 9.0
    max_temperature_c: float = 140.0
    nominal_flow_l_min: float = 40.0


def tcu_variables() -> tuple[Variable, ...]:
    """Return the variables of a temperature control unit."""
    return (
        _analog(
            TEMPERATURE,
            (_ZONE, "tcd:Temperature", "gen:ActualValue"),
            "Cel",
            CELSIUS,
            "Temperature of the medium",
        ),
        _analog(SETPOINT, (_ZONE, "tcd:Temperature", "gen:SetValue"), "Cel", CELSIUS, "Set temperature"),
        _analog(
            RETURN_TEMPERATURE,
            (_ZONE, "tcd:TemperatureReturnLine"),
            "Cel",
            CELSIUS,
            "Temperature in the return line",
        ),
        _analog(
            FLOW_RATE, (_ZONE, "tcd:FlowRate", "gen:ActualValue"), "L/min", LITRE_PER_MINUTE, "Flow rate"
        ),
        _analog(PRESSURE, (_ZONE, "tcd:PressureMainLine"), "bar", BAR, "Pressure in the main line"),
        _analog(
            PROCESS_POWER,
            (_ZONE, "tcd:ActualProcessPower"),
            "kW",
            KILOWATT._replace(low=-200.0, high=200.0),
            "Heat given to the mould; below 0 it is taken from it",
        ),
        Variable(
            STATUS,
            ("tcd:Operation", "tcd:OperatingMode"),
            "Int32",
            "",
            "Operating mode (OPC 40082-1 OperatingModeEnumeration)",
        ),
    )


def tcu_item(
    tcu: Tcu, number: int, location: str, time_zone: str, numbered: Iterable[tuple[int, Variable]]
) -> Item:
    """Return the instance of TCD_InterfaceType for a unit: the ``number``-th of its site, counted from 1."""
    root = Item(type_name="tcd:TCD_InterfaceType", description=f"{tcu.model}, {location}")
    place_live(root, numbered)
    mapping = ua.Variant(number, ua.VariantType.UInt32)
    place(
        root,
        {
            ("tcd:Identification", "di:DeviceClass"): text("Temperature Control Device"),
            ("tcd:Identification", "di:Manufacturer"): localized(MANUFACTURER),
            ("tcd:Identification", "di:Model"): localized(tcu.model),
            ("tcd:Identification", "di:SerialNumber"): text(tcu.name),
            ("tcd:MachineConfiguration", "gen:UserMachineName"): text(tcu.name),
            ("tcd:MachineConfiguration", "gen:LocationName"): text(location),
            ("tcd:MachineConfiguration", "gen:TimeZoneOffset"): time_zone_offset(time_zone),
            ("tcd:Operation", "tcd:DeviceMappingNumber"): mapping,
        },
    )
    for name, value, unit in (
        ("tcd:ConnectedLoad", tcu.connected_load_kw, KILOWATT),
        ("tcd:PowerValue", tcu.heating_kw, KILOWATT),
        ("tcd:MaxTemperature", tcu.max_temperature_c, CELSIUS),
        ("tcd:NominalFlowRate", tcu.nominal_flow_l_min, LITRE_PER_MINUTE),
    ):
        item = root.at(_SPECIFICATION, name)
        item.value, item.unit = ua.Variant(value, ua.VariantType.Double), unit
    return root


def _analog(name: str, path: tuple[str, ...], ucum: str, unit: Unit, description: str) -> Variable:
    return Variable(name, path, "Double", ucum, description, 1.0, unit)
