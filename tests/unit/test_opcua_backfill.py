"""Histories that give less than they are asked for, or take their time."""

from __future__ import annotations

import pytest
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.session import ServiceFault
from shopfloor.errors import SourceUnavailable
from tests.unit.opcua_history import PlayedHistory, everything, fill, with_a_hole


@pytest.mark.parametrize(
    "failure",
    [
        TimeoutError(),
        ServiceFault("HistoryRead", StatusCodes.BadTooManyOperations),
        ServiceFault("HistoryRead", StatusCodes.BadEncodingLimitsExceeded),
    ],
)
async def test_fewer_nodes_are_asked_for_when_all_are_too_much(failure: Exception) -> None:
    session = PlayedHistory()
    session.most_nodes, session.failure = 2, failure
    sink = await fill(with_a_hole(session))
    assert sink.found == everything()
    assert [size for size, _ in session.asked[:3]] == [8, 4, 2]
    assert session.limits.history == 2


@pytest.mark.parametrize(
    "failure", [TimeoutError(), ServiceFault("HistoryRead", StatusCodes.BadResponseTooLarge)]
)
async def test_fewer_values_are_asked_for_when_one_node_is_too_much(failure: Exception) -> None:
    session = PlayedHistory()
    session.most_values, session.failure = 30, failure
    sink = await fill(with_a_hole(session))
    assert sink.found == everything()
    assert sink.counts["history_refused"] >= 1
    assert session.asked[-1][1] <= 30


async def test_another_failure_of_the_connection_is_one() -> None:
    session = PlayedHistory()
    session.most_nodes, session.failure = 0, SourceUnavailable("the connection is closed")
    with pytest.raises(SourceUnavailable, match="the connection is closed"):
        await fill(with_a_hole(session))
    assert session.released == []
