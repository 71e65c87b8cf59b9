"""Which signals each kind of cell shows over MQTT, and under which names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shopfloor import signal
from simulators.physics import compressor_signals, line_signals, signals
from simulators.physics.line_spec import TestSpec
from simulators.protocols.mqtt_dialects.gateway import Field
from simulators.protocols.mqtt_dialects.said import Shown

GATEWAY_STATUS: Final = (
    Field("modus", signal.MACHINE_MODE, 0),
    Field("prod", signal.PRODUCTION_STATUS, 0),
    Field("ein", signal.POWER_ON, 0),
)
"""What the gateway's maker worked out of the machine's lamps, in the numbers of EUROMAP 83."""
STATION: Final[Mapping[str, Shown]] = {
    line_signals.PACKML_STATE: Shown("StateCurrent"),
    line_signals.PACKML_MODE: Shown("UnitModeCurrent"),
    line_signals.PACKML_SPEED: Shown("CurMachSpeed", "/min"),
    line_signals.PACKML_STOP_REASON: Shown("StopReason"),
    signal.STANDSTILL_REASON: Shown("StopReasonText"),
    signal.JOB_NAME: Shown("Batch"),
    signals.JOB_PRODUCT: Shown("Product"),
    signal.EXPECTED_CYCLE_TIME: Shown("IdealCycle", "s"),
    signal.ACTIVE_POWER: Shown("Power", "kW"),
}
"""A station's status message."""
STATION_UNIT: Final[Mapping[str, Shown]] = {
    signal.CYCLE_COUNTER: Shown("Count", "1"),
    line_signals.STATION_CYCLE_TIME: Shown("CycleTime", "s"),
    line_signals.UNIT_SERIAL: Shown("Serial", "1"),
    line_signals.UNIT_RESULT: Shown("Result"),
    signal.GOOD_PARTS_COUNTER: Shown("Good", "1"),
    signal.BAD_PARTS_COUNTER: Shown("Bad", "1"),
}
"""A station's message about a finished unit."""
STATION_TEST: Final[Mapping[str, Shown]] = {
    TestSpec().signal: Shown("Value", "N"),
    line_signals.TEST_LOWER_LIMIT: Shown("Lower", "N"),
    line_signals.TEST_UPPER_LIMIT: Shown("Upper", "N"),
}
"""What the last station adds to it."""
WORKPLACE: Final[Mapping[str, Shown]] = {
    line_signals.WORKPLACE_STATUS: Shown("status"),
    line_signals.OPERATION_NAME: Shown("operation"),
    signal.STANDSTILL_REASON: Shown("reason"),
    signal.JOB_NAME: Shown("batch"),
    signals.JOB_PRODUCT: Shown("style"),
    signal.EXPECTED_CYCLE_TIME: Shown("standard", "s"),
    signal.CYCLE_COUNTER: Shown("pieces", "1"),
    signal.CYCLE_TIME: Shown("piece_time", "s"),
    signal.PARTS_COUNTER: Shown("batch_pieces", "1"),
    signal.GOOD_PARTS_COUNTER: Shown("batch_good", "1"),
    signal.BAD_PARTS_COUNTER: Shown("batch_bad", "1"),
    signal.ACTIVE_POWER: Shown("power", "kW"),
}
"""A workplace's topics."""
COMPRESSOR: Final[Mapping[str, Shown]] = {
    compressor_signals.PRESSURE: Shown("pressure", "bar"),
    compressor_signals.STATE: Shown("state"),
    compressor_signals.FLOW: Shown("flow", "m3/min"),
    compressor_signals.RUNNING_HOURS: Shown("running_hours", "h"),
    compressor_signals.LOADED_HOURS: Shown("loaded_hours", "h"),
    compressor_signals.OIL_TEMPERATURE: Shown("oil_temperature", "Cel"),
    signal.ACTIVE_POWER: Shown("power", "kW"),
}
"""A compressor's topics."""
