"""``alarms:`` of ``ingest.yaml``."""

from __future__ import annotations

from pydantic import Field

from shopfloor.configfile import ConfigModel


class AlarmConfig(ConfigModel):
    """When something is an alarm."""

    silent_after_s: float = Field(default=60.0, ge=10)
    """Seconds without a word from an agent; pages say "no contact" after ten already."""
    buffer_hours: float = Field(default=24.0, ge=0)
    """Hours that an agent's buffer has to last for at the rate at which it fills."""
    clock_offset_s: float = Field(default=5.0, gt=0)
    """Seconds that an agent's clock may be off the service's."""
    machine_clock_offset_s: float = Field(default=60.0, gt=0)
    """Seconds that a machine's clock may be off its agent's."""
    quarantine_quiet_s: float = Field(default=600.0, ge=1)
    """Seconds without a further sample in quarantine after which it no longer grows."""
    keep_days: float = Field(default=400.0, ge=1)
    """Days for which past alarms are kept."""
