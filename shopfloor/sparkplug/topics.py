"""Sparkplug's topics and the STATE message of host applications (Eclipse Sparkplug 3.0, sections 4 and 6.4.20)."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from shopfloor.sparkplug.model import SparkplugDecodeError

NAMESPACE: Final = "spBv1.0"
NODE_MESSAGES: Final = frozenset({"NBIRTH", "NDEATH", "NDATA", "NCMD"})
DEVICE_MESSAGES: Final = frozenset({"DBIRTH", "DDEATH", "DDATA", "DCMD"})
STATE: Final = "STATE"


class Topic(NamedTuple):
    """A topic's parts; ``str()`` writes it."""

    type: str
    """NBIRTH, NDEATH, NDATA, NCMD, DBIRTH, DDEATH, DDATA, DCMD or STATE."""
    group: str = ""
    """Group id; empty for STATE."""
    edge: str = ""
    """Edge node id; empty for STATE."""
    device: str | None = None
    """Device id, for the D messages."""
    host: str = ""
    """Host id, for STATE only."""

    def __str__(self) -> str:
        if self.type == STATE:
            return f"{NAMESPACE}/{STATE}/{self.host}"
        node = f"{NAMESPACE}/{self.group}/{self.type}/{self.edge}"
        return node if self.device is None else f"{node}/{self.device}"


def parse_topic(text: str) -> Topic | None:
    """Return the parts of a Sparkplug B topic, or None if it is none (4.1 and 4.2)."""
    parts = text.split("/")
    if parts[0] != NAMESPACE or not all(parts) or "+" in text or "#" in text:
        return None
    match parts[1:]:
        case ["STATE", host]:
            return Topic(STATE, host=host)
        case [group, kind, edge] if kind in NODE_MESSAGES:
            return Topic(kind, group, edge)
        case [group, kind, edge, device] if kind in DEVICE_MESSAGES:
            return Topic(kind, group, edge, device)
    return None


class HostState(NamedTuple):
    """What a host application says of itself."""

    online: bool
    timestamp_ms: int
    """When the host's session began, UTC: the same in its birth and its will."""


class _State(msgspec.Struct):
    online: bool
    timestamp: int


_decoder: Final = msgspec.json.Decoder(_State)


def encode_state(state: HostState) -> bytes:
    """Encode a STATE message: ``{"online":bool,"timestamp":ms}``."""
    return msgspec.json.encode(_State(state.online, state.timestamp_ms))


def decode_state(data: bytes) -> HostState:
    """Decode a STATE message; raises SparkplugDecodeError."""
    try:
        state = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SparkplugDecodeError(f"no STATE message: {error}", 0) from error
    return HostState(state.online, state.timestamp)
