"""Events and alarms of the machines that profiles find."""

from __future__ import annotations

from collections.abc import Iterable

from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.discovery import Machine
from edge_agent.sources.opcua.event_config import AlarmConfig, EventConfig


def machine_events(config: OpcUaConfig, machines: Iterable[Machine]) -> list[EventConfig | AlarmConfig]:
    """Return what is to be listened to on machines, as their profiles say and the configuration allows."""
    uses = {
        f"profiles.{number} ({used.profile})": profile
        for number, (used, profile) in enumerate(zip(config.profiles, config.read_profiles, strict=True))
        if used.events
    }
    wanted: list[EventConfig | AlarmConfig] = []
    for machine in machines:
        profile = uses.get(machine.profile)
        if profile is None:
            continue
        place = {"notifier": machine.place.path, "asset": machine.asset}
        wanted += [
            EventConfig.model_validate({**place, "type": event.type, "fields": event.fields})
            for event in profile.events
        ]
        wanted += [
            AlarmConfig.model_validate({**place, "prefix": alarms.prefix}) for alarms in profile.alarms
        ]
    return wanted
