"""From messages to one block of samples. What can't be used is counted and named, and costs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from edge_agent.normalise import NO_TIME
from edge_agent.sources.mqtt.complaints import Complaints
from edge_agent.sources.mqtt.config import MqttConfig
from edge_agent.sources.mqtt.inbox import Message
from edge_agent.sources.mqtt.meaning import Clock, Points, Route, Unusable
from edge_agent.sources.mqtt.message_config import SignalConfig
from edge_agent.sources.mqtt.paths import MISSING, UNFIT, leaves
from edge_agent.sources.mqtt.payload import (
    MAX_TEXT_BYTES,
    UnusablePayload,
    convert,
    decode_json,
)
from edge_agent.sources.mqtt.repeats import RecentPayloads
from edge_agent.sources.mqtt.routes import Routes
from edge_agent.sources.mqtt.rows import Numbering, Rows
from edge_agent.sources.mqtt.times import LAST_TIME
from shopfloor.block import SampleBlock
from shopfloor.signal import SeriesKey

_CLOSE_NS: Final = 1_000_000


class Translation(NamedTuple):
    """What messages became."""

    block: SampleBlock
    counts: Counter[str]
    """What else there is to say of them, for the metrics."""


class Translator:
    """Knows what every topic means.

    Args:
        config: of the source.
        loud: whether what can't be used is logged; it is in `complaints` in any case.
    """

    def __init__(self, config: MqttConfig, *, loud: bool = True) -> None:
        self._max_payload_bytes = config.max_payload_bytes
        self._routes = Routes(config.topics)
        self.complaints = Complaints(config.name, loud=loud)
        """What was said of unusable messages."""
        self._numbering = Numbering()
        self._not_before = 0

    @property
    def declared(self) -> Mapping[SeriesKey, SignalConfig | None]:
        """Every series met so far, in order, with what the configuration says of it; bounded as the topics are."""
        return self._routes.declared

    def translate(self, messages: Sequence[Message], recent: RecentPayloads) -> Translation:
        """Return the samples of ``messages``, in order, as one block; repeats are told by ``recent``."""
        self._numbering.trim()
        rows = Rows(self._numbering)
        for message in messages:
            try:
                self._take(message, recent, rows)
            except UnusablePayload as error:
                self._complain(rows, "not_json", message.topic, str(error))
            except MemoryError:
                # Not the message's fault: the broker shall bring it again.
                raise
            except Exception as error:  # noqa: BLE001  the broker would bring it again for ever, and all else behind it
                rows.cut_torn()
                rows.counts["defect"] += 1
                self.complaints.note_defect(message.topic, len(message.payload), error)
        return Translation(rows.block(), rows.counts)

    def route(self, topic: str) -> str | Unusable:
        """Return the label of the configured topic that ``topic`` belongs to, or why it is of no use."""
        found = self._routes.of(topic)
        return found if isinstance(found, Unusable) else found.meaning.config.label

    def _take(self, message: Message, recent: RecentPayloads, rows: Rows) -> None:
        topic, payload = message.topic, message.payload
        route = self._routes.of(topic)
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
        content = decode_json(payload) if meaning.is_json else _decode_text(payload)
        received_time = message.received_time
        if received_time < self._not_before < received_time + _CLOSE_NS:
            received_time = self._not_before
        source_time = NO_TIME
        if meaning.clock is not None:
            source_time = self._time(meaning.clock, content, received_time, topic, rows)
        points = meaning.points
        if (source_time == NO_TIME and (points is None or points.clock is None)) or message.retain:
            numbered = meaning.config.numbered
            if recent.is_repeat(topic, payload, dup=message.dup or numbered, retained=message.retain):
                rows.counts["repeated_message"] += 1
                return
        if points is not None:
            self._points(route, points, content, source_time, received_time, topic, rows)
        elif route.series:
            self._configured(route, content, source_time, received_time, topic, rows)
        else:
            self._everything(route, content, source_time, received_time, topic, rows)

    def _time(self, clock: Clock, content: Any, received_time: int, topic: str, rows: Rows) -> int:
        raw = clock.find(content)
        if raw is MISSING:
            self._complain(rows, "missing_time", topic, "the configured time is not in the payload")
            return NO_TIME
        source_time = clock.read(raw, received_time)
        if source_time is None:
            why = f"a {type(raw).__name__} that is no time of the configured form"
            self._complain(rows, "bad_time", topic, why)
            return NO_TIME
        return source_time

    def _points(
        self,
        route: Route,
        points: Points,
        content: Any,
        message_time: int,
        received_time: int,
        topic: str,
        rows: Rows,
    ) -> None:
        found = points.of(content)
        if found is None:
            self._complain(rows, "missing_points", topic, "no list of points where it should stand")
            return
        excess = len(found) - points.config.max_points
        if excess > 0:
            why = f"over {points.config.max_points} points in a message; the further ones are left out"
            self._complain(rows, "too_many_points", topic, why, excess)
        interval_ns = points.interval_ns if message_time != NO_TIME else 0
        for number, point in enumerate(found[: points.config.max_points]):
            source_time = message_time + interval_ns * number
            if source_time > LAST_TIME:
                why = f"points at intervals of {interval_ns} ns go on beyond what an int64 holds"
                self._complain(rows, "bad_time", topic, why)
                source_time = NO_TIME
            if points.clock is not None:
                source_time = self._time(points.clock, point, received_time, topic, rows)
                if source_time == NO_TIME:
                    source_time = message_time
            self._point(route, points, point, source_time, received_time, topic, rows)
            if source_time == NO_TIME:
                # Equal values at one time would count as one: what has no time gets one of its own.
                received_time += 1
        self._not_before = received_time

    def _point(
        self,
        route: Route,
        points: Points,
        point: Any,
        source_time: int,
        received_time: int,
        topic: str,
        rows: Rows,
    ) -> None:
        if points.find_name is None:
            take = self._configured if route.series else self._everything
            take(route, point, source_time, received_time, topic, rows)
            return
        name = points.find_name(point)
        if type(name) is not str:
            self._complain(rows, "missing_name", topic, "a point without its name")
        elif not route.series:
            raw = points.find_value(point)
            self._one(route, name, raw, source_time, received_time, topic, rows)
        elif (numbers := points.named.get(name)) is None:
            self._complain(rows, "unknown_point", topic, f"no signal for the point {name[:100]!r}")
        else:
            for number in numbers:
                self._value(route, number, point, source_time, received_time, topic, rows)

    def _configured(
        self, route: Route, content: Any, source_time: int, received_time: int, topic: str, rows: Rows
    ) -> None:
        meaning = route.meaning
        if meaning.read_numbers is not None and (numbers := meaning.read_numbers(content)) is not None:
            rows.add_numbers(route.series, source_time, received_time, numbers)
            if route.unmet:
                self._routes.meet(route, tuple(route.unmet))
            return
        for number in range(len(route.series)):
            self._value(route, number, content, source_time, received_time, topic, rows)

    def _value(
        self,
        route: Route,
        number: int,
        content: Any,
        source_time: int,
        received_time: int,
        topic: str,
        rows: Rows,
    ) -> None:
        """Take one of the configured values."""
        key = route.series[number]
        find, make, optional = route.meaning.values[number]
        raw = find(content)
        if raw is MISSING:
            if not optional:
                self._complain(rows, "missing_value", topic, f"nothing for {key.signal} in the payload")
            return
        if optional and number in route.unmet:
            self._routes.meet(route, (number,))
        sample = make(raw)
        if sample.status:
            self._complain(rows, "not_convertible", topic, _why_not(key.signal, raw))
        rows.add(key, source_time, received_time, sample)

    def _everything(
        self, route: Route, content: Any, source_time: int, received_time: int, topic: str, rows: Rows
    ) -> None:
        if type(content) is not dict:
            self._complain(rows, "missing_value", topic, "signals: all needs a JSON object")
            return
        for path, raw in leaves(content):
            self._one(route, path, raw, source_time, received_time, topic, rows)

    def _one(
        self,
        route: Route,
        path: str,
        raw: Any,
        source_time: int,
        received_time: int,
        topic: str,
        rows: Rows,
    ) -> None:
        """Take one of the values that ``signals: all`` stands for."""
        key = route.found.get(path, MISSING)
        if key is MISSING:
            found = self._routes.find(route, path)
            if isinstance(found, Unusable):
                self._complain(rows, found.what, topic, found.why)
                return
            key = found
        if key is None:
            return
        assert isinstance(key, SeriesKey)
        if raw is MISSING:
            self._complain(rows, "missing_value", topic, f"nothing for {key.signal} in its point")
            return
        sample = convert(raw)
        if sample.status:
            self._complain(rows, "not_convertible", topic, _why_not(key.signal, raw))
        rows.add(key, source_time, received_time, sample)

    def _complain(self, rows: Rows, what: str, topic: str, why: str, number: int = 1) -> None:
        rows.counts[what] += number
        self.complaints.note(what, topic, why)


def _why_not(signal: str, raw: object) -> str:
    if raw is UNFIT:
        return f"the JMESPath expression for {signal} does not fit this payload"
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
