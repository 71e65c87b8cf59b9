"""How many nodes go into one request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from asyncua.ua.object_ids import ObjectIds

from edge_agent.sources.opcua.request_config import LimitsConfig

LimitName = Literal["read", "monitor", "translate", "browse", "history"]
_DEFAULT_LIMIT: Final = 500
"""Nodes in a request where the server states no limit: small controllers get far slower above a few hundred."""
_LARGEST_READ: Final = 10_000
LARGEST_LIMIT: Final = 1_000
"""Nodes in a request where the server states that it takes so many or more. Reads are decoded as columns, whatever
their size; what asyncua encodes and decodes must not hold up everything else."""
_DEFAULT_HISTORY_LIMIT: Final = 50
CAUTIOUS: Final = 500
"""Nodes in a request after one was not answered in time."""

_LARGEST: Final[dict[LimitName, int]] = {"history": _DEFAULT_HISTORY_LIMIT, "read": _LARGEST_READ}


@dataclass(slots=True)
class Limits:
    """How many nodes the server takes in one request."""

    read: int = _DEFAULT_LIMIT
    history: int = _DEFAULT_HISTORY_LIMIT
    monitor: int = _DEFAULT_LIMIT
    translate: int = _DEFAULT_LIMIT
    browse: int = _DEFAULT_LIMIT

    def learn(self, name: LimitName, stated: object) -> None:
        """Note what the server states; 0, and whatever is no number, is nothing."""
        if isinstance(stated, int) and stated > 0:
            setattr(self, name, min(stated, _LARGEST.get(name, LARGEST_LIMIT)))

    def override(self, configured: LimitsConfig) -> None:
        """Have what a user wrote count, whatever the server says."""
        for name, number in configured.model_dump(exclude_none=True).items():
            setattr(self, name, number)


LIMIT_NODES: Final[dict[LimitName, int]] = {
    "read": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    "history": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData,
    "monitor": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    "translate": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds,
    "browse": ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
}
