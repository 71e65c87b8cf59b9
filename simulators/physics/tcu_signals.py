"""What a temperature control unit shows (after the DeviceZone of OPC 40082-1)."""

from __future__ import annotations

from typing import Final

TEMPERATURE: Final = "tcu.temperature"
"""Of the main line, in °C."""
SETPOINT: Final = "tcu.setpoint"
RETURN_TEMPERATURE: Final = "tcu.return_temperature"
FLOW_RATE: Final = "tcu.flow_rate"
"""Litres a minute."""
PRESSURE: Final = "tcu.pressure"
"""Of the main line, in bar."""
PROCESS_POWER: Final = "tcu.process_power"
"""Heat that the water gives to the mould, in kW; below 0 it takes heat from it."""
STATUS: Final = "tcu.status"
"""OPC 40082-1 OperatingModeEnumeration: 1 ready to operate (all is off), 2 normal operation, 9 boost (heating up)."""
OFF, CONTROLLING, HEATING_UP = 1, 2, 9
