"""What each topic means: worked out when its first message comes, remembered within bounds."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from edge_agent.sources.mqtt.meaning import Meaning, Route, Unusable, route
from edge_agent.sources.mqtt.message_config import SignalConfig
from edge_agent.sources.mqtt.payload import signal_of
from edge_agent.sources.mqtt.topic_config import TopicConfig
from shopfloor.errors import InvalidName
from shopfloor.signal import SeriesKey, parse_signal

_MAX_TOPICS: Final = 10_000
"""Topics whose meaning is remembered; beyond it the least recently used are worked out again."""
_LONG_TOPIC: Final = 200
"""Characters; of longer topics, which may have 64 KiB, a digest is remembered."""
_LONGEST_PATH: Final = 500
"""Characters of a path that ``signals: all`` takes, as of one that is configured."""
_MAX_FOUND_SIGNALS: Final = 50_000
"""Signals found by ``signals: all``, over all topics."""


class Routes:
    """The topics of one source."""

    def __init__(self, topics: Iterable[TopicConfig]) -> None:
        self.meanings = [Meaning(topic) for topic in topics]
        self._routes: OrderedDict[str | bytes, Route | Unusable] = OrderedDict()
        self._found_signals = 0
        self.declared: dict[SeriesKey, SignalConfig | None] = {}
        """Every series met so far, in order, with what the configuration says of it; bounded as the topics are."""

    def of(self, topic: str) -> Route | Unusable:
        """Return what a topic means, or why it is of no use."""
        name = (
            topic if len(topic) <= _LONG_TOPIC else hashlib.blake2b(topic.encode(), digest_size=16).digest()
        )
        found = self._routes.get(name)
        if found is None:
            found = self._routes[name] = self._work_out(topic)
            if len(self._routes) > _MAX_TOPICS:
                _, dropped = self._routes.popitem(last=False)
                if isinstance(dropped, Route):
                    self._found_signals -= len(dropped.found)
        else:
            self._routes.move_to_end(name)
        return found

    def find(self, route: Route, path: str) -> SeriesKey | Unusable | None:
        """Return the series of a path that ``signals: all`` takes, None for the time, or why there is none.

        What was found, or that nothing was, is remembered in ``route.found``, unless there are too many or the path is
        too long.
        """
        if len(path) > _LONGEST_PATH:
            why = f"a path of {len(path)} characters; {_LONGEST_PATH} are the most"
            return Unusable("invalid_signal", why)
        known = len(route.found)
        if known >= route.meaning.config.max_signals or self._found_signals >= _MAX_FOUND_SIGNALS:
            return Unusable(
                "too_many_signals",
                f"{known} signals of this topic, {self._found_signals} of all topics; further ones are left out",
            )
        found = self._named(route, path)
        route.found[path] = found if isinstance(found, SeriesKey) else None
        self._found_signals += 1
        if isinstance(found, SeriesKey):
            self._declare(found, None)
        return found

    def meet(self, route: Route, numbers: Iterable[int]) -> None:
        """Declare optional signals of which the first value has come."""
        for number in numbers:
            route.unmet.discard(number)
            self._declare(route.series[number], route.meaning.config.signals[number])

    def _named(self, route: Route, path: str) -> SeriesKey | Unusable | None:
        if path == route.meaning.time_path:
            return None
        name = signal_of(path)
        signal = f"{route.prefix}.{name}" if route.prefix else name
        try:
            key = SeriesKey(route.asset, parse_signal(signal))
        except InvalidName as error:
            return Unusable("invalid_signal", str(error))
        if key in route.found.values():
            return Unusable("name_collision", f"two values would both be {signal}")
        return key

    def _work_out(self, topic: str) -> Route | Unusable:
        for meaning in self.meanings:
            levels = meaning.form.match(topic)
            if levels is None:
                continue
            found = route(meaning, levels)
            if isinstance(found, Route):
                for key, each in zip(found.series, meaning.config.signals, strict=True):
                    if not each.optional:
                        self._declare(key, each)
            return found
        return Unusable("unmatched_topic", "no topic of the configuration matches")

    def _declare(self, key: SeriesKey, signal: SignalConfig | None) -> None:
        if len(self.declared) < _MAX_FOUND_SIGNALS:
            self.declared.setdefault(key, signal)
