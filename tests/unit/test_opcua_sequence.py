"""Numbers of notifications: what is missing between them is fetched, and what can't be had is not passed over."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_to_binary

from edge_agent.sources.opcua.config import SubscribeGroup
from edge_agent.sources.opcua.decode import MalformedMessage, Notification
from edge_agent.sources.opcua.kept import Kept, SubscriptionLost, following, is_behind, only_interrupted
from edge_agent.sources.opcua.session import ServiceFault
from edge_agent.sources.opcua.subscription import Subscriptions
from shopfloor.errors import SourceMisconfigured, SourceUnavailable, StoreUnavailable

NUMBER = 7
HIGHEST = 2**32 - 1


def message(sequence: int, *, data: bool = True) -> ua.NotificationMessage:
    found = [ua.DataChangeNotification()] if data else []
    return ua.NotificationMessage(SequenceNumber=ua.UInt32(sequence), NotificationData=found)


def published(sequence: int, *, data: bool = True) -> bytes:
    response = ua.PublishResponse()
    response.Parameters.SubscriptionId = ua.UInt32(NUMBER)
    response.Parameters.NotificationMessage = message(sequence, data=data)
    return struct_to_binary(response)


def transferred(sequence: int) -> bytes:
    """What a server says to the session that a subscription is taken from (Part 4 §5.14.7.1)."""
    change = ua.StatusChangeNotification()
    change.Status = ua.StatusCode(ua.UInt32(StatusCodes.GoodSubscriptionTransferred))
    response = ua.PublishResponse()
    response.Parameters.SubscriptionId = ua.UInt32(NUMBER)
    response.Parameters.NotificationMessage = ua.NotificationMessage(
        SequenceNumber=ua.UInt32(sequence), NotificationData=[change]
    )
    return struct_to_binary(response)


class FakeSession:
    """A server of one subscription that says what it is told to, and remembers what it was told."""

    def __init__(self) -> None:
        self.config = SimpleNamespace(
            name="imm", keepalive_s=1.0, request_timeout_s=1.0, session_timeout_s=60.0
        )
        self.limits = SimpleNamespace(monitor=500)
        self.to_publish: asyncio.Queue[bytes] = asyncio.Queue()
        self.stored: dict[int, bytes] = {}
        """What Republish finds, by number."""
        self.fault = StatusCodes.BadMessageNotAvailable
        self.acknowledged: list[int] = []
        self.asked_for: list[int] = []
        self.deleted: list[int] = []
        self.inherited: Kept | None = None
        self.keep: Any = None

    def store(self, *sequences: int) -> None:
        for sequence in sequences:
            self.stored[sequence] = struct_to_binary(
                ua.RepublishResponse(NotificationMessage=message(sequence))
            )

    async def ask(self, request: Any, _response: Any) -> Any:
        if isinstance(request, ua.TransferSubscriptionsRequest):
            return ua.TransferSubscriptionsResponse(
                Parameters=ua.TransferSubscriptionsResult([ua.TransferResult()])
            )
        assert isinstance(request, ua.CreateSubscriptionRequest)
        answer = ua.CreateSubscriptionResponse()
        answer.Parameters = ua.CreateSubscriptionResult(
            ua.UInt32(NUMBER), ua.Double(100.0), ua.UInt32(600), ua.UInt32(10)
        )
        return answer

    async def call(self, request: Any, _timeout_s: float | None = None) -> bytes:
        if isinstance(request, ua.DeleteSubscriptionsRequest):
            self.deleted += request.Parameters.SubscriptionIds
            return b""
        if isinstance(request, ua.RepublishRequest):
            sequence = int(request.Parameters.RetransmitSequenceNumber)
            self.asked_for.append(sequence)
            if sequence in self.stored:
                return self.stored[sequence]
            raise ServiceFault("Republish", self.fault)
        count = int.from_bytes(request.parameters[:4], "little", signed=True)
        numbers = [
            int.from_bytes(request.parameters[at : at + 4], "little") for at in range(8, 4 + 8 * count, 8)
        ]
        self.acknowledged += numbers
        return await self.to_publish.get()

    def server_time(self, stated: int) -> int:
        return stated


class Taker:
    """Notes what it is given; may be told that the disk is full."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.idled = 0
        self.full = False

    async def take(self, _tracked: Any, notification: Notification, _received: int, _mark: Any) -> None:
        if self.full:
            raise StoreUnavailable("the disk is full")
        self.taken.append(notification.sequence)

    async def idle(self, *_: Any) -> None:
        self.idled += 1


class Sink:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number


class World:
    """One source: its server, its sink, and one session after the other."""

    def __init__(self) -> None:
        self.session = FakeSession()
        self.sink = Sink()
        self.taker = Taker()
        self.subscriptions = self._session()

    def _session(self) -> Subscriptions:
        live: Any = SimpleNamespace(
            session=self.session,
            config=self.session.config,
            sink=self.sink,
            clock=lambda: 1,
            nodes=SimpleNamespace(ids={}, readable=set(), works=None, configs=[], watched_at_once=0),
            coverage=None,
        )
        return Subscriptions(live)

    async def run(self, *bodies: bytes, taken: int) -> None:
        """Publish until so many messages are taken; raises what ended it."""
        for body in bodies:
            self.session.to_publish.put_nowait(body)
        task = asyncio.create_task(self.subscriptions.run())
        try:
            async with asyncio.timeout(30):
                while not task.done() and len(self.taker.taken) + self.taker.idled < taken:
                    await asyncio.sleep(0)
                if not task.done():
                    # What was taken is acknowledged with the next request.
                    for _ in range(5):
                        await asyncio.sleep(0)
        finally:
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(result, BaseExceptionGroup):
            raise result.exceptions[0]
        if not isinstance(result, asyncio.CancelledError):
            raise result

    async def create(self) -> None:
        await self.subscriptions.create("live", SubscribeGroup(), self.taker)

    async def break_and_go_on(self, *, foreign: bool = False) -> None:
        """The connection breaks, and the next session takes over what the last one leaves."""
        kept = self.session.keep()
        assert kept is not None
        kept.foreign = foreign
        self.session.inherited = kept
        self.subscriptions = self._session()
        await self.subscriptions.inherit({"live": self.taker})


@pytest.fixture
async def world() -> World:
    world = World()
    await world.create()
    return world


def test_numbers_go_round_without_a_zero() -> None:
    assert following(1) == 2
    assert following(HIGHEST) == 1
    assert is_behind(4, 5)
    assert not is_behind(6, 5)
    assert is_behind(HIGHEST, 1)
    assert not is_behind(1, HIGHEST)


async def test_what_is_missing_is_fetched_in_order(world: World) -> None:
    world.session.store(2, 3)
    await world.run(published(1), published(4), taken=4)
    assert world.taker.taken == [1, 2, 3, 4]
    assert world.session.acknowledged == [1, 2, 3, 4]
    assert world.sink.counts == {"notification_republished": 2}


async def test_a_keep_alive_tells_of_what_was_lost_before_it(world: World) -> None:
    world.session.store(2)
    await world.run(published(1), published(3, data=False), published(3), taken=4)
    assert world.taker.taken == [1, 2, 3]
    assert world.taker.idled == 1
    assert world.session.acknowledged == [1, 2, 3]


async def test_a_keep_alive_that_is_as_expected_asks_for_nothing(world: World) -> None:
    # The last one is of a server that tells the number of what it has sent, not of what comes next.
    await world.run(published(1), published(2, data=False), published(1, data=False), taken=3)
    assert world.session.asked_for == []
    assert world.taker.idled == 2


@pytest.mark.parametrize("fault", [StatusCodes.BadMessageNotAvailable, StatusCodes.BadServiceUnsupported])
@pytest.mark.parametrize("data", [True, False])
async def test_what_is_not_to_be_had_ends_the_session_for_good(world: World, fault: int, data: bool) -> None:
    world.session.fault = fault
    with pytest.raises(SubscriptionLost, match="notification 2 is missing, 3 came instead"):
        await world.run(published(1), published(3, data=data), taken=9)
    assert world.taker.taken == [1]
    assert world.sink.counts["missed_notification"] == 1


async def test_what_comes_twice_is_left_to_the_buffer_to_recognise(world: World) -> None:
    await world.run(published(1), published(2), published(1), published(3), taken=4)
    assert world.taker.taken == [1, 2, 1, 3]
    assert world.sink.counts == {"notification_repeated": 1}


async def test_numbers_go_on_behind_the_highest(world: World) -> None:
    world.session.store(1)
    await world.run(published(HIGHEST), published(2), taken=3)
    assert world.taker.taken == [HIGHEST, 1, 2]


async def test_after_an_interruption_comes_what_was_sent_meanwhile(world: World) -> None:
    await world.run(published(1), taken=1)
    world.session.store(2, 3)
    await world.break_and_go_on()
    assert world.taker.taken == [1, 2, 3]
    await world.run(published(4), taken=4)
    assert world.taker.taken == [1, 2, 3, 4]
    assert sorted(set(world.session.acknowledged)) == [1, 2, 3, 4]


async def test_a_first_message_that_was_lost_is_fetched_as_well(world: World) -> None:
    world.session.store(1)
    await world.break_and_go_on()
    assert world.taker.taken == [1]


async def test_what_the_disk_did_not_take_is_not_forgotten(world: World) -> None:
    """A server may have sent it for the last time: asyncua's forgets a message that was republished."""
    world.taker.full = True
    with pytest.raises(StoreUnavailable):
        await world.run(published(1), published(2), taken=9)
    assert world.session.acknowledged == []
    with pytest.raises(StoreUnavailable):
        await world.break_and_go_on()
    world.taker.full = False
    await world.break_and_go_on()
    assert world.taker.taken == [1, 2]


async def test_a_subscription_that_is_gone_is_not_gone_on_with(world: World) -> None:
    await world.run(published(1), taken=1)
    world.session.fault = StatusCodes.BadSubscriptionIdInvalid
    await world.break_and_go_on()
    assert "live" not in world.subscriptions


async def test_a_group_that_is_not_wanted_any_more_costs_no_other(world: World) -> None:
    await world.run(published(1), taken=1)
    kept = world.session.keep()
    kept.tracked.append(replace(kept.tracked[0], number=8, group="(events)"))
    world.session.keep = lambda: kept
    world.session.store(2)
    await world.break_and_go_on()
    assert world.taker.taken == [1, 2]
    assert ("live" in world.subscriptions, "(events)" in world.subscriptions) == (True, False)
    assert world.session.deleted == [8]


async def test_nothing_is_gone_on_with_that_the_books_on_disk_do_not_know(world: World) -> None:
    with world.subscriptions.joining():
        assert world.session.keep() is None
    assert world.session.keep() is not None
    with pytest.raises(SourceUnavailable), world.subscriptions.joining():
        raise SourceUnavailable("connection lost")
    assert world.session.keep() is None


async def test_without_republish_the_next_number_tells(world: World) -> None:
    await world.run(published(1), taken=1)
    world.session.fault = StatusCodes.BadServiceUnsupported
    await world.break_and_go_on()
    await world.run(published(2), taken=2)
    assert world.taker.taken == [1, 2]


async def test_the_heir_of_a_subscription_goes_on_though_it_is_told_that_it_was_taken_away(
    world: World,
) -> None:
    await world.run(published(1), taken=1)
    await world.break_and_go_on(foreign=True)
    await world.run(transferred(2), published(3), taken=2)
    assert world.taker.taken == [1, 3]
    assert sorted(set(world.session.acknowledged)) == [1, 2, 3]
    assert world.session.asked_for == [2]
    with pytest.raises(SubscriptionLost, match="GoodSubscriptionTransferred"):
        await world.run(transferred(4), taken=9)


async def test_a_subscription_that_another_session_takes_is_lost(world: World) -> None:
    await world.run(published(1), taken=1)
    with pytest.raises(SubscriptionLost, match="GoodSubscriptionTransferred"):
        await world.run(transferred(2), taken=9)


def test_what_ends_a_session_decides_whether_it_is_gone_on_with() -> None:
    broken = SourceUnavailable("connection lost")
    malformed = SourceUnavailable("malformed")
    malformed.__cause__ = MalformedMessage("too short")
    lost = SubscriptionLost("missing")
    assert only_interrupted(broken)
    assert only_interrupted(StoreUnavailable("full"))
    assert only_interrupted(BaseExceptionGroup("tasks", [broken, ExceptionGroup("more", [broken])]))
    for other in (
        malformed,
        lost,
        SourceMisconfigured("user"),
        asyncio.CancelledError(),
        ServiceFault("Read", 1),
    ):
        assert not only_interrupted(other)
        assert not only_interrupted(BaseExceptionGroup("tasks", [broken, other]))
