"""Sparkplug B 3.0: payloads, topics and STATE messages. No connection, no protobuf library.

`encode_payload` and `decode_payload` are ours because the libraries that exist pin versions that nothing else
accepts; tests hold them against two of those. What a payload means to a host or an edge node lies with those.
"""

from shopfloor.sparkplug.decode import MAX_BYTES, MAX_METRICS, decode_payload
from shopfloor.sparkplug.encode import encode_metric, encode_payload
from shopfloor.sparkplug.model import (
    BD_SEQ,
    REBIRTH,
    SEQ_MODULO,
    DataType,
    Metric,
    Payload,
    SparkplugDecodeError,
    Unsupported,
    bd_seq_metric,
    bd_seq_of,
    signed,
)
from shopfloor.sparkplug.protobuf import MAX_NESTING
from shopfloor.sparkplug.topics import (
    DEVICE_MESSAGES,
    NAMESPACE,
    NODE_MESSAGES,
    STATE,
    HostState,
    Topic,
    decode_state,
    encode_state,
    parse_topic,
)

__all__ = [
    "BD_SEQ",
    "DEVICE_MESSAGES",
    "MAX_BYTES",
    "MAX_METRICS",
    "MAX_NESTING",
    "NAMESPACE",
    "NODE_MESSAGES",
    "REBIRTH",
    "SEQ_MODULO",
    "STATE",
    "DataType",
    "HostState",
    "Metric",
    "Payload",
    "SparkplugDecodeError",
    "Topic",
    "Unsupported",
    "bd_seq_metric",
    "bd_seq_of",
    "decode_payload",
    "decode_state",
    "encode_metric",
    "encode_payload",
    "encode_state",
    "parse_topic",
    "signed",
]
