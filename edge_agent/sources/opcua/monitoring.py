"""What a server is asked to watch of a variable (Part 4 §5.13.2): sampling, queue, deadband."""

from __future__ import annotations

import logging
from typing import Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.config import SubscribeGroup
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.request_config import DeadbandConfig
from edge_agent.sources.opcua.session import NO, YES, status_name

log = logging.getLogger(__name__)

_REFUSALS: Final = frozenset(
    {
        StatusCodes.BadMonitoredItemFilterInvalid,
        StatusCodes.BadMonitoredItemFilterUnsupported,
        StatusCodes.BadFilterNotAllowed,
        StatusCodes.BadDeadbandFilterInvalid,
    }
)
"""The variable can be watched, but not with a deadband."""


class Deadbands:
    """Which variables of one session have a deadband, and of which the server refused it."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._refused: set[int] = set()
        self._told: set[tuple[str, int]] = set()

    def wanted(self, number: int, settings: SubscribeGroup) -> DeadbandConfig | None:
        """Return the deadband to ask for, None without any."""
        if number in self._refused:
            return None
        chosen = self._live.nodes.configs[number].deadband or settings.deadband
        return chosen if chosen is not None and chosen.size else None

    def refused(self, number: int, settings: SubscribeGroup, status: int) -> bool:
        """Tell whether only the deadband keeps the server from watching a variable; it is not asked for again then."""
        if status & 0xFFFF_0000 not in _REFUSALS or self.wanted(number, settings) is None:
            return False
        self._refused.add(number)
        self._live.sink.count("deadband_refused")
        config = self._live.nodes.configs[number]
        if (config.group, status) not in self._told:
            self._told.add((config.group, status))
            log.warning(
                "%s is watched without a deadband, and so may be others of group %s: %s",
                config.label,
                config.group,
                status_name(status),
            )
        return True


def item_request(
    number: int, node: ua.NodeId, settings: SubscribeGroup, deadband: DeadbandConfig | None
) -> ua.MonitoredItemCreateRequest:
    """Return the request to watch one variable; its client handle is ``number``."""
    parameters = ua.MonitoringParameters(
        ClientHandle=ua.UInt32(number),
        SamplingInterval=ua.Double(settings.sampling_interval_ms),
        QueueSize=ua.UInt32(settings.queue_size),
        DiscardOldest=YES if settings.discard == "oldest" else NO,
    )
    if deadband is not None:
        percent = deadband.percent is not None
        parameters.Filter = ua.DataChangeFilter(
            Trigger=ua.DataChangeTrigger.StatusValue,
            DeadbandType=ua.UInt32(ua.DeadbandType.Percent if percent else ua.DeadbandType.Absolute),
            DeadbandValue=ua.Double(deadband.size),
        )
    return ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value),
        MonitoringMode=ua.MonitoringMode.Reporting,
        RequestedParameters=parameters,
    )
