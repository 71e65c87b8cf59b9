"""Sparkplug B 3.0 as a source: this agent is a host application for the edge nodes of one broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.sources.sparkplug.config import SparkplugConfig

if TYPE_CHECKING:
    from edge_agent.sources.sparkplug.source import SparkplugSource

__all__ = ["SparkplugConfig", "SparkplugSource"]


def __getattr__(name: str) -> object:
    # Every agent reads the configuration of all protocols, and few speak all of them.
    if name == "SparkplugSource":
        from edge_agent.sources.sparkplug.source import SparkplugSource  # noqa: PLC0415

        return SparkplugSource
    raise AttributeError(name)
