"""What an air compressor shows."""

from __future__ import annotations

from typing import Final

PRESSURE: Final = "compressor.pressure"
"""In the receiver, in bar."""
STATE: Final = "compressor.state"
"""0 stopped and ready, 1 running unloaded, 2 running loaded."""
FLOW: Final = "compressor.flow"
"""Air that leaves the receiver, in Nm³/min: what is used, and what leaks."""
RUNNING_HOURS: Final = "compressor.running_hours"
LOADED_HOURS: Final = "compressor.loaded_hours"
OIL_TEMPERATURE: Final = "compressor.oil_temperature"
"""In °C."""
STOPPED, UNLOADED, LOADED = range(3)
