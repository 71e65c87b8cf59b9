"""What a Sparkplug host makes of what an edge node says, without a broker."""

from __future__ import annotations

from collections import Counter
from typing import Any

from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.sparkplug.catalogue import Catalogue
from edge_agent.sources.sparkplug.findings import Gap
from edge_agent.sources.sparkplug.host import Host
from edge_agent.sources.sparkplug.presence import Presence
from shopfloor.block import Sample
from shopfloor.sparkplug import DataType, Metric
from tests.integration.sparkplug_edge_node import EDGE, GROUP, Said, Voice, config

MS = 1_000_000
NOW_MS = 1_763_778_000_000
NCMD = f"spBv1.0/{GROUP}/NCMD/{EDGE}"


class Listener:
    """A host, and a clock of its own; every message is received 5 ms after the last."""

    def __init__(self, saved: dict[str, bytes] | None = None, **changes: Any) -> None:
        settings = config(**changes)
        self.kept = dict(saved or {})
        self.now_s = 1_000.0
        self.received = NOW_MS * MS
        self.host = Host(settings, Catalogue(settings), Presence(NOW_MS), self.kept, self.now_s)
        self.rows: list[Sample] = []
        self.gaps: list[Gap] = []
        self.asked: list[str] = []
        self.counts: Counter[str] = Counter()

    def hear(self, *said: Said | Message) -> None:
        for each in said:
            self.received += 5 * MS
            message = each.at(self.received) if isinstance(each, Said) else each
            self.host.take([message], self.now_s)
        self.collect()

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.received += round(seconds * 1_000) * MS
        self.collect()

    def collect(self) -> None:
        found = self.host.collect(self.now_s)
        self.rows += found.block.rows()
        self.gaps += found.gaps
        self.asked += found.rebirths
        self.counts += found.counts
        self.kept |= found.state

    def values(self, signal: str) -> list[tuple[int, float]]:
        """Return (milliseconds after NOW_MS, value) of a signal."""
        return [
            (row.source_time // MS - NOW_MS, row.value) for row in self.rows if row.series.signal == signal
        ]


def birth(voice: Voice, ms: int = NOW_MS, device: str = "Press-1", **values: float) -> list[Said]:
    """Return the births of a node and a device with a counter of alias 1 and a temperature of alias 2."""
    temperature, shots = values.get("temperature", 220.5), values.get("shots", 7)
    return [
        voice.nbirth(ms, Metric("Uptime", 100, ms, DataType.UInt32, 3)),
        voice.say(
            "DBIRTH",
            device,
            ms,
            Metric("Shots", 1, ms, DataType.Int32, shots),
            Metric(
                "Barrel/Zone 1/Temperature",
                2,
                ms,
                DataType.Double,
                temperature,
                properties={"engUnit": "Cel"},
            ),
        ),
    ]


def shots(voice: Voice, ms: int, value: int, **fields: Any) -> Said:
    return voice.say(
        "DDATA",
        "Press-1",
        ms,
        Metric(None, 1, ms, DataType.Int32, value % 2**32 - 2**32 * (value < 0), **fields),
    )
