"""OPC UA values of every kind for tests, and what each has to become by asyncua's reading of it."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

from asyncua import ua
from hypothesis import strategies as st

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
T = ua.VariantType
# int64 ns end in 1677 and 2262; asyncua's own times are whole microseconds.
moments = st.integers(-9 * 10**15, 9 * 10**15).map(
    lambda microseconds: EPOCH + timedelta(microseconds=microseconds)
)
strings = st.text(max_size=20)


def integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


def _node_ids() -> st.SearchStrategy[Any]:
    index: st.SearchStrategy[Any] = st.integers(0, 999).map(cast("Any", ua.Int16))
    return st.one_of(
        st.builds(ua.NodeId, st.integers(0, 2**31).map(cast("Any", ua.Int32)), index),
        st.builds(ua.NodeId, strings.map(cast("Any", ua.String)), index),
        st.builds(ua.NodeId, st.uuids(), index),
        st.builds(ua.NodeId, st.binary(max_size=9), index, st.just(ua.NodeIdType.ByteString)),
    )


scalars: dict[ua.VariantType, st.SearchStrategy[Any]] = {
    T.Null: st.none(),
    T.Boolean: st.booleans(),
    T.SByte: integers(8, signed=True),
    T.Byte: integers(8, signed=False),
    T.Int16: integers(16, signed=True),
    T.UInt16: integers(16, signed=False),
    T.Int32: integers(32, signed=True),
    T.UInt32: integers(32, signed=False),
    T.Int64: integers(64, signed=True),
    T.UInt64: integers(64, signed=False),
    T.Float: st.floats(width=32),
    T.Double: st.floats(),
    T.String: st.none() | strings,
    T.DateTime: moments,
    T.Guid: st.uuids(),
    T.ByteString: st.none() | st.binary(max_size=20),
    T.XmlElement: strings.map(cast("Any", ua.XmlElement)),
    T.NodeId: _node_ids(),
    T.ExpandedNodeId: st.builds(
        lambda name, uri, server: ua.ExpandedNodeId(name, ua.Int16(2), NamespaceUri=uri, ServerIndex=server),
        strings,
        st.none() | strings,
        st.integers(0, 3),
    ),
    T.StatusCode: integers(32, signed=False).map(lambda code: ua.StatusCode(ua.UInt32(code))),
    T.QualifiedName: strings.map(lambda name: ua.QualifiedName(name, ua.UInt16(3))),
    T.LocalizedText: st.builds(ua.LocalizedText, st.none() | strings, st.none() | st.just("de")),
}
"""Values of every built-in type that is not made of others."""


class Expected(NamedTuple):
    """What one value has to become."""

    value: float = float("nan")
    text: str | None = None
    null: bool = False


def ns(moment: Any) -> int:
    microseconds: int = (moment - EPOCH) // timedelta(microseconds=1)
    return microseconds * 1000


def node_text(node: Any) -> str:
    uri, server = getattr(node, "NamespaceUri", None), getattr(node, "ServerIndex", None)
    where = f"ns={node.NamespaceIndex};" if node.NamespaceIndex else ""
    if uri:
        where = f"nsu={uri.replace('%', '%25').replace(';', '%3B')};"
    if server:
        where = f"svr={server};{where}"
    kind = {ua.NodeIdType.String: "s", ua.NodeIdType.Guid: "g", ua.NodeIdType.ByteString: "b"}.get(
        node.NodeIdType, "i"
    )
    identifier = base64.b64encode(node.Identifier).decode() if kind == "b" else node.Identifier
    return f"{where}{kind}={identifier}"


def expected(content: Any, kind: ua.VariantType) -> Expected:
    """Return what a value has to become, as asyncua decoded it."""
    if content is None or kind is T.Null:
        return Expected(null=True)
    if kind is T.DateTime:
        return Expected(ns(content) / 1e9)
    if kind is T.StatusCode:
        return Expected(float(content.value))
    if kind is T.LocalizedText:
        return Expected(text=content.Text, null=content.Text is None)
    texts: dict[ua.VariantType, Any] = {
        T.String: str,
        T.Guid: str,
        T.ByteString: lambda raw: base64.b64encode(raw).decode(),
        T.XmlElement: lambda element: element.Value,
        T.QualifiedName: lambda name: name.Name,
        T.NodeId: node_text,
        T.ExpandedNodeId: node_text,
    }
    return Expected(text=texts[kind](content)) if kind in texts else Expected(float(content))
