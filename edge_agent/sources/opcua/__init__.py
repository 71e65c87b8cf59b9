"""OPC UA: subscriptions and polling with a delivery promise that the client library does not make."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.sources.opcua.source import OpcUaSource

__all__ = ["OpcUaSource"]


def __getattr__(name: str) -> object:
    # The library behind it takes a second to load; a configuration file is checked without it.
    if name == "OpcUaSource":
        from edge_agent.sources.opcua.source import OpcUaSource  # noqa: PLC0415

        return OpcUaSource
    raise AttributeError(name)
