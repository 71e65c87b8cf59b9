"""How the simulated devices speak over MQTT, and what a correct collector makes of it. No sockets here.

Each dialect turns moments or readings into `Said`: a message, and the samples that it holds. `topics` of a dialect is
the edge agent's configuration that reads it.
"""

from simulators.protocols.mqtt_dialects.gateway import Gateway
from simulators.protocols.mqtt_dialects.packml import PackML
from simulators.protocols.mqtt_dialects.plain_meter import METER_SIGNALS, PlainMeter, meter_payload
from simulators.protocols.mqtt_dialects.said import (
    CellDialect,
    Dialect,
    Message,
    MeterDialect,
    Said,
    Shown,
    Stored,
    Topic,
    distinct_topics,
    log_rows,
    repeated,
)
from simulators.protocols.mqtt_dialects.shelly import Shelly
from simulators.protocols.mqtt_dialects.tasmota import Tasmota
from simulators.protocols.mqtt_dialects.umh import Umh

__all__ = [
    "METER_SIGNALS",
    "CellDialect",
    "Dialect",
    "Gateway",
    "Message",
    "MeterDialect",
    "PackML",
    "PlainMeter",
    "Said",
    "Shelly",
    "Shown",
    "Stored",
    "Tasmota",
    "Topic",
    "Umh",
    "distinct_topics",
    "log_rows",
    "meter_payload",
    "repeated",
]
