"""What stations of a line and workplaces of a cell show beyond `shopfloor.signal`, and their numbers for causes."""

from __future__ import annotations

from typing import Final

PACKML_STATE: Final = "packml.state"
"""PackML StateCurrent (ISA-TR88.00.02, OPC 30050 StateNumber), 1 to 17."""
PACKML_MODE: Final = "packml.mode"
"""PackML UnitModeCurrent: 1 production, 2 maintenance, 3 manual."""
PACKML_SPEED: Final = "packml.cur_mach_speed"
"""PackML CurMachSpeed: units a minute at the station's nominal pace; 0 while it does not execute."""
PACKML_STOP_REASON: Final = "packml.stop_reason"
"""PackML StopReason: a number of `STOP_REASONS`, 0 for none."""
STATION_CYCLE_TIME: Final = "station.cycle_time"
"""Seconds that the station worked at the last unit, without stops and breaks."""
UNIT_SERIAL: Final = "unit.serial"
"""Number of the unit that was finished last."""
UNIT_RESULT: Final = "unit.result"
"""Result of the unit's last test: pass, rework or fail; passed at stations that do not test."""
TEST_LOWER_LIMIT: Final = "test.lower_limit"
TEST_UPPER_LIMIT: Final = "test.upper_limit"

WORKPLACE_STATUS: Final = "workplace.status"
"""Of a workplace of a garment cell: working, waiting, changeover, stopped, absent, break or off."""
OPERATION_NAME: Final = "operation.name"
"""What the operator does at the garment; empty between two garments."""

STARVED: Final = "Starved"
BLOCKED: Final = "Blocked"
NO_OPERATOR: Final = "No operator"
BEFORE_PAUSE: Final = "Too late for another unit"
BATCH_END: Final = "Batch complete"
CHANGEOVER: Final = "Changeover"
JAM: Final = "Jam"
PAUSES: Final = ("break", "no shift", "holiday")
FAULTS: Final = (
    "Feeder empty",
    "Gripper fault",
    "Sensor fault",
    "Part misaligned",
    "Fixture worn",
    "Safety door opened",
    "Drive fault",
    "Emergency stop",
)
STOP_REASONS: Final = {
    text: number
    for number, text in enumerate(
        (
            STARVED,
            BLOCKED,
            NO_OPERATOR,
            BEFORE_PAUSE,
            BATCH_END,
            CHANGEOVER,
            JAM,
            *PAUSES,
            *FAULTS,
        ),
        1,
    )
}
