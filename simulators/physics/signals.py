"""Names of what these machines show beyond the signals that `shopfloor.signal` shares with everybody."""

from __future__ import annotations

from typing import Final

JOB_NOMINAL_PARTS: Final = "job.nominal_parts"
JOB_CAVITIES: Final = "job.cavities"
JOB_CYCLE_COUNTER: Final = "job.cycle_counter"
JOB_LOT: Final = "job.lot"
JOB_MATERIAL: Final = "job.material"
JOB_PRODUCT: Final = "job.product"
TEST_SAMPLES_COUNTER: Final = "job.test_samples_counter"
MOULD_ID: Final = "mould.id"
ALARM: Final = "status.alarm"
"""Id of the machine's message, empty while there is none."""
ALARM_TEXT: Final = "status.alarm_text"
ALARM_CLASSIFICATION: Final = "status.alarm_classification"
"""OPC 40077 IMMMessageClassificationEnumeration: 111 cylinder temperature, 112 mould temperature."""
CYCLE_QUALITY: Final = "cycle.quality"
"""OPC 40083 CycleQualityEnumeration: 0 good, 1 bad, 2 test sample, 3 failed."""
CYCLE_BAD_CAVITY: Final = "cycle.bad_cavity"
"""The cavity, from 1, of the one bad part; 0 where all or none are bad."""
CYCLE_BAD_PARTS: Final = "cycle.bad_parts"
INJECTION_TIME: Final = "cycle.injection_time"
DOSING_TIME: Final = "cycle.dosing_time"
CUSHION: Final = "cycle.cushion"
CUSHION_VOLUME: Final = "cycle.cushion_volume"
PLASTIFICATION_VOLUME: Final = "cycle.plastification_volume"
PEAK_PRESSURE: Final = "cycle.peak_pressure"
CAVITY_PRESSURE: Final = "cycle.cavity_pressure"
HOLD_PRESSURE: Final = "cycle.hold_pressure"
BACK_PRESSURE: Final = "cycle.back_pressure"
INJECTION_PRESSURE: Final = "injection.pressure"
SCREW_POSITION: Final = "injection.screw_position"
SCREW_SPEED: Final = "injection.screw_speed"
CLAMP_FORCE: Final = "clamp.force"
CLAMP_POSITION: Final = "clamp.position"
POWER_UNIT_TEMPERATURE: Final = "power_unit.temperature"
COOLING_FLOW: Final = "cooling.flow"
COOLING_RETURN_TEMPERATURE: Final = "cooling.return_temperature"
VOLTAGE: Final = "energy.voltage"
CURRENT: Final = "energy.current"
POWER_FACTOR: Final = "energy.power_factor"


def barrel_temperature(zone: int) -> str:
    """Return the signal of the actual temperature of barrel zone ``zone``, counted from 1 at the nozzle."""
    return f"barrel.zone_{zone}.temperature"


def barrel_setpoint(zone: int) -> str:
    """Return the signal of the nominal temperature of a barrel zone."""
    return f"barrel.zone_{zone}.setpoint"


def barrel_heater(zone: int) -> str:
    """Return the signal of the heater output of a barrel zone, in percent."""
    return f"barrel.zone_{zone}.heater_output"


def mould_temperature(zone: int) -> str:
    """Return the signal of the actual temperature of a mould half: 1 is the fixed one, 2 the moving one."""
    return f"mould.zone_{zone}.temperature"


def mould_setpoint(zone: int) -> str:
    """Return the signal of the nominal temperature of a mould half."""
    return f"mould.zone_{zone}.setpoint"
