"""What of a server's events is listened to: notifiers, the fields that are selected, and their monitored items."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from edge_agent.sources.opcua.alarms import FIELDS, Book
from edge_agent.sources.opcua.browsing import Problem
from edge_agent.sources.opcua.coverage import series_id
from edge_agent.sources.opcua.event_config import AlarmConfig, EventConfig, parse_event_type, parse_field
from edge_agent.sources.opcua.event_fields import (
    FieldName,
    Path,
    TypeTree,
    all_fields,
    event_filter,
    find_type,
    named_field,
    of_type_only,
    type_tree,
)
from edge_agent.sources.opcua.event_rows import Target
from edge_agent.sources.opcua.session import YES, ServiceFault, Session, standard_node, status_name
from shopfloor.errors import SourceUnavailable

log = logging.getLogger(__name__)

_CONDITION: Final = standard_node(ObjectIds.ConditionType)
OVERFLOW: Final = f"i={ObjectIds.EventQueueOverflowEventType}"
REFRESH_START: Final = f"i={ObjectIds.RefreshStartEventType}"
REFRESH_END: Final = f"i={ObjectIds.RefreshEndEventType}"
REFRESH_REQUIRED: Final = f"i={ObjectIds.RefreshRequiredEventType}"
"""Event types that come whatever the filter is (Part 4 §7.22.3, Part 9 §5.11)."""


@dataclass(slots=True, eq=False)
class Listener:
    """One notifier and what is wanted of it."""

    config: EventConfig | AlarmConfig
    number: int
    """Its client handle, and its number in the books."""
    targets: list[Target] = field(default_factory=list)
    """What the selected fields become, in their order; none for alarms."""
    filter: ua.EventFilter | None = None
    node: ua.NodeId | None = None
    """The notifier, while it is listened to."""
    with_history: bool = False
    """Whether the notifier's history of events can be read."""
    book: Book | None = None
    """Of alarms."""
    reason: str = ""
    """Why it can't be listened to."""
    next_try_s: float = 0.0
    delay_s: float = 0.0

    @property
    def key(self) -> str:
        """What it is known by over restarts."""
        if isinstance(self.config, AlarmConfig):
            return f"{self.config.notifier} alarms {self.config.prefix}"
        signals = sorted(each.signal for each in self.config.named.values()) or [self.config.prefix]
        return f"{self.config.notifier} {self.config.type} {','.join(signals)}"

    @property
    def short_key(self) -> str:
        """`key` and asset, as keys of a state hold it."""
        return series_id(str(self.config.asset), self.key)


class Types:
    """The event types of one session, each looked at once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._trees: dict[ua.NodeId, TypeTree] = {}

    async def prepare(self, listener: Listener, saved: Mapping[str, bytes]) -> str:
        """Find out what to select; return why there is nothing to be listened to, empty if there is.

        Args:
            listener: gets its filter, and its targets or its book.
            saved: books of alarms by `Listener.short_key`.

        Raises:
            ServiceFault: the server does not let its types be browsed.
        """
        config = listener.config
        if isinstance(config, AlarmConfig):
            known = await self._tree(_CONDITION)
            # Servers should send these whatever the filter is; asyncua's does not.
            refreshes = [
                standard_node(int(each[2:])) for each in (REFRESH_START, REFRESH_END, REFRESH_REQUIRED)
            ]
            tree = TypeTree(_CONDITION, [*known.subtypes, *refreshes])
            paths = [tuple(FieldName(name, 0) for name in names) for names in FIELDS]
            listener.filter = event_filter(paths, tree, condition=True)
            if listener.book is None:
                listener.book = Book(config.prefix, config.max_conditions)
                listener.book.restore(saved.get(listener.short_key))
            return ""
        root = await find_type(self._session, parse_event_type(config.type))
        if isinstance(root, Problem):
            return root.reason
        tree = await self._tree(root)
        fields = self._fields(config, tree)
        if isinstance(fields, Problem):
            return fields.reason
        listener.targets = list(fields)
        listener.filter = event_filter(fields.values(), tree)
        return ""

    def _fields(self, config: EventConfig, tree: TypeTree) -> dict[Target, Path] | Problem:
        if config.fields == "all":
            found, more = all_fields(tree, config.prefix, config.max_fields)
            if more:
                log.warning("%s: %d fields more than max_fields are left out", config.label, more)
            return {Target(signal): path for signal, path in found.items()}
        fields: dict[Target, Path] = {}
        missing = []
        for text, each in config.named.items():
            path = named_field(self._session, tree, parse_field(text))
            if isinstance(path, Problem):
                missing.append(path.reason)
            else:
                fields[Target(each.signal, each.scale, each.offset)] = path
        if missing:
            log.warning("%s: %s", config.label, "; ".join(missing[:5]))
        return fields or Problem("; ".join(missing[:5]))

    async def _tree(self, root: ua.NodeId) -> TypeTree:
        tree = self._trees.get(root)
        if tree is None:
            tree = self._trees[root] = await type_tree(self._session, root)
        return tree


async def monitor(
    session: Session,
    subscription: int,
    node: ua.NodeId,
    wanted: ua.EventFilter,
    *,
    handle: int,
    queue_size: int,
) -> tuple[str, ua.EventFilter]:
    """Create a notifier's monitored item.

    Returns:
        Why the server does not, empty if it does; and the filter that it has then.
    """

    async def attempt(filtered: ua.EventFilter) -> ua.StatusCode:
        return await _create(session, subscription, node, filtered, handle, queue_size)

    status = await attempt(wanted)
    if not status.is_good() and len(wanted.WhereClause.Elements) > 1:
        # Simple servers take one condition and no more.
        plain = ua.EventFilter(wanted.SelectClauses, of_type_only(_root_of(wanted)))
        again = await attempt(plain)
        if again.is_good():
            return "", plain
    return "" if status.is_good() else status_name(status.value), wanted


async def ask_for_conditions(session: Session, subscription: int) -> str:
    """Have the server name all conditions that stand (Part 9 §5.5.7); return why it does not, empty if it does."""
    request = ua.CallRequest()
    request.Parameters.MethodsToCall = [
        ua.CallMethodRequest(
            ObjectId=_CONDITION,
            MethodId=standard_node(ObjectIds.ConditionType_ConditionRefresh),
            InputArguments=[ua.Variant(subscription, ua.VariantType.UInt32)],
        )
    ]
    try:
        answer = await session.ask(request, ua.CallResponse)
    except ServiceFault as fault:
        return str(fault)
    status = answer.Results[0].StatusCode if answer.Results else ua.StatusCode()
    return "" if status.is_good() else status_name(status.value)


async def _create(
    session: Session,
    subscription: int,
    node: ua.NodeId,
    wanted: ua.EventFilter,
    handle: int,
    queue_size: int,
) -> ua.StatusCode:
    request = ua.CreateMonitoredItemsRequest()
    request.Parameters.SubscriptionId = ua.UInt32(subscription)
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Neither
    request.Parameters.ItemsToCreate = [
        ua.MonitoredItemCreateRequest(
            ItemToMonitor=ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.EventNotifier),
            MonitoringMode=ua.MonitoringMode.Reporting,
            RequestedParameters=ua.MonitoringParameters(
                ClientHandle=ua.UInt32(handle),
                SamplingInterval=ua.Double(0),
                Filter=wanted,
                QueueSize=ua.UInt32(queue_size),
                DiscardOldest=YES,
            ),
        )
    ]
    answer = await session.ask(request, ua.CreateMonitoredItemsResponse)
    if len(answer.Results) != 1:
        raise SourceUnavailable(f"CreateMonitoredItems: {len(answer.Results)} results for 1 notifier")
    status: ua.StatusCode = answer.Results[0].StatusCode
    return status


def _root_of(wanted: ua.EventFilter) -> ua.NodeId:
    """Return the type that a filter of ours is for: it stands in its second element."""
    node: ua.NodeId = wanted.WhereClause.Elements[1].FilterOperands[0].Value.Value
    return node
