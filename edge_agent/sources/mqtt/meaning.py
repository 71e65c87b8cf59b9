"""A topic configuration made ready: everything that is looked up, compiled or checked once and not at each message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from operator import itemgetter
from typing import Any, NamedTuple

from edge_agent.sources.mqtt.message_config import SignalConfig, TimeConfig
from edge_agent.sources.mqtt.paths import MISSING, Finder, finder
from edge_agent.sources.mqtt.payload import Converter, converter, tidy_segment
from edge_agent.sources.mqtt.rows import NumberReader, number_reader
from edge_agent.sources.mqtt.times import TimeReader
from edge_agent.sources.mqtt.topic_config import TopicConfig
from edge_agent.sources.mqtt.topics import fill
from shopfloor.asset import AssetPath, parse_asset
from shopfloor.errors import InvalidName
from shopfloor.signal import SeriesKey, parse_signal


class Extract(NamedTuple):
    """How a signal's value is got out of a payload or point."""

    find: Finder
    make: Converter
    optional: bool


class Clock(NamedTuple):
    """How a time is got out of a payload or point."""

    find: Finder
    read: TimeReader


class Points:
    """How the points of a message are got out of its payload."""

    def __init__(self, config: TopicConfig) -> None:
        assert config.points is not None
        self.config = points = config.points
        self.clock = _clock(points.time)
        self.find_name = finder(points.name) if points.name else None
        self.find_value = finder(points.value)
        self.interval_ns = round(points.interval_ms * 1e6)
        self.named: dict[str, tuple[int, ...]] = {}
        """Name of a point to the numbers of the signals that it holds."""
        for number, each in enumerate(config.signals):
            self.named[each.point] = (*self.named.get(each.point, ()), number)
        self._find = points.find
        self._columns: tuple[Finder, ...] = ()
        if points.columns:
            self._columns = tuple(each.find for each in config.signals)
            if self.clock is not None:
                self._columns += (self.clock.find,)
                self.clock = Clock(itemgetter(len(config.signals)), self.clock.read)

    def of(self, content: Any) -> list[Any] | None:
        """Return the points of a decoded payload, None where there are none; a row of columns is a point, too."""
        found = self._find(content)
        if not self._columns:
            return found if type(found) is list else None
        lists = [column if type(column := find(found)) is list else [] for find in self._columns]
        # One more than is taken, so that the excess is seen; its size is not.
        rows = list(islice(zip_longest(*lists, fillvalue=MISSING), self.config.max_points + 1))
        return rows or None


class Meaning:
    """What holds for all topics of one form."""

    def __init__(self, config: TopicConfig) -> None:
        self.config = config
        self.form = config.form
        self.is_json = config.payload == "json"
        self.clock = _clock(config.time)
        self.points = Points(config) if config.points is not None else None
        paths = ["" if each.jmespath else each.path for each in config.signals]
        finders = [each.find for each in config.signals]
        if config.points is not None and config.points.columns:
            # A row of columns holds the values themselves, in order.
            paths = [str(number) for number in range(len(paths))]
            finders = [itemgetter(number) for number in range(len(paths))]
        self.values = tuple(map(_extract, finders, config.signals))
        self.read_numbers: NumberReader | None = None
        """Reads all values at once where they are numbers; None where they are to become text, or one is looked for."""
        named = config.points is not None and config.points.name
        if config.signals and not named and all(each.type != "text" for each in config.signals):
            scalings = [(each.scale, each.offset) for each in config.signals]
            self.read_numbers = number_reader(paths, finders, scalings)
        timed = config.points.time if config.points is not None else config.time
        self.time_path = timed.path if timed is not None else ""
        """What ``signals: all`` leaves out."""


@dataclass(slots=True, eq=False)
class Route:
    """What one topic means."""

    meaning: Meaning
    asset: AssetPath
    series: tuple[SeriesKey, ...]
    prefix: str
    found: dict[str, SeriesKey | None] = field(default_factory=dict)
    """With ``signals: all``: path to series; None for a path that gets none."""
    unmet: set[int] = field(default_factory=set)
    """Numbers of the optional signals of which there was no value yet."""


class Unusable(NamedTuple):
    """Why messages of one topic are of no use."""

    what: str
    why: str


def route(meaning: Meaning, levels: Mapping[str, str]) -> Route | Unusable:
    """Return what a topic means that has ``levels`` at the names of its form."""
    config = meaning.config
    if config.lowercase:
        levels = {name: text.lower() for name, text in levels.items()}
    # A name may hold several levels, where a regular expression says so: in signals dots join them.
    dotted = {name: _dotted(text, tidy=config.lowercase) for name, text in levels.items()}
    try:
        asset = parse_asset(fill(config.asset, levels))
        series = tuple(SeriesKey(asset, parse_signal(fill(each.signal, dotted))) for each in config.signals)
    except InvalidName as error:
        return Unusable("invalid_asset", str(error))
    if len(set(series)) != len({each.signal for each in config.signals}):
        return Unusable("invalid_asset", "two of its signals get the same name from this topic")
    unmet = {number for number, each in enumerate(config.signals) if each.optional}
    return Route(meaning, asset, series, config.prefix, unmet=unmet)


def _dotted(text: str, *, tidy: bool) -> str:
    levels = text.split("/")
    return ".".join(map(tidy_segment, levels) if tidy else levels)


def _clock(config: TimeConfig | None) -> Clock | None:
    return None if config is None else Clock(config.find, config.read)


def _extract(find: Finder, signal: SignalConfig) -> Extract:
    make = converter(
        signal.type, decimal_comma=signal.decimal_comma, scale=signal.scale, offset=signal.offset
    )
    return Extract(find, make, signal.optional)
