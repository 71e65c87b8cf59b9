"""What a server is asked to watch, and what happens when it does not grant all of it."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.sources.opcua.changes import Changes
from edge_agent.sources.opcua.config import OpcUaConfig, SubscribeGroup
from edge_agent.sources.opcua.limits import Limits
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.nodes import Nodes
from edge_agent.sources.opcua.session import ServiceFault, Session
from shopfloor.errors import SourceUnavailable

COUNT = 240


def deadband(item: Any) -> Any:
    """Return the filter that an item was asked for with, None without any."""
    found = item.RequestedParameters.Filter
    return found if isinstance(found, ua.DataChangeFilter) else None


class PlayedSession:
    """Watches whatever it is asked to, but for deadbands where it has none."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.most = COUNT
        self.refuses: dict[int, int] = {}
        self.slow_above = COUNT
        self.sizes: list[int] = []
        self.items: list[Any] = []

    async def call(self, request: Any) -> bytes:
        asked = request.Parameters.ItemsToCreate
        self.sizes.append(len(asked))
        if len(asked) > self.most:
            raise ServiceFault("CreateMonitoredItems", StatusCodes.BadTooManyOperations)
        if len(asked) > self.slow_above:
            raise SourceUnavailable("no answer to CreateMonitoredItems within 5 s") from TimeoutError()
        self.items += asked
        response = ua.CreateMonitoredItemsResponse()
        response.Results = [self._result(item) for item in asked]
        return struct_to_binary(response)

    def _result(self, item: Any) -> ua.MonitoredItemCreateResult:
        parameters = item.RequestedParameters
        code = self.refuses.get(parameters.ClientHandle, 0) if deadband(item) is not None else 0
        return ua.MonitoredItemCreateResult(
            StatusCode=ua.StatusCode(ua.UInt32(code)),
            MonitoredItemId=ua.UInt32(1_000 + parameters.ClientHandle),
        )

    parse = staticmethod(Session.parse)

    def server_time(self, stated: int) -> int:
        return stated

    def server_now(self) -> int:
        return 0


class Sink:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number

    def state(self) -> dict[str, bytes]:
        return {}


def described(group: dict[str, Any], options: dict[int, dict[str, Any]] | None = None) -> OpcUaConfig:
    return OpcUaConfig.model_validate(
        {
            "name": "plc",
            "endpoint": "opc.tcp://plc:4840",
            "groups": {"live": group},
            "nodes": [
                {
                    "node": f"ns=2;i={number}",
                    "asset": "a/b/c/d/e",
                    "signal": f"s{number}",
                    **(options or {}).get(number, {}),
                }
                for number in range(COUNT)
            ],
        }
    )


class Played:
    def __init__(self, config: OpcUaConfig) -> None:
        self.session, self.sink = PlayedSession(), Sink()
        self._settings = cast("SubscribeGroup", config.group("live"))
        self.live = live = Live(
            cast("Any", self.session),
            config,
            cast("Any", self.sink),
            Nodes(config),
            cast("Any", None),
            lambda: 0,
        )
        self.changes = Changes(live)

    async def monitor(self) -> list[Any]:
        nodes = [(number, ua.NodeId(ua.Int32(number), ua.Int16(2))) for number in range(COUNT)]
        return (await self.changes.monitor(7, self._settings, nodes))[0]

    def filters(self) -> dict[int, Any]:
        """The filter that each node was asked to be watched with last."""
        return {item.RequestedParameters.ClientHandle: deadband(item) for item in self.session.items}


async def test_queue_sampling_and_discard_policy_are_asked_for_as_configured() -> None:
    for discard, oldest in (("oldest", True), ("newest", False)):
        group = {"mode": "subscribe", "queue_size": 7, "sampling_interval_ms": 20, "discard": discard}
        played = Played(described(group))
        assert await played.monitor() == [None] * COUNT
        parameters = played.session.items[0].RequestedParameters
        asked = (
            parameters.QueueSize,
            parameters.SamplingInterval,
            parameters.DiscardOldest,
            deadband(played.session.items[0]),
        )
        assert asked == (7, 20.0, oldest, None)


async def test_a_node_may_have_another_deadband_than_its_group() -> None:
    options = {3: {"deadband": {"percent": 2}}, 4: {"deadband": {"absolute": 0}}}
    played = Played(described({"mode": "subscribe", "deadband": {"absolute": 0.5}}, options))
    await played.monitor()
    filters = played.filters()
    assert (filters[0].DeadbandType, filters[0].DeadbandValue) == (ua.DeadbandType.Absolute, 0.5)
    assert filters[0].Trigger == ua.DataChangeTrigger.StatusValue
    assert (filters[3].DeadbandType, filters[3].DeadbandValue) == (ua.DeadbandType.Percent, 2.0)
    assert filters[4] is None


@pytest.mark.parametrize(
    "code",
    [
        StatusCodes.BadMonitoredItemFilterUnsupported,
        StatusCodes.BadMonitoredItemFilterInvalid,
        StatusCodes.BadFilterNotAllowed,
        StatusCodes.BadDeadbandFilterInvalid,
    ],
)
async def test_a_refused_deadband_is_done_without_and_said_once(
    code: int, caplog: pytest.LogCaptureFixture
) -> None:
    played = Played(described({"mode": "subscribe", "deadband": {"absolute": 0.5}}))
    played.session.refuses = dict.fromkeys((2, 5, 19), code)
    assert await played.monitor() == [None] * COUNT
    assert played.changes.items == {number: 1_000 + number for number in range(COUNT)}
    assert [number for number, filter_ in sorted(played.filters().items()) if filter_ is None] == [2, 5, 19]
    assert len(caplog.records) == 1
    assert "a/b/c/d/e:s2 (ns=2;i=2) is watched without a deadband" in caplog.text
    assert played.sink.counts["deadband_refused"] == 3
    # Whoever is watched anew in this session is not asked for again with what was refused.
    played.session.sizes.clear()
    await played.monitor()
    assert played.session.sizes == [COUNT]


async def test_other_refusals_are_the_nodes_own() -> None:
    played = Played(described({"mode": "subscribe", "deadband": {"absolute": 0.5}}))
    played.session.refuses = {2: StatusCodes.BadNodeIdUnknown}
    outcome = await played.monitor()
    assert outcome[2].reason == "BadNodeIdUnknown"
    assert [problem for problem in outcome if problem is None] == [None] * (COUNT - 1)


async def test_a_limit_that_lies_is_halved_and_no_node_is_left_out() -> None:
    played = Played(described({"mode": "subscribe", "deadband": {"absolute": 0.5}}))
    played.session.most = 6
    played.session.refuses = dict.fromkeys(range(COUNT), StatusCodes.BadFilterNotAllowed)
    assert await played.monitor() == [None] * COUNT
    assert sorted(played.changes.items) == list(range(COUNT))
    assert played.session.limits.monitor == 3


async def test_a_server_that_is_too_slow_is_asked_to_watch_fewer_in_the_next_session() -> None:
    played = Played(described({"mode": "subscribe"}))
    played.session.slow_above = 60
    with pytest.raises(SourceUnavailable, match="within 5 s"):
        await played.monitor()
    assert played.session.sizes == [COUNT]
    played.live.session.limits = Limits()
    played.live.nodes.begin()
    played.changes = Changes(played.live)
    assert await played.monitor() == [None] * COUNT
    assert played.session.sizes[1:] == [60, 60, 60, 60]


def test_mistakes_in_a_deadband_are_named() -> None:
    for mistake, reason in (
        ({}, "either absolute or percent"),
        ({"absolute": 1, "percent": 1}, "either absolute or percent"),
        ({"absolute": -1}, "greater than or equal to 0"),
        ({"percent": 101}, "less than or equal to 100"),
    ):
        with pytest.raises(ValueError, match=reason):
            described({"mode": "subscribe", "deadband": mistake})
    with pytest.raises(ValueError, match=r"nodes\.3\.deadband: group 'live' polls"):
        described({"mode": "poll"}, {3: {"deadband": {"absolute": 1}}})
