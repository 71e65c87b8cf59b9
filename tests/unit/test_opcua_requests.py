"""Requests encoded once are what asyncua would have sent."""

from __future__ import annotations

from typing import Any

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary, struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sources.opcua.requests import EncodedRequest, encode, publish_request, request_name
from edge_agent.sources.opcua.session import read_request

tokens: st.SearchStrategy[Any] = st.builds(
    lambda number, space: ua.NodeId(ua.Int32(number), ua.Int16(space)),
    st.integers(0, 2**31 - 1),
    st.integers(0, 999),
) | st.builds(lambda opaque: ua.NodeId(opaque, ua.Int16(1), ua.NodeIdType.ByteString), st.binary(min_size=1))


def decoded(request: EncodedRequest, kind: type[Any], token: Any, handle: int, timeout_s: float) -> Any:
    body = request.body(token, handle, timeout_s)
    assert nodeid_from_binary(Buffer(body)) == kind().TypeId
    return struct_from_binary(kind, Buffer(body))


@given(st.lists(st.text(max_size=20), max_size=5), tokens, st.integers(0, 2**33), st.floats(0, 600))
def test_a_read_says_the_same_as_asyncuas(
    names: list[str], token: Any, handle: int, timeout_s: float
) -> None:
    request = read_request([ua.NodeId(ua.String(name), ua.Int16(2)) for name in names], AttributeIds.Value)
    found = decoded(encode(request), ua.ReadRequest, token, handle, timeout_s)
    assert struct_to_binary(found.Parameters) == struct_to_binary(request.Parameters)
    assert found.RequestHeader.AuthenticationToken == token
    assert found.RequestHeader.RequestHandle == handle % 2**32
    assert found.RequestHeader.TimeoutHint == round(timeout_s * 1000)
    assert found.RequestHeader.AuditEntryId is None
    assert abs((found.RequestHeader.Timestamp - request.RequestHeader.Timestamp).total_seconds()) < 60


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=5))
def test_a_publish_acknowledges(pairs: list[tuple[int, int]]) -> None:
    found = decoded(publish_request(pairs), ua.PublishRequest, ua.NodeId(), 1, 0)
    acknowledged = found.Parameters.SubscriptionAcknowledgements or []
    assert [(each.SubscriptionId, each.SequenceNumber) for each in acknowledged] == pairs


def test_both_kinds_of_request_have_the_name_of_their_service() -> None:
    assert request_name(ua.BrowseRequest()) == "Browse"
    assert request_name(encode(ua.ReadRequest())) == "Read"
    assert request_name(publish_request([])) == "Publish"
