"""The monitored items of a subscription: load variables in our own queues, all others left to asyncua."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Protocol, cast

from asyncua import ua
from asyncua.server.address_space import AddressSpace
from asyncua.server.monitored_item_service import MonitoredItemService
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from simulators.load.opcua_queues import NEVER, Item, ItemQueues, Terms
from simulators.load.opcua_records import SERVER, SOURCE
from simulators.load.plan import LoadPlan

MAX_QUEUE_SIZE: Final = 10_000
_STAMPS: Final = {
    ua.TimestampsToReturn.Source: SOURCE,
    ua.TimestampsToReturn.Server: SERVER,
    ua.TimestampsToReturn.Both: SOURCE | SERVER,
    ua.TimestampsToReturn.Neither: 0,
}
_GOOD: Final = ua.StatusCode()
_DATA_CHANGE_FILTER: Final = cast("Any", ua.NodeId)(ObjectIds.DataChangeFilter)


class Variables(Protocol):
    """What items are made of."""

    aspace: AddressSpace
    plan: LoadPlan
    numbers: Mapping[ua.NodeId, int]
    """`LoadPlan.number` of every load variable."""

    def now(self) -> tuple[int, int]:
        """Return the newest tick, and when it was made (UTC ms)."""


class Refused(Exception):
    """Why an item can't be monitored."""

    def __init__(self, code: Any) -> None:
        super().__init__(code)
        self.status = ua.StatusCode(code)


class LoadItems(MonitoredItemService):
    """The monitored items of one subscription."""

    def __init__(self, isub: Any, load: Variables) -> None:
        super().__init__(isub, load.aspace)
        self._load = load
        self.interval_ms = float(isub.data.RevisedPublishingInterval)
        """Of publishing: the sampling interval of items that leave it to the subscription."""
        self.queues = ItemQueues(load.plan, *load.now())

    async def create_monitored_items(self, params: Any) -> list[Any]:
        """Create items in the order asked for; the few that are not load variables are asyncua's."""
        results = []
        for request in params.ItemsToCreate:
            wanted = request.ItemToMonitor
            number = self._load.numbers.get(wanted.NodeId)
            if number is None or wanted.AttributeId != AttributeIds.Value:
                results += await super().create_monitored_items(
                    ua.CreateMonitoredItemsParameters(
                        params.SubscriptionId, params.TimestampsToReturn, [request]
                    )
                )
                continue
            result = ua.MonitoredItemCreateResult()
            try:
                _check(wanted)
                terms = self._terms(
                    request.RequestedParameters, params.TimestampsToReturn, request.MonitoringMode
                )
            except Refused as refusal:
                result.StatusCode = refusal.status
            else:
                self._monitored_item_counter += 1
                item = Item(self._monitored_item_counter, request.RequestedParameters.ClientHandle, number)
                self.queues.add(item, terms)
                result.MonitoredItemId = item.item_id
                self._revise(result, terms)
            results.append(result)
        return results

    def modify_monitored_items(self, params: Any) -> list[Any]:
        """Change handles, queues, sampling and filters."""
        results = []
        for request in params.ItemsToModify:
            result = ua.MonitoredItemModifyResult()
            if request.MonitoredItemId in self.queues:
                item, old = self.queues.item(request.MonitoredItemId)
                try:
                    terms = self._terms(request.RequestedParameters, params.TimestampsToReturn, _mode(old))
                except Refused as refusal:
                    result.StatusCode = refusal.status
                else:
                    self.queues.change(item._replace(handle=request.RequestedParameters.ClientHandle), terms)
                    self._revise(result, terms)
            elif request.MonitoredItemId in self._monitored_items:
                result = self._modify_monitored_item(request)
            else:
                result.StatusCode = Refused(StatusCodes.BadMonitoredItemIdInvalid).status
            results.append(result)
        return results

    async def set_monitoring_mode(self, mode: Any, ids: Any) -> list[ua.StatusCode]:
        """Report, only sample, or do neither."""
        results = []
        for item_id in ids:
            if item_id in self.queues:
                item, terms = self.queues.item(item_id)
                self.queues.change(item, terms._replace(**_monitoring(mode)))
                results.append(_GOOD)
            else:
                results.append(await self._set_monitoring_mode(mode, item_id))
        return results

    def delete_monitored_items(self, ids: Any) -> list[ua.StatusCode]:
        """Forget items."""
        results = []
        for item_id in ids:
            if item_id in self.queues:
                self.queues.remove(item_id)
                results.append(_GOOD)
            else:
                results.append(self._delete_monitored_items(item_id))
        return results

    def delete_all_monitored_items(self) -> None:
        """Forget all items."""
        self.delete_monitored_items([*self.queues, *self._monitored_items])

    def _terms(self, asked: Any, timestamps: Any, mode: Any) -> Terms:
        stamps = _STAMPS.get(timestamps)
        if stamps is None:
            raise Refused(StatusCodes.BadTimestampsToReturnInvalid)
        period_ms = 1000 / self._load.plan.hz
        interval_ms = asked.SamplingInterval
        if interval_ms < 0:  # as often as is published (Part 4 §7.21)
            interval_ms = self.interval_ms
        step = max(1, round(interval_ms / period_ms)) if math.isfinite(interval_ms) else 1
        step = _filtered(asked.Filter, step)
        size = min(max(1, asked.QueueSize), MAX_QUEUE_SIZE)
        return Terms(size, bool(asked.DiscardOldest), step, stamps, **_monitoring(mode))

    def _revise(self, result: Any, terms: Terms) -> None:
        # A filter makes the step longer than that, but not shorter; the values are looked at every tick anyway.
        result.RevisedSamplingInterval = max(1, terms.step) * 1000 / self._load.plan.hz
        result.RevisedQueueSize = terms.queue_size


def _check(wanted: Any) -> None:
    """Refuse what a scalar Double in the binary encoding does not have."""
    if wanted.IndexRange:
        raise Refused(StatusCodes.BadIndexRangeNoData)
    if wanted.DataEncoding is not None and wanted.DataEncoding.Name not in {None, "", "Default Binary"}:
        raise Refused(StatusCodes.BadDataEncodingUnsupported)


def _monitoring(mode: Any) -> dict[str, bool]:
    return {
        "enabled": mode != ua.MonitoringMode.Disabled,
        "reporting": mode == ua.MonitoringMode.Reporting,
    }


def _mode(terms: Terms) -> ua.MonitoringMode:
    if not terms.enabled:
        return ua.MonitoringMode.Disabled
    return ua.MonitoringMode.Reporting if terms.reporting else ua.MonitoringMode.Sampling


def _filtered(wanted: Any, step: int) -> int:
    """Return at which multiple of ticks a filter lets a value through: values grow by 1 a tick (Part 4 §7.22.2)."""
    if wanted is None or (isinstance(wanted, ua.ExtensionObject) and wanted.Body is None):
        return step
    # Not by its class: loading data types, asyncua makes further classes of the same name.
    if getattr(wanted, "data_type", None) != _DATA_CHANGE_FILTER:
        raise Refused(StatusCodes.BadFilterNotAllowed)
    if wanted.Trigger == ua.DataChangeTrigger.Status:
        return NEVER
    if wanted.DeadbandType == ua.DeadbandType.None_:
        return step
    if wanted.DeadbandType != ua.DeadbandType.Absolute:  # a percentage needs an EURange, which there is not
        raise Refused(StatusCodes.BadMonitoredItemFilterUnsupported)
    if not 0 <= wanted.DeadbandValue < math.inf:
        raise Refused(StatusCodes.BadDeadbandFilterInvalid)
    ticks: int = math.floor(wanted.DeadbandValue) + 1
    return step * math.ceil(ticks / step)
