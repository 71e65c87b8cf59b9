"""Sparkplug B 3.0 as a source: this agent is a host application for the edge nodes of one broker."""

from edge_agent.sources.sparkplug.config import SparkplugConfig
from edge_agent.sources.sparkplug.source import SparkplugSource

__all__ = ["SparkplugConfig", "SparkplugSource"]
