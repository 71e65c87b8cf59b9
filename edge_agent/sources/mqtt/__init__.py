"""MQTT as a source: JSON and plain text from machines, meters and gateways, acknowledged once durable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.sources.mqtt.config import MqttConfig

if TYPE_CHECKING:
    from edge_agent.sources.mqtt.source import MqttSource

__all__ = ["MqttConfig", "MqttSource"]


def __getattr__(name: str) -> object:
    # Every agent reads the configuration of all protocols, and few speak all of them.
    if name == "MqttSource":
        from edge_agent.sources.mqtt.source import MqttSource  # noqa: PLC0415

        return MqttSource
    raise AttributeError(name)
