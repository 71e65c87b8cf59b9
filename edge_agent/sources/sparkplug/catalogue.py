"""Which series the metrics of which edge nodes and devices are; it outlives connections and births."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from edge_agent.sources.mqtt.payload import signal_of
from edge_agent.sources.mqtt.topics import TopicTemplate, fill, placeholders
from edge_agent.sources.sparkplug.config import MetricConfig, PublisherConfig, SparkplugConfig
from edge_agent.sources.sparkplug.values import is_scalar, unit_of
from shopfloor.asset import AssetPath, parse_asset
from shopfloor.errors import InvalidName
from shopfloor.messages import SeriesDeclaration
from shopfloor.signal import SeriesKey, parse_signal
from shopfloor.sparkplug import BD_SEQ, DataType, Metric

_log = logging.getLogger(__name__)

_MAX_PUBLISHERS: Final = 10_000
_MAX_SIGNALS: Final = 50_000
"""Signals over all publishers."""
_MAX_COMPLAINTS: Final = 500
_UNMATCHED: Final = "unmatched_publisher"
_CONTROLS: Final = ("Node Control/", "Device Control/")
"""Metrics that are commands (6.4.19 and 6.4.20), not measurements."""


@dataclass(eq=False, slots=True)
class Slot:
    """One metric of an edge node or device, and the series that it is."""

    key: SeriesKey
    datatype: int = DataType.Unknown
    """What the last birth gave."""
    scale: float = 1.0
    offset: float = 0.0
    has_value: bool = False
    """Whether it ever had one, as far as this process knows."""


@dataclass(eq=False, slots=True)
class Publisher:
    """An edge node or a device that the configuration wants."""

    descriptor: str
    config: PublisherConfig
    asset: AssetPath
    wanted: dict[str, MetricConfig]
    """Metric name to configuration; empty where all are wanted."""
    slots: dict[str, Slot | None] = field(default_factory=dict)
    """Metric name to series; None for a metric that gets none."""
    signals: set[str] = field(default_factory=set)


class Unwanted(NamedTuple):
    """Why an edge node or device is of no use."""

    what: str
    why: str


class Catalogue:
    """Knows every publisher and metric that was met; bounded."""

    def __init__(self, config: SparkplugConfig) -> None:
        self._name = config.name
        self._templates: list[tuple[TopicTemplate, PublisherConfig]] = [
            (each.template, each) for each in config.publishers
        ]
        self._publishers: dict[str, Publisher | Unwanted] = {}
        self._complained: set[tuple[str, str]] = set()
        self.counts: Counter[str] = Counter()
        """What could not be used; whoever takes them empties it."""
        self.declared: dict[SeriesKey, SeriesDeclaration] = {}
        """Every series that the configuration names with its unit, and those that births have named."""
        self._declare_configured(config)

    def _declare_configured(self, config: SparkplugConfig) -> None:
        for publisher in config.publishers:
            if placeholders(publisher.asset):
                continue
            for each in publisher.metrics:
                # Without a unit here the birth may give one, and a declaration travels once.
                if each.unit:
                    key = SeriesKey(parse_asset(publisher.asset), each.signal)
                    self.declared[key] = SeriesDeclaration(*key, each.unit, each.description)

    def publisher(self, descriptor: str) -> Publisher | None:
        """Return what the configuration makes of ``GROUP/EDGE_NODE[/DEVICE]``; None where nothing, which is counted.

        That only the devices of an edge node are wanted is usual, and not counted.
        """
        found = self._publishers.get(descriptor)
        if found is None:
            found = self._work_out(descriptor)
            if len(self._publishers) < _MAX_PUBLISHERS:
                self._publishers[descriptor] = found
        if isinstance(found, Unwanted):
            if found.what == _UNMATCHED and descriptor.count("/") == 1:
                return None
            self.complain(found.what, descriptor, found.why)
            return None
        return found

    def _work_out(self, descriptor: str) -> Publisher | Unwanted:
        for template, config in self._templates:
            levels = template.match(descriptor)
            if levels is None:
                continue
            if config.lowercase:
                levels = {name: text.lower() for name, text in levels.items()}
            try:
                asset = parse_asset(fill(config.asset, levels))
            except InvalidName as error:
                return Unwanted("invalid_asset", str(error))
            return Publisher(descriptor, config, asset, {each.metric: each for each in config.metrics})
        return Unwanted(_UNMATCHED, "no descriptor of the configuration matches")

    def born(self, publisher: Publisher, metric: Metric) -> Slot | None:
        """Return the series of a metric that a birth gives; None for one without: unwanted or not representable."""
        name = metric.name
        if not name or name == BD_SEQ or name.startswith(_CONTROLS):
            return None
        slot = publisher.slots.get(name)
        if slot is None:
            if name in publisher.slots:
                return None
            slot = self._new_slot(publisher, name, metric)
            if slot is None and len(publisher.slots) >= publisher.config.max_metrics:
                return None
            publisher.slots[name] = slot
        if slot is None:
            return None
        if not is_scalar(metric.datatype):
            self._complain_of_type(publisher, metric)
            return None
        slot.datatype = metric.datatype or DataType.Unknown
        self._declare(publisher, slot, metric)
        return slot

    def _new_slot(self, publisher: Publisher, name: str, metric: Metric) -> Slot | None:
        wanted = publisher.wanted.get(name)
        if wanted is not None:
            return Slot(SeriesKey(publisher.asset, wanted.signal), scale=wanted.scale, offset=wanted.offset)
        if publisher.wanted:
            return None
        if not is_scalar(metric.datatype):
            self._complain_of_type(publisher, metric)
            return None
        if len(publisher.signals) >= publisher.config.max_metrics or len(self.declared) >= _MAX_SIGNALS:
            why = f"{len(publisher.signals)} signals of it, {len(self.declared)} in all; further ones are left out"
            self.complain("too_many_signals", publisher.descriptor, why)
            return None
        signal = signal_of(name.replace("/", "."))
        if publisher.config.prefix:
            signal = f"{publisher.config.prefix}.{signal}"
        try:
            key = SeriesKey(publisher.asset, parse_signal(signal))
        except InvalidName as error:
            self.complain("invalid_signal", publisher.descriptor, f"metric {name:.200}: {error}")
            return None
        if signal in publisher.signals:
            self.complain("name_collision", publisher.descriptor, f"two metrics would both be {signal}")
            return None
        publisher.signals.add(signal)
        return Slot(key)

    def _declare(self, publisher: Publisher, slot: Slot, metric: Metric) -> None:
        if slot.key in self.declared or len(self.declared) >= _MAX_SIGNALS:
            return
        wanted = publisher.wanted.get(metric.name or "")
        if wanted is None:
            self.declared[slot.key] = SeriesDeclaration(*slot.key, unit_of(metric.properties))
            return
        unit = wanted.unit or ("" if wanted.is_scaled else unit_of(metric.properties))
        self.declared[slot.key] = SeriesDeclaration(*slot.key, unit, wanted.description)

    def _complain_of_type(self, publisher: Publisher, metric: Metric) -> None:
        try:
            kind = DataType(metric.datatype or 0).name
        except ValueError:
            kind = str(metric.datatype)
        self.counts["unsupported_type"] += 1
        self._say("unsupported_type", f"{publisher.descriptor}: {metric.name}", f"of data type {kind}")

    def complain(self, what: str, descriptor: str, why: str) -> None:
        """Count something that can't be used, and say so once for every edge node or device."""
        self.counts[what] += 1
        self._say(what, descriptor, why)

    def _say(self, what: str, whose: str, why: str) -> None:
        if (whose, what) in self._complained or len(self._complained) > _MAX_COMPLAINTS:
            return
        self._complained.add((whose, what))
        if len(self._complained) > _MAX_COMPLAINTS:
            _log.warning(
                "%s: there is more that can't be used; from now on only the metrics count it", self._name
            )
            return
        _log.warning("%s: %.300s: %s: %.300s (said once)", self._name, whose, what, why)
