"""An edge node itself, or one device behind it: the metrics of its last birth, and the samples that they make."""

from __future__ import annotations

import struct
from typing import Final

from edge_agent.normalise import CLOCK_TOLERANCE_NS, NO_TIME
from edge_agent.sources.sparkplug.catalogue import Catalogue, Slot
from edge_agent.sources.sparkplug.findings import Findings
from edge_agent.sources.sparkplug.ordering import Received
from edge_agent.sources.sparkplug.values import (
    BAD_NO_COMMUNICATION,
    GOOD_COMMUNICATION_EVENT,
    status_of,
    time_of,
    value_of,
)
from shopfloor.sparkplug import Metric

DEAD: Final = "dead."
"""Before the descriptor, a key of the state: UTC ns of the samples that say that it is disconnected."""
INT64: Final = struct.Struct("<q")
_MS: Final = 1_000_000


class Device:
    """Knows which metrics there are, whether anybody is behind them, and since when not."""

    def __init__(
        self, descriptor: str, catalogue: Catalogue, findings: Findings, dead_at: int | None = None
    ) -> None:
        self.descriptor = descriptor
        self.publisher = catalogue.publisher(descriptor)
        """What the configuration makes of it; None for one that nobody wants."""
        self.slots: dict[str, Slot | None] = {}
        """By the metric names of the last birth; None for a metric that nobody wants."""
        self.is_alive = False
        self.dead_at = dead_at
        """UTC ns of the samples that say that it is disconnected; None while they are not the last word."""
        self._catalogue = catalogue
        self._found = findings
        self._newest = NO_TIME

    def live(self) -> None:
        """Note that a birth came."""
        self.is_alive = True
        if self.dead_at is not None:
            self.dead_at = None
            self._found.state[DEAD + self.descriptor] = b""

    def die(self, at: int, received_time: int) -> None:
        """Store that no metric has a value any more, after everything that was said; ``at`` is UTC ns, or NO_TIME."""
        if not self.is_alive:
            return
        self.is_alive = False
        if not NO_TIME < at <= received_time + CLOCK_TOLERANCE_NS:
            at = received_time
        at = max(at, self._newest + _MS)
        for slot in self.slots.values():
            if slot is not None:
                self._found.rows.add_loss(slot, at, received_time, BAD_NO_COMMUNICATION)
        self.dead_at = at
        self._found.state[DEAD + self.descriptor] = INT64.pack(at)

    def sample(self, slot: Slot, metric: Metric, message: Received, *, is_birth: bool = False) -> None:
        """Store what a message says of a metric, if that is anything to store."""
        if metric.is_transient:
            self._found.count("transient")
            return
        value = value_of(metric, slot.datatype, slot.scale, slot.offset)
        if value is None:
            why = f"no scalar for {slot.key.signal}"
            self._catalogue.complain("unsupported_value", self.descriptor, why)
            return
        if not value.is_null:
            slot.has_value = True
        elif is_birth and not slot.has_value:
            # A birth has to name every metric: that one was never measured is no reading.
            self._found.count("never_valued")
            return
        if value.status:
            why = f"{slot.key.signal} can't be made of this value"
            self._catalogue.complain("not_convertible", self.descriptor, why)
        sent_ms = message.payload.timestamp_ms
        source_time = time_of(metric.timestamp_ms if metric.timestamp_ms is not None else sent_ms)
        received_time = message.received_time
        status = status_of(metric.properties) if metric.properties else 0
        rows = self._found.rows
        rows.add(slot, source_time, received_time, value, status)
        if metric.is_historical:
            self._found.count("historical")
        elif is_birth and self.dead_at is not None and NO_TIME < source_time <= self.dead_at:
            # It still has the value that it had before it was lost: without a newer sample it would stay lost.
            source_time = max(time_of(sent_ms), self.dead_at + _MS)
            rows.add(slot, source_time, received_time, value, status or GOOD_COMMUNICATION_EVENT)
        if self._newest < source_time <= received_time + CLOCK_TOLERANCE_NS:
            self._newest = source_time
