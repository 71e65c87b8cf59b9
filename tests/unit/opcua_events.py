"""Events as a server writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.sources.opcua.event_rows import read_events
from shopfloor.asset import parse_asset

V = ua.VariantType
TIME = datetime(2025, 6, 1, 12, 0, 0, 123_456, tzinfo=UTC)
TIME_NS = 1_748_779_200_123_456_000
KIND = ua.NodeId(ua.Int32(1038), ua.Int16(2))
HEAD = [ua.Variant(b"\x01\x02", V.ByteString), ua.Variant(KIND, V.NodeId), ua.Variant(TIME, V.DateTime)]
ASSET = parse_asset("acme/hk01")


def content(*events: list[Any]) -> bytes:
    """Return what lies in an EventNotificationList of events, whose client handles are 0, 1, …"""
    found = ua.EventNotificationList(
        [ua.EventFieldList(ua.UInt32(handle), [*HEAD, *event]) for handle, event in enumerate(events)]
    )
    return struct_to_binary(found)


def field(variant: ua.Variant) -> bytes:
    [(_, row)] = read_events(content([variant]))
    return row.fields[0]
