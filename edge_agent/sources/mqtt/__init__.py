"""MQTT as a source: JSON and plain text from machines, meters and gateways, acknowledged once durable."""

from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.source import MqttSource

__all__ = ["MqttConfig", "MqttSource"]
