"""From messages to one block of samples. What can't be used is counted and named, and costs nothing else."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from edge_agent.normalise import NO_TIME
from edge_agent.sources.mqtt.config import MqttConfig, SignalConfig, TopicConfig
from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.mqtt.payload import (
    MAX_TEXT_BYTES,
    MISSING,
    Converter,
    Finder,
    TimeReader,
    UnusablePayload,
    convert,
    converter,
    decode_json,
    finder,
    leaves,
    signal_of,
    time_reader,
)
from edge_agent.sources.mqtt.repeats import RecentPayloads
from edge_agent.sources.mqtt.rows import NumberReader, Rows, number_reader
from edge_agent.sources.mqtt.topics import TopicTemplate, fill
from shopfloor.asset import AssetPath, parse_asset
from shopfloor.block import SampleBlock
from shopfloor.errors import InvalidName
from shopfloor.signal import SeriesKey, parse_signal

_log = logging.getLogger(__name__)

_MAX_TOPICS: Final = 10_000
"""Topics whose meaning is remembered; beyond it the least recently used are worked out again."""
_MAX_FOUND_SIGNALS: Final = 50_000
"""Signals found by ``signals: all``, over all topics."""
_MAX_COMPLAINTS: Final = 500
_TOO_MANY: Final = "too_many_signals"


class Translation(NamedTuple):
    """What messages became."""

    block: SampleBlock
    counts: Counter[str]
    """What else there is to say of them, for the metrics."""


class _Meaning:
    """A topic configuration made ready: what holds for all topics of its form."""

    def __init__(self, config: TopicConfig) -> None:
        self.config = config
        self.template: TopicTemplate = config.template
        self.find_time: Finder | None = None
        self.read_time: TimeReader | None = None
        if config.time is not None:
            self.find_time = finder(config.time.path)
            self.read_time = time_reader(config.time.format, config.time.zone)
        self.values: tuple[tuple[Finder, Converter], ...] = tuple(
            (
                finder(each.path),
                converter(each.type, decimal_comma=each.decimal_comma, scale=each.scale, offset=each.offset),
            )
            for each in config.signals
        )
        self.read_numbers: NumberReader | None = None
        """Reads all values at once where they are numbers; None where they are to become text."""
        if config.signals and all(each.type != "text" for each in config.signals):
            self.read_numbers = number_reader(
                [each.path for each in config.signals],
                [find for find, _ in self.values],
                [(each.scale, each.offset) for each in config.signals],
            )


@dataclass(slots=True)
class _Route:
    """What one topic means."""

    meaning: _Meaning
    asset: AssetPath
    series: tuple[SeriesKey, ...]
    found: dict[str, SeriesKey | None] = field(default_factory=dict)
    """With ``signals: all``: path to series; None for a path that gets none."""


class Unusable(NamedTuple):
    """Why messages of one topic are of no use."""

    what: str
    why: str


class Translator:
    """Knows what every topic means."""

    def __init__(self, config: MqttConfig) -> None:
        self._name = config.name
        self._max_payload_bytes = config.max_payload_bytes
        self._meanings = [_Meaning(topic) for topic in config.topics]
        self._routes: OrderedDict[str, _Route | Unusable] = OrderedDict()
        self._complained: set[tuple[str, str]] = set()
        self._found_signals = 0
        self._last_series: tuple[SeriesKey, ...] = ()
        self.declared: dict[SeriesKey, SignalConfig | None] = {}
        """Every series met so far, in order, with what the configuration says of it; bounded as the topics are."""

    def translate(self, messages: Sequence[Message], recent: RecentPayloads) -> Translation:
        """Return the samples of ``messages``, in order, as one block; repeats are told by ``recent``."""
        rows = Rows()
        for message in messages:
            try:
                self._take(message, recent, rows)
            except UnusablePayload as error:
                self._complain(rows, "not_json", message.topic, str(error))
        block = rows.block(self._last_series)
        self._last_series = block.series
        return Translation(block, rows.counts)

    def route(self, topic: str) -> str | Unusable:
        """Return the configured topic that ``topic`` belongs to, or why it is of no use."""
        found = self._route(topic)
        return found if isinstance(found, Unusable) else found.meaning.config.topic

    def _take(self, message: Message, recent: RecentPayloads, rows: Rows) -> None:
        topic, payload = message.topic, message.payload
        route = self._route(topic)
        if isinstance(route, Unusable):
            self._complain(rows, route.what, topic, route.why)
            return
        size = message.oversize or len(payload)
        if size > self._max_payload_bytes:
            why = f"{size} bytes, max_payload_bytes is {self._max_payload_bytes}"
            self._complain(rows, "payload_too_large", topic, why)
            return
        if not payload:
            # The usual way to clear a retained message; nothing was measured.
            rows.counts["empty_payload"] += 1
            return
        meaning = route.meaning
        content = decode_json(payload) if meaning.config.payload == "json" else _decode_text(payload)
        source_time = self._source_time(meaning, content, topic, rows)
        if (source_time == NO_TIME or message.retain) and recent.is_repeat(
            topic, payload, dup=message.dup or meaning.config.numbered, retained=message.retain
        ):
            rows.counts["repeated_message"] += 1
            return
        if route.series:
            self._configured(route, content, source_time, message, rows)
        else:
            self._everything(route, content, source_time, message, rows)

    def _source_time(self, meaning: _Meaning, content: Any, topic: str, rows: Rows) -> int:
        if meaning.find_time is None or meaning.read_time is None:
            return NO_TIME
        raw = meaning.find_time(content)
        if raw is MISSING:
            self._complain(rows, "missing_time", topic, "the configured time is not in the payload")
            return NO_TIME
        source_time = meaning.read_time(raw)
        if source_time is None:
            self._complain(
                rows, "bad_time", topic, f"a {type(raw).__name__} that is no time of the configured form"
            )
            return NO_TIME
        return source_time

    def _configured(
        self, route: _Route, content: Any, source_time: int, message: Message, rows: Rows
    ) -> None:
        received_time = message.received_time
        meaning = route.meaning
        if meaning.read_numbers is not None and (numbers := meaning.read_numbers(content)) is not None:
            rows.add_numbers(route.series, source_time, received_time, numbers)
            return
        for key, (find, make) in zip(route.series, meaning.values, strict=True):
            raw = find(content)
            if raw is MISSING:
                self._complain(
                    rows, "missing_value", message.topic, f"nothing for {key.signal} in the payload"
                )
                continue
            sample = make(raw)
            if sample.status:
                self._complain(rows, "not_convertible", message.topic, _why_not(key.signal, raw))
            rows.add(key, source_time, received_time, sample)

    def _everything(
        self, route: _Route, content: Any, source_time: int, message: Message, rows: Rows
    ) -> None:
        if type(content) is not dict:
            self._complain(rows, "missing_value", message.topic, "signals: all needs a JSON object")
            return
        for path, raw in leaves(content):
            key = route.found.get(path, MISSING)
            if key is MISSING:
                key = self._find_series(route, path, message.topic, rows)
            if key is None:
                continue
            assert isinstance(key, SeriesKey)
            sample = convert(raw)
            if sample.status:
                self._complain(rows, "not_convertible", message.topic, _why_not(key.signal, raw))
            rows.add(key, source_time, message.received_time, sample)

    def _find_series(self, route: _Route, path: str, topic: str, rows: Rows) -> SeriesKey | None:
        config = route.meaning.config
        known = len(route.found)
        if known >= config.max_signals or self._found_signals >= _MAX_FOUND_SIGNALS:
            why = f"{known} signals of this topic, {self._found_signals} of all topics; further ones are left out"
            self._complain(rows, _TOO_MANY, topic, why)
            return None
        key: SeriesKey | None = None
        if config.time is None or path != config.time.path:
            name = signal_of(path)
            signal = f"{config.prefix}.{name}" if config.prefix else name
            try:
                key = SeriesKey(route.asset, parse_signal(signal))
            except InvalidName as error:
                self._complain(rows, "invalid_signal", topic, str(error))
            if key in route.found.values():
                self._complain(rows, "name_collision", topic, f"two values would both be {signal}")
                key = None
        route.found[path] = key
        self._found_signals += 1
        if key is not None:
            self._declare(key, None)
        return key

    def _route(self, topic: str) -> _Route | Unusable:
        route = self._routes.get(topic)
        if route is None:
            route = self._routes[topic] = self._work_out(topic)
            if len(self._routes) > _MAX_TOPICS:
                _, dropped = self._routes.popitem(last=False)
                if isinstance(dropped, _Route):
                    self._found_signals -= len(dropped.found)
        else:
            self._routes.move_to_end(topic)
        return route

    def _work_out(self, topic: str) -> _Route | Unusable:
        for meaning in self._meanings:
            levels = meaning.template.match(topic)
            if levels is None:
                continue
            config = meaning.config
            if config.lowercase:
                levels = {name: text.lower() for name, text in levels.items()}
            try:
                asset = parse_asset(fill(config.asset, levels))
                series = tuple(
                    SeriesKey(asset, parse_signal(fill(each.signal, levels))) for each in config.signals
                )
            except InvalidName as error:
                return Unusable("invalid_asset", str(error))
            if len(set(series)) != len(series):
                return Unusable("invalid_asset", "two of its signals get the same name from this topic")
            for key, each in zip(series, config.signals, strict=True):
                self._declare(key, each)
            return _Route(meaning, asset, series)
        return Unusable("unmatched_topic", "no topic of the configuration matches")

    def _declare(self, key: SeriesKey, signal: SignalConfig | None) -> None:
        if len(self.declared) < _MAX_FOUND_SIGNALS:
            self.declared.setdefault(key, signal)

    def _complain(self, rows: Rows, what: str, topic: str, why: str) -> None:
        rows.counts[what] += 1
        seen = (topic, what)
        if seen in self._complained or len(self._complained) > _MAX_COMPLAINTS:
            return
        self._complained.add(seen)
        if len(self._complained) > _MAX_COMPLAINTS:
            _log.warning(
                "%s: more topics have unusable messages; from now on only the metrics count them", self._name
            )
            return
        _log.warning("%s: topic %.200r: %s: %.300s (said once)", self._name, topic, what, why)


def _why_not(signal: str, raw: object) -> str:
    if isinstance(raw, dict | list):
        return f"{signal} is not a value but a {'list' if isinstance(raw, list) else 'JSON object'}"
    if isinstance(raw, str):
        return f"{signal} is text that is no number, or over {MAX_TEXT_BYTES} bytes, or not valid Unicode"
    return f"{signal} can't be made of a {type(raw).__name__}"


def _decode_text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise UnusablePayload(f"not UTF-8 at byte {error.start}") from None
