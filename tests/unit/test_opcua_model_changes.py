"""Changes of the address space: who is asked for them, and what they start."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua import search
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.coverage import Coverage, Mark
from edge_agent.sources.opcua.decode import Columns, Notification
from edge_agent.sources.opcua.discovery import Discovery
from edge_agent.sources.opcua.kept import Kept, Tracked
from edge_agent.sources.opcua.limits import Limits
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.model_changes import MODEL, ModelChanges
from edge_agent.sources.opcua.nodes import Nodes
from edge_agent.sources.opcua.session import ServiceFault
from edge_agent.sources.opcua.subscription import Subscriptions
from edge_agent.sources.opcua.walk import Walk

CONFIG = OpcUaConfig.model_validate(
    {
        "name": "plc",
        "endpoint": "opc.tcp://plc:4840",
        "retry_s": 0.1,
        "rebrowse_s": 86_400,
        "globs": [{"path": "/*", "asset": "a/b", "signal": "{name}"}],
    }
)
MARK = Mark(0, 0)


class PlayedSession:
    """A server with subscriptions, which may know nothing of changes of its address space."""

    def __init__(self) -> None:
        self.config = CONFIG
        self.limits = Limits()
        self.inherited: Kept | None = None
        self.keep: Any = None
        self.subscriptions = 0
        self.most_subscriptions = 10
        self.refusals: list[int] = []
        self.asked: list[tuple[int, int]] = []
        """Subscription and number of conditions of each monitored item that was asked for."""

    async def ask(self, request: Any, _response: Any) -> Any:
        if isinstance(request, ua.CreateSubscriptionRequest):
            if self.subscriptions == self.most_subscriptions:
                raise ServiceFault("CreateSubscription", StatusCodes.BadTooManySubscriptions)
            self.subscriptions += 1
            answer = ua.CreateSubscriptionResponse()
            number = ua.UInt32(self.subscriptions)
            answer.Parameters = ua.CreateSubscriptionResult(
                number, ua.Double(100.0), ua.UInt32(600), ua.UInt32(10)
            )
            return answer
        (item,) = request.Parameters.ItemsToCreate
        where = item.RequestedParameters.Filter.WhereClause.Elements
        self.asked.append((int(request.Parameters.SubscriptionId), len(where)))
        code = self.refusals.pop(0) if self.refusals else 0
        return SimpleNamespace(Results=[SimpleNamespace(StatusCode=ua.StatusCode(ua.UInt32(code)))])

    async def read_namespaces(self) -> None:
        pass


class Sink:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number

    def state(self) -> dict[str, bytes]:
        return {}

    def report(self, *_: Any) -> None:
        pass


class World:
    def __init__(self) -> None:
        self.session, self.sink = PlayedSession(), Sink()
        coverage = Coverage("plc", [], {}, overlap_ns=0, batch=50)
        self.live = Live(
            cast("Any", self.session), CONFIG, cast("Any", self.sink), Nodes(CONFIG), coverage, lambda: 0
        )
        self.subscriptions = Subscriptions(self.live)
        self.changes = ModelChanges(self.live)


def notification(*events: bytes) -> Notification:
    return Notification(1, 1, False, 0, True, Columns(), 0, events)


async def test_changes_are_asked_for_in_the_subscription_that_there_is() -> None:
    world = World()
    await world.subscriptions.create("live", CONFIG.group("live"))  # type: ignore[arg-type]
    await world.changes.listen(world.subscriptions)
    assert world.session.subscriptions == 1
    assert world.session.asked == [(1, 3)]
    # A session that goes on with it does not ask again.
    await world.changes.listen(world.subscriptions)
    assert len(world.session.asked) == 1


async def test_changes_have_a_subscription_of_their_own_where_all_is_polled() -> None:
    world = World()
    await world.changes.listen(world.subscriptions)
    assert MODEL in world.subscriptions
    assert world.session.asked == [(1, 3)]
    tracked = world.subscriptions.tracked(MODEL)
    await world.changes.take(tracked, notification(b"any"), 0, MARK)
    await world.changes.idle(tracked, 0, MARK)
    assert world.live.search_wanted.is_set()
    assert world.sink.counts["address_space_changed"] == 1


@pytest.mark.parametrize("code", [StatusCodes.BadEventFilterInvalid, StatusCodes.BadAttributeIdInvalid])
async def test_a_server_that_does_not_report_changes_is_asked_once_a_session(code: int) -> None:
    world = World()
    world.session.refusals = [code, code]
    await world.subscriptions.create("live", CONFIG.group("live"))  # type: ignore[arg-type]
    await world.changes.listen(world.subscriptions)
    assert world.session.asked == [(1, 3), (1, 1)], "the second time with the plainest filter"
    assert not world.subscriptions.tracked("live").hears_model


async def test_a_server_that_takes_no_more_subscriptions_is_searched_as_before() -> None:
    world = World()
    world.session.most_subscriptions = 0
    await world.changes.listen(world.subscriptions)
    assert world.session.asked == []
    assert MODEL not in world.subscriptions


async def test_a_change_comes_with_changes_of_values_too() -> None:
    world = World()

    class Durable(Sink):
        async def put(self, *_: Any) -> None:
            pass

    world.live.sink = cast("Any", Durable())
    tracked = Tracked(number=1, group="live", silent_s=1, lifetime_s=1, last_heard_s=0)
    await world.subscriptions._changes.take(tracked, notification(b"any"), 0, MARK)
    assert world.live.search_wanted.is_set()


async def test_a_change_starts_a_search_and_a_thousand_changes_do_not_start_a_thousand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    searches: list[float] = []
    loop = asyncio.get_running_loop()

    async def walk(_session: Any, _rules: Any) -> Walk:
        searches.append(loop.time())
        return Walk([], [], frozenset({0}))

    monkeypatch.setattr(search, "walk", walk)

    async def attach(_numbers: Any) -> None:
        raise AssertionError("there is nothing")

    task = asyncio.create_task(search.keep_searching(world.live, Discovery(CONFIG.rules, []), attach))
    async with asyncio.timeout(60):
        while len(searches) < 4:
            world.live.model_changed()
            await asyncio.sleep(0.001)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert min(later - sooner for sooner, later in itertools.pairwise(searches)) >= 0.099
    assert world.sink.counts["address_space_changed"] > 3
