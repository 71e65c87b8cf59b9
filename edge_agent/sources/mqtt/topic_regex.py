"""Regular expressions over whole topics, matched in a time that grows with the topic's length and no faster.

Python's own engine tries one way after the other, which a topic from the network can drag out for hours. Here all ways
advance together, one character at a time (Thompson's construction with captures), so that a topic costs at most its
length times the expression's size. What can't be done that way (look-around, references back) is refused. Syntax and
meaning of the rest are those of Python's ``re.fullmatch``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from edge_agent.sources.mqtt.topic_regex_steps import END, Step, Test, read_expression
from edge_agent.sources.mqtt.topics import parse_filter

MAX_TOPIC: Final = 1_000
"""Topics longer than this match no expression."""
_Notes = tuple[int, ...]
"""Begin and end of each named group in turn, -1 where it has none."""
_Reached = tuple[tuple[int, tuple[int, ...]], ...]
"""Step, and the places that are noted on the way there."""


@dataclass(frozen=True, slots=True)
class TopicPattern:
    """A regular expression over topics, and the subscriptions that bring them."""

    text: str
    filters: tuple[str, ...]
    names: tuple[str, ...]
    """The named groups, in the order in which they begin."""
    _tests: tuple[Test | None, ...]
    """For each step the test of a character; None for the last one, which is the end, and for those in between."""
    _reach: Mapping[int, _Reached]
    """For the first step, and for each one after a test, the tests and the end that are reached without a character."""

    def match(self, topic: str) -> dict[str, str] | None:
        """Return what the named groups hold, "" for one that took no part; None where the topic does not match."""
        if len(topic) > MAX_TOPIC or (topic.startswith("$") and not self._takes_system_topics):
            return None
        notes = self._run(topic)
        if notes is None:
            return None
        return {
            name: topic[notes[2 * number] : notes[2 * number + 1]] if notes[2 * number + 1] >= 0 else ""
            for number, name in enumerate(self.names)
        }

    @property
    def _takes_system_topics(self) -> bool:
        return any(each.startswith("$") for each in self.filters)

    def _run(self, topic: str) -> _Notes | None:
        waiting: dict[int, _Notes] = {}
        self._follow(waiting, 0, 0, (-1,) * (2 * len(self.names)))
        for position, character in enumerate(topic, 1):
            arrived, waiting = waiting, {}
            for number, notes in arrived.items():
                test = self._tests[number]
                if test is not None and test(character):
                    self._follow(waiting, number + 1, position, notes)
            if not waiting:
                return None
        # Of the ways that end here the preferred one came first.
        return waiting.get(len(self._tests) - 1)

    def _follow(self, waiting: dict[int, _Notes], begin: int, position: int, notes: _Notes) -> None:
        for number, noted in self._reach[begin]:
            if number in waiting:
                continue
            if noted:
                found = list(notes)
                for place in noted:
                    found[place] = position
                waiting[number] = tuple(found)
            else:
                waiting[number] = notes


@lru_cache(maxsize=1_024)
def parse_pattern(text: str, filters: tuple[str, ...]) -> TopicPattern:
    """Return the pattern that ``text`` spells.

    Args:
        text: a regular expression of Python's syntax; it has to match the whole topic.
        filters: MQTT subscription filters that bring the topics.

    Raises:
        InvalidName: no regular expression, one that could take too long, or a filter that is none.
    """
    for each in filters:
        parse_filter(each)
    steps, names = read_expression(text)
    begins = {0, *(number + 1 for number, step in enumerate(steps) if step.test is not None)}
    reach = {begin: _reached(steps, begin) for begin in begins}
    return TopicPattern(text, filters, names, tuple(step.test for step in steps), reach)


def _reached(steps: Sequence[Step], begin: int) -> _Reached:
    """Return the tests and the end reached from a step, preferred ones first, with what is noted on the way."""
    reached: list[tuple[int, tuple[int, ...]]] = []
    seen: set[int] = set()
    open_ways: list[tuple[int, tuple[int, ...]]] = [(begin, ())]
    while open_ways:
        number, noted = open_ways.pop()
        if number in seen:
            continue
        seen.add(number)
        step = steps[number]
        if step.test is not None or step == END:
            reached.append((number, noted))
        if step.note is not None:
            open_ways.append((number + 1, (*noted, step.note)))
        open_ways += [(number + way, noted) for way in reversed(step.ways)]
    return tuple(reached)
