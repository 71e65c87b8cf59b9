"""Subscriptions of a load server: asyncua's, but the queues and notifications of load variables are our own.

asyncua makes an object of every value on its way to every subscriber, which costs it 100 us. Here a notification is
bytes already when asyncua gets it, wrapped as an extension object that it copies. Sessions, publishing cycles, keep-alives
and lifetimes stay asyncua's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_subscription import InternalSubscription
from asyncua.server.subscription_service import SubscriptionService
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from simulators.load.opcua_items import LoadItems
from simulators.load.plan import LoadPlan

MAX_VALUES_PER_MESSAGE: Final = 10_000
"""300 KB: no client's limits are near, and little memory waits to be sent again."""
MIN_PUBLISHING_INTERVAL_MS: Final = 10.0
_DEFAULT_INTERVAL_MS: Final = 1000.0
_KEPT_MESSAGES: Final = 200
_KEPT_BYTES: Final = 8 * 2**20
"""What waits for an acknowledgement, and can be asked for again, in one subscription."""
_GOOD: Final = ua.StatusCode()
_BODY_TYPE: Final = cast("Any", ua.NodeId)(ObjectIds.DataChangeNotification_Encoding_DefaultBinary)


class LoadSubscription(InternalSubscription):
    """One subscription."""

    monitored_item_srv: LoadItems

    def __init__(self, load: LoadSubscriptions, max_values: int, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._load = load
        self._max_values = _message_size(max_values)
        self.monitored_item_srv = LoadItems(self, load)
        self._kept_bytes: dict[int, int] = {}

    def modify(self, params: Any) -> Any:
        """Take other intervals, counts and message sizes from now on (Part 4 §5.13.3)."""
        self._load.revise(self.data, params)
        self._max_values = _message_size(params.MaxNotificationsPerPublish)
        self.monitored_item_srv.interval_ms = self.data.RevisedPublishingInterval
        if self._task is not None:
            self._task.cancel()
            self._task = asyncio.create_task(self._subscription_loop())
        return self.data

    def has_published_results(self) -> bool:
        """Whether there is something to say; called by asyncua once a publishing cycle."""
        return self._pending or bool(super().has_published_results())

    @property
    def _pending(self) -> bool:
        return bool(self._publishing_enabled) and self.monitored_item_srv.queues.pending

    async def publish_results(self, requestdata: Any = None) -> bool:
        """Answer as many Publish requests as what is queued needs, by what the client accepts in one."""
        sent = bool(await super().publish_results(requestdata))
        more = sent
        while more and self._pending:
            more = await super().publish_results()
        return sent

    def _pop_triggered_datachanges(self, result: ua.PublishResult) -> None:
        super()._pop_triggered_datachanges(result)
        count, body = self.monitored_item_srv.queues.pop(self._max_values)
        if count:
            encoded: Any = ua.ExtensionObject(_BODY_TYPE, cast("Any", body))
            cast("Any", result.NotificationMessage.NotificationData).append(encoded)
            self._kept_bytes[self._notification_seq] = len(body)
            self._load.sent(count)

    def _pop_publish_result(self) -> ua.PublishResult:
        result: Any = super()._pop_publish_result()
        result.MoreNotifications = self._pending
        kept = self._not_acknowledged_results
        self._kept_bytes = {number: size for number, size in self._kept_bytes.items() if number in kept}
        while len(kept) > _KEPT_MESSAGES or (len(kept) > 1 and sum(self._kept_bytes.values()) > _KEPT_BYTES):
            oldest = next(iter(kept))
            del kept[oldest]
            self._kept_bytes.pop(oldest, None)
        result.AvailableSequenceNumbers = list(kept)
        return cast("ua.PublishResult", result)

    def acknowledge(self, number: int) -> ua.StatusCode:
        """Drop a message that the client has."""
        if self._not_acknowledged_results.pop(number, None) is None:
            return ua.StatusCode(cast("Any", StatusCodes.BadSequenceNumberUnknown))
        self._load.acknowledged_total += 1
        return _GOOD

    def republish(self, nb: int) -> ua.NotificationMessage:
        """Return a message again; it is kept until it is acknowledged (Part 4 §5.13.6)."""
        result = self._not_acknowledged_results.get(nb)
        if result is None:
            raise ServiceError(cast("Any", StatusCodes.BadMessageNotAvailable))
        return cast("ua.NotificationMessage", result.NotificationMessage)


def _message_size(asked: int) -> int:
    return min(asked or MAX_VALUES_PER_MESSAGE, MAX_VALUES_PER_MESSAGE)


class LoadSubscriptions(SubscriptionService):
    """All subscriptions of a server."""

    subscriptions: dict[int, LoadSubscription]  # type: ignore[assignment]

    def __init__(
        self,
        iserver: Any,
        plan: LoadPlan,
        numbers: Mapping[ua.NodeId, int],
        now: Callable[[], tuple[int, int]],
    ) -> None:
        super().__init__(iserver.aspace, iserver)
        self.plan = plan
        self.numbers = numbers
        self.now = now
        self.sent_values_total = 0
        self.sent_messages_total = 0
        self.acknowledged_total = 0
        self._discarded_before = 0

    @property
    def discarded_total(self) -> int:
        """Values lost because a subscriber's queues were full."""
        return self._discarded_before + sum(
            subscription.monitored_item_srv.queues.discarded_total
            for subscription in self.subscriptions.values()
        )

    def sent(self, values: int) -> None:
        """Count a notification."""
        self.sent_values_total += values
        self.sent_messages_total += 1

    def sample(self, tick: int, server_ms: int) -> None:
        """Tell every subscription of a tick."""
        for subscription in self.subscriptions.values():
            subscription.monitored_item_srv.queues.sample(tick, server_ms)

    async def create_subscription(
        self, params: Any, callback: Any, session_id: Any, request_callback: Any = None
    ) -> Any:
        """Create a subscription with the client's interval, counts and message size (Part 4 §5.13.2)."""
        assert self.iserver is not None
        if len(self.subscriptions) >= self.iserver.max_subscriptions:
            raise ServiceError(cast("Any", StatusCodes.BadTooManySubscriptions))
        self._sub_id_counter += 1
        number = self._sub_id_counter
        result: Any = ua.CreateSubscriptionResult()
        result.SubscriptionId = number
        self.revise(result, params)
        subscription = LoadSubscription(
            self,
            params.MaxNotificationsPerPublish,
            result,
            self.aspace,
            callback,
            session_id,
            request_callback=request_callback,
            delete_callback=lambda: self._forget(number),
            max_queue_size=self.iserver.max_monitored_item_queue_size,
            publishing_enabled=params.PublishingEnabled,
        )
        self.subscriptions[number] = subscription
        await subscription.start()
        return result

    def revise(self, result: Any, params: Any) -> None:
        """Fill in what a client gets of the interval and the counts that it asked for."""
        asked = params.RequestedPublishingInterval
        result.RevisedPublishingInterval = (
            max(asked, MIN_PUBLISHING_INTERVAL_MS) if math.isfinite(asked) else _DEFAULT_INTERVAL_MS
        )
        result.RevisedMaxKeepAliveCount = self._clamp_keep_alive_count(params.RequestedMaxKeepAliveCount)
        # At least three times the keep-alives (Part 4 §5.13.2.2).
        result.RevisedLifetimeCount = self._clamp_lifetime_count(
            max(params.RequestedLifetimeCount, 3 * result.RevisedMaxKeepAliveCount)
        )

    def modify_subscription(self, params: Any) -> ua.ModifySubscriptionResult:
        """Change a subscription; raises ServiceError where there is none."""
        subscription = self.subscriptions.get(params.SubscriptionId)
        if subscription is None:
            raise ServiceError(cast("Any", StatusCodes.BadSubscriptionIdInvalid))
        data = subscription.modify(params)
        return ua.ModifySubscriptionResult(
            data.RevisedPublishingInterval, data.RevisedLifetimeCount, data.RevisedMaxKeepAliveCount
        )

    def _forget(self, number: int) -> None:
        subscription = self.subscriptions.pop(number, None)
        if subscription is not None:
            self._discarded_before += subscription.monitored_item_srv.queues.discarded_total

    async def delete_subscriptions(self, ids: Any) -> list[ua.StatusCode]:
        """End subscriptions."""
        for number in ids:
            subscription = self.subscriptions.get(number)
            if subscription is not None:
                self._discarded_before += subscription.monitored_item_srv.queues.discarded_total
        return await super().delete_subscriptions(ids)

    def publish(self, acks: Any) -> tuple[int, list[ua.StatusCode]]:
        """Take acknowledgements; returns how many subscriptions there are, and a result for each acknowledgement."""
        if not self.subscriptions:
            raise ServiceError(cast("Any", StatusCodes.BadNoSubscription))
        results = []
        for each in acks:
            subscription = self.subscriptions.get(each.SubscriptionId)
            if subscription is None:
                results.append(ua.StatusCode(cast("Any", StatusCodes.BadSubscriptionIdInvalid)))
            else:
                results.append(subscription.acknowledge(each.SequenceNumber))
        return len(self.subscriptions), results

    def republish(self, params: Any) -> ua.NotificationMessage:
        """Return a message again; raises ServiceError where it is gone."""
        subscription = self.subscriptions.get(params.SubscriptionId)
        if subscription is None:
            raise ServiceError(cast("Any", StatusCodes.BadSubscriptionIdInvalid))
        return subscription.republish(params.RetransmitSequenceNumber)

    async def transfer_subscriptions(self, params: Any, session_id: Any, callback: Any) -> Sequence[Any]:  # type: ignore[override]
        """Give subscriptions to another session: its Publish requests answer for them from now on."""
        results = await super().transfer_subscriptions(params, session_id, callback)
        for number in params.SubscriptionIds:
            if number in self.subscriptions:
                self.subscriptions[number].pub_request_callback = callback.__self__.get_publish_request
        return cast("Sequence[Any]", results)
