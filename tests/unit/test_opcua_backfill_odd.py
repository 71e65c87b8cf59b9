"""One node whose history is odd: it waits by itself, and is complained of once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.sources.opcua import backfill
from edge_agent.sources.opcua.session import ServiceFault
from shopfloor.errors import SourceUnavailable
from tests.unit.opcua_history import BEGIN, SECOND, PlayedHistory, everything, fill, with_a_hole

ODD = 3


def status(code: int) -> Callable[[], Any]:
    return lambda: ua.HistoryReadResult(StatusCode=ua.StatusCode(ua.UInt32(code)))


def endless() -> Any:
    return ua.HistoryReadResult(ContinuationPoint=b"more", HistoryData=ua.HistoryData([]))


class HalfBroken(PlayedHistory):
    """Fails whenever the odd node is asked for, whatever else is."""

    async def call_history(self, request: Any) -> bytes:
        nodes = request.Parameters.NodesToRead
        if any(node.NodeId.Identifier == ODD for node in nodes):
            self.asked_of[ODD] += 1
            if isinstance(self.failure, TimeoutError):
                raise SourceUnavailable("no answer to HistoryRead within 20 s") from self.failure
            if isinstance(self.failure, ServiceFault):
                raise self.failure
            return struct_to_binary(cast("Any", ua.HistoryReadResponse()))
        return await super().call_history(request)


async def test_a_history_without_an_end_holds_up_no_other() -> None:
    session = PlayedHistory()
    session.odd[ODD] = endless
    filling = with_a_hole(session)
    sink = await fill(filling, lambda: filling.sink.counts["history_refused"] >= 2)
    assert sink.found == everything(but=ODD)
    assert [hole.nodes for hole in filling.live.coverage.holes.values()] == [(ODD,)]
    assert session.asked_of[ODD] <= 250, "it is left in peace after some hundred empty answers"
    assert set(session.released) == {b"more"}, "the server may forget where it would have gone on"
    assert sink.gaps == []


@pytest.mark.parametrize("code", [StatusCodes.BadInternalError, StatusCodes.BadResourceUnavailable])
async def test_a_node_that_is_refused_holds_up_no_younger_hole(code: int) -> None:
    session = PlayedHistory()
    session.odd[ODD] = status(code)
    filling = with_a_hole(session)
    younger = (ODD + 1,)
    filling.live.coverage.add_hole(younger, BEGIN + 200 * SECOND, BEGIN + 300 * SECOND)
    sink = await fill(filling, lambda: filling.sink.counts["history_refused"] >= 3)
    assert sink.found == everything(but=ODD)
    assert [hole.nodes for hole in filling.live.coverage.holes.values()] == [(ODD,)]
    # When it has come to reason, nothing is missing.
    session.odd.clear()
    assert (await fill(filling)).found == everything()


@pytest.mark.parametrize(
    "failure",
    [TimeoutError(), ServiceFault("HistoryRead", StatusCodes.BadResponseTooLarge), ValueError("nonsense")],
)
async def test_a_node_that_spoils_whole_answers_is_found_and_set_aside(failure: Exception) -> None:
    session = HalfBroken()
    session.failure = failure
    filling = with_a_hole(session)
    sink = await fill(filling, lambda: filling.sink.counts["history_refused"] >= 3)
    assert sink.found == everything(but=ODD)
    assert [hole.nodes for hole in filling.live.coverage.holes.values()] == [(ODD,)]
    assert session.limits.history == 8, "it was not the number of nodes"
    assert session.asked_of[ODD] <= 8, "the others need not be halved again for it"


async def test_a_history_that_is_refused_is_said_once_and_its_end_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backfill, "_WELL_S", 0.0)
    session = PlayedHistory()
    session.odd[ODD] = status(StatusCodes.BadInternalError)
    filling = with_a_hole(session)
    with caplog.at_level(logging.INFO):
        await fill(filling, lambda: filling.sink.counts["history_refused"] >= 3)
        # Another session goes on with the same trouble.
        await fill(filling, lambda: filling.sink.counts["history_refused"] >= 5)
        (line,) = caplog.messages
        assert "s3" in line
        assert "BadInternalError" in line
        session.odd.clear()
        await fill(filling, lambda: len(caplog.messages) > 1)
    assert "works again" in caplog.messages[1]
    assert len(caplog.messages) == 2
