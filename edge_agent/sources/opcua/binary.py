"""OPC UA's binary encoding (Part 6 §5.2) at the level of bytes: reading the little that matters, skipping the rest.

Every function takes the whole body and a position, and returns the position behind what it read.
"""

from __future__ import annotations

import base64
import struct
import uuid
from typing import Final

U16: Final = struct.Struct("<H")
U32: Final = struct.Struct("<I")
I32: Final = struct.Struct("<i")
I64: Final = struct.Struct("<q")
NUMBERS: Final[dict[int, struct.Struct]] = {
    1: struct.Struct("<?"),
    2: struct.Struct("<b"),
    3: struct.Struct("<B"),
    4: struct.Struct("<h"),
    5: U16,
    6: I32,
    7: U32,
    8: I64,
    9: struct.Struct("<Q"),
    10: struct.Struct("<f"),
    11: struct.Struct("<d"),
    19: U32,
}
"""Built-in types that are numbers (Part 6 §5.1.2), StatusCode among them."""
NULL, STRING, DATE_TIME, GUID, BYTE_STRING, XML = 0, 12, 13, 14, 15, 16
NODE_ID, EXPANDED_NODE_ID, QUALIFIED_NAME, LOCALIZED_TEXT = 17, 18, 20, 21
EXTENSION_OBJECT, DATA_VALUE, VARIANT, DIAGNOSTIC_INFO = 22, 23, 24, 25
_MAX_DEPTH: Final = 32


class MalformedMessage(ValueError):
    """Bytes that are not what the server's answer should be."""


def read_length(body: bytes, at: int) -> tuple[int, int]:
    """Read the length of an array or string (absent is 0); raises MalformedMessage where it can't be true."""
    (length,) = I32.unpack_from(body, at)
    if length > len(body) - at:
        raise MalformedMessage(f"{length} elements in {len(body) - at} bytes")
    return max(length, 0), at + 4


def read_count(body: bytes, at: int, kind: int) -> tuple[int, int]:
    """`read_length` of an array of a built-in type: of nulls, which have no bytes, there may be any number."""
    if kind != NULL:
        return read_length(body, at)
    return max(I32.unpack_from(body, at)[0], 0), at + 4


def read_bytes(body: bytes, at: int) -> tuple[bytes | None, int]:
    """Read a String, ByteString or XmlElement, None where it is null."""
    (length,) = I32.unpack_from(body, at)
    at += 4
    if length < 0:
        return None, at
    if length > len(body) - at:
        raise MalformedMessage(f"{length} bytes announced, {len(body) - at} left")
    return body[at : at + length], at + length


def skip_node_id(body: bytes, at: int) -> int:
    """Skip a NodeId or ExpandedNodeId."""
    encoding = body[at]
    form = encoding & 0x0F
    at += 1
    if form <= 2:
        at += (1, 3, 6)[form]
    elif form in {3, 5}:
        _, at = read_bytes(body, at + 2)
    elif form == 4:
        at += 18
    else:
        raise MalformedMessage(f"NodeId of unknown form {form}")
    if encoding & 0x80:
        _, at = read_bytes(body, at)
    if encoding & 0x40:
        at += 4
    return at


def read_node_id(body: bytes, at: int) -> tuple[str, int]:
    """Read a NodeId or ExpandedNodeId as text (Part 6 §5.3.1.10 and §5.3.1.11), such as ``ns=2;s=Temp``."""
    encoding = body[at]
    form = encoding & 0x0F
    if form in {0, 1, 2}:
        namespace, number = (_TWO_BYTE, _FOUR_BYTE, _NUMERIC)[form].unpack_from(body, at + 1)
        at += (2, 4, 7)[form]
        identifier = f"i={number}"
    elif form in {3, 4, 5}:
        (namespace,) = U16.unpack_from(body, at + 1)
        if form == 4:
            guid, at = read_guid(body, at + 3)
            identifier = f"g={guid}"
        else:
            raw, at = read_bytes(body, at + 3)
            name = base64.b64encode(raw or b"").decode() if form == 5 else _lenient(raw or b"")
            identifier = f"{'b' if form == 5 else 's'}={name}"
    else:
        raise MalformedMessage(f"NodeId of unknown form {form}")
    where = f"ns={namespace};" if namespace else ""
    if encoding & 0x80:
        uri, at = read_bytes(body, at)
        if uri:
            where = f"nsu={_lenient(uri).replace('%', '%25').replace(';', '%3B')};"
    if encoding & 0x40:
        (server,) = U32.unpack_from(body, at)
        at += 4
        where = f"svr={server};{where}" if server else where
    return where + identifier, at


_TWO_BYTE: Final = struct.Struct("<0sB")
_FOUR_BYTE: Final = struct.Struct("<BH")
_NUMERIC: Final = struct.Struct("<HI")


def read_guid(body: bytes, at: int) -> tuple[str, int]:
    """Read a Guid as text."""
    raw = body[at : at + 16]
    if len(raw) < 16:
        raise MalformedMessage("a Guid ends behind the message")
    return str(uuid.UUID(bytes_le=raw)), at + 16


def _lenient(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")


def read_extension(body: bytes, at: int) -> tuple[int, int, int]:
    """Read an ExtensionObject's frame: the numeric type (0 where it is not a plain one), the start of the content, the position behind."""
    encoding = body[at]
    kind = 0
    if encoding == 0:
        kind = body[at + 1]
    elif encoding == 1 and body[at + 1] == 0:
        (kind,) = U16.unpack_from(body, at + 2)
    elif encoding == 2 and U16.unpack_from(body, at + 1)[0] == 0:
        (kind,) = U32.unpack_from(body, at + 3)
    at = skip_node_id(body, at)
    if body[at] == 0:
        return kind, at + 1, at + 1
    length, start = read_length(body, at + 1)
    if start + length > len(body):
        raise MalformedMessage("an extension object ends behind the message")
    return kind, start, start + length


def skip_extension(body: bytes, at: int) -> int:
    """Skip an ExtensionObject."""
    return read_extension(body, at)[2]


def skip_diagnostic(body: bytes, at: int, depth: int) -> int:
    """Skip a DiagnosticInfo; ``depth`` counts how deep it lies in others."""
    if depth > _MAX_DEPTH:
        raise MalformedMessage("nested too deeply")
    mask = body[at]
    at += 1 + 4 * (mask & 0x0F).bit_count()
    if mask & 0x10:
        _, at = read_bytes(body, at)
    if mask & 0x20:
        at += 4
    return skip_diagnostic(body, at, depth + 1) if mask & 0x40 else at


def skip_variant(body: bytes, at: int, depth: int) -> int:
    """Skip a Variant of any type and shape."""
    if depth > _MAX_DEPTH:
        raise MalformedMessage("nested too deeply")
    encoding = body[at]
    kind = encoding & 0x3F
    at += 1
    if not encoding & 0x80:
        return skip_scalar(body, at, kind, depth)
    count, at = read_count(body, at, kind)
    number = NUMBERS.get(kind)
    if number is not None:
        at += count * number.size
    elif kind != NULL:
        # Elements without any bytes could be as many as a count that lies says.
        for _ in range(count):
            at = skip_scalar(body, at, kind, depth)
    if encoding & 0x40:
        dimensions, at = read_length(body, at)
        at += 4 * dimensions
    return at


def skip_scalar(body: bytes, at: int, kind: int, depth: int) -> int:
    """Skip one value of a built-in type."""
    number = NUMBERS.get(kind)
    if number is not None:
        return at + number.size
    if kind == NULL:
        return at
    if kind == DATE_TIME:
        return at + 8
    if kind == GUID:
        return at + 16
    if kind in {NODE_ID, EXPANDED_NODE_ID}:
        return skip_node_id(body, at)
    if kind == QUALIFIED_NAME:
        return read_bytes(body, at + 2)[1]
    if kind == LOCALIZED_TEXT:
        mask = body[at]
        at += 1
        for bit in (1, 2):
            if mask & bit:
                _, at = read_bytes(body, at)
        return at
    if kind == EXTENSION_OBJECT:
        return skip_extension(body, at)
    if kind == DATA_VALUE:
        return _skip_data_value(body, at, depth + 1)
    if kind == VARIANT:
        return skip_variant(body, at, depth + 1)
    if kind == DIAGNOSTIC_INFO:
        return skip_diagnostic(body, at, depth + 1)
    # String, ByteString and XmlElement; the reserved types 26 to 31 are encoded as a ByteString too.
    return read_bytes(body, at)[1]


def _skip_data_value(body: bytes, at: int, depth: int) -> int:
    mask = body[at]
    at += 1
    if mask & 0x01:
        at = skip_variant(body, at, depth)
    return at + sum(size for bit, size in _FIELDS if mask & bit)


_FIELDS: Final = ((0x02, 4), (0x04, 8), (0x08, 8), (0x10, 2), (0x20, 2))
