"""Regular expressions over whole topics, matched in a time that grows with the topic's length and no faster.

Python's own engine tries one way after the other, which a topic from the network can drag out for hours. Here all ways
advance together, one character at a time (Thompson's construction with captures), so that a topic costs at most its
length times the expression's size. What can't be done that way (look-around, references back) is refused. Syntax and
meaning of the rest are those of Python's ``re.fullmatch``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn

from edge_agent.sources.mqtt.topics import is_name, parse_filter
from shopfloor.errors import InvalidName

MAX_TOPIC: Final = 1_000
"""Topics longer than this match no expression."""
_MAX_STEPS: Final = 500
"""Steps that an expression may have once its bounded repetitions are written out."""
_REPEAT: Final = re.compile(r"[*+?]|\{(?=[\d,])(\d*)(?:(,)(\d*))?\}", re.ASCII)
_CLASS: Final = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_GROUP: Final = re.compile(r"\((?:\?:|\?P<([^>]*)>)?")
_TOO_DEEP: Final = "a regular expression nested too deeply"
_Test = Callable[[str], object]
_Notes = tuple[int, ...]
"""Begin and end of each named group in turn, -1 where it has none."""
_Reached = tuple[tuple[int, tuple[int, ...]], ...]
"""Step, and the places that are noted on the way there."""


class _Step(NamedTuple):
    """One instruction: a character to test, a place to note, or ways to go on; with none of them the end."""

    test: _Test | None = None
    note: int | None = None
    ways: tuple[int, ...] = ()
    """Relative to this step, the preferred one first."""


_Steps = list[_Step]
_END: Final = _Step()


@dataclass(frozen=True, slots=True)
class TopicPattern:
    """A regular expression over topics, and the subscriptions that bring them."""

    text: str
    filters: tuple[str, ...]
    names: tuple[str, ...]
    """The named groups, in the order in which they begin."""
    _tests: tuple[_Test | None, ...]
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
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            re.compile(text)
        except re.error as error:
            where = "" if error.pos is None else f" at character {error.pos + 1}"
            raise InvalidName(f"not a regular expression: {error.msg}{where}") from None
        except (FutureWarning, DeprecationWarning) as error:
            raise InvalidName(f"an ambiguous regular expression: {error}") from None
        except (RecursionError, OverflowError):
            raise InvalidName(_TOO_DEEP) from None
    reader = _Reader(text)
    try:
        steps = reader.whole()
    except RecursionError:
        raise InvalidName(_TOO_DEEP) from None
    steps = [*steps, _END]
    begins = {0, *(number + 1 for number, step in enumerate(steps) if step.test is not None)}
    reach = {begin: _reached(steps, begin) for begin in begins}
    return TopicPattern(text, filters, tuple(reader.names), tuple(step.test for step in steps), reach)


def _reached(steps: Sequence[_Step], begin: int) -> _Reached:
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
        if step.test is not None or step == _END:
            reached.append((number, noted))
        if step.note is not None:
            open_ways.append((number + 1, (*noted, step.note)))
        open_ways += [(number + way, noted) for way in reversed(step.ways)]
    return tuple(reached)


class _Reader:
    """Reads an expression that ``re`` has found to be well-formed."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.names: list[str] = []

    def whole(self) -> _Steps:
        if self._text.startswith("^"):
            self._at = 1
        steps = self._choice()
        assert self._at == len(self._text), self._text
        return steps

    def _choice(self) -> _Steps:
        """Read alternatives up to ``)`` or the end."""
        ways = [self._sequence()]
        while self._next("|"):
            ways.append(self._sequence())
        return self._bounded(_either(ways))

    def _sequence(self) -> _Steps:
        steps: _Steps = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            if self._text[self._at] == "$" and self._at == len(self._text) - 1:
                self._at += 1
                break
            begin = self._at
            named = len(self.names)
            steps += self._bounded(self._repeated(begin, self._single(), named))
        return steps

    def _single(self) -> _Steps:
        text, at = self._text, self._at
        character = text[at]
        if character == "(":
            return self._group()
        if character in "^$":
            self._refuse(at, f"{character} inside; an expression matches whole topics anyway")
        end = at + 1
        if character == "[":
            match = _CLASS.match(text, at)
            assert match is not None
            end = match.end()
        elif character == "\\":
            end = at + 2
            if text[at + 1].isalnum() and text[at + 1] not in "dDwWsS":
                self._refuse(at, f"{text[at:end]} is not supported")
        self._at = end
        return [_Step(test=_test(text[at:end]))]

    def _group(self) -> _Steps:
        at = self._at
        match = _GROUP.match(self._text, at)
        assert match is not None
        self._at = match.end()
        name = match[1]
        if self._text.startswith("?", self._at):
            self._refuse(at, "of groups only (...), (?:...) and (?P<name>...) are supported")
        number = len(self.names)
        if name is not None:
            if not is_name(name):
                self._refuse(at, f"group {name!r}: a name is a-z, 0-9 and _, beginning with a letter")
            self.names.append(name)
        inner = self._choice()
        assert self._text[self._at] == ")"
        self._at += 1
        if name is None:
            return inner
        return [_Step(note=2 * number), *inner, _Step(note=2 * number + 1)]

    def _repeated(self, begin: int, steps: _Steps, named: int) -> _Steps:
        match = _REPEAT.match(self._text, self._at)
        if match is None:
            return steps
        self._at = match.end()
        lazy = self._next("?")
        if self._next("+"):
            self._refuse(begin, "possessive repetition is not supported")
        least, most = _times(match)
        if _may_be_empty(steps) and most != 1:
            self._refuse(begin, "what is repeated here may be empty, which can be read in many ways")
        if most is not None and most < least:
            self._refuse(begin, "repeats at least more often than at most")
        if most == 0 and len(self.names) > named:
            self._refuse(begin, "a named group that is never there")
        if (least if most is None else most) * len(steps) > _MAX_STEPS:
            self._refuse(begin, f"too large: over {_MAX_STEPS} steps")
        made = steps * least
        if most is None:
            return made + _loop(steps, lazy=lazy)
        for _ in range(most - least):
            made += _optional(steps, lazy=lazy)
        return made

    def _bounded(self, steps: _Steps) -> _Steps:
        if len(steps) > _MAX_STEPS:
            raise InvalidName(
                f"the expression is too large: over {_MAX_STEPS} steps with its repetitions written out"
            )
        return steps

    def _next(self, character: str) -> bool:
        found = self._text.startswith(character, self._at)
        self._at += found
        return found

    def _refuse(self, at: int, why: str) -> NoReturn:
        raise InvalidName(f"character {at + 1} of the expression: {why}")


def _times(match: re.Match[str]) -> tuple[int, int | None]:
    """Return least and most of a quantifier; None where nothing bounds it."""
    simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}
    if match[0] in simple:
        return simple[match[0]]
    least = int(match[1] or 0)
    if match[2] is None:
        return least, least
    return least, int(match[3]) if match[3] else None


def _either(ways: Sequence[_Steps]) -> _Steps:
    *others, last = ways
    steps = last
    for way in reversed(others):
        # The way, then over the rest to what follows all.
        steps = [_Step(ways=(1, len(way) + 2)), *way, _Step(ways=(len(steps) + 1,)), *steps]
    return steps


def _optional(steps: _Steps, *, lazy: bool) -> _Steps:
    return [_Step(ways=_order(1, len(steps) + 1, lazy=lazy)), *steps]


def _loop(steps: _Steps, *, lazy: bool) -> _Steps:
    return [_Step(ways=_order(1, len(steps) + 2, lazy=lazy)), *steps, _Step(ways=(-len(steps) - 1,))]


def _order(inside: int, past: int, *, lazy: bool) -> tuple[int, int]:
    return (past, inside) if lazy else (inside, past)


def _may_be_empty(steps: _Steps) -> bool:
    """Tell whether the end is reached without a test."""
    reached, open_ways = set(), [0]
    while open_ways:
        number = open_ways.pop()
        if number == len(steps):
            return True
        if number in reached:
            continue
        reached.add(number)
        step = steps[number]
        if step.note is not None:
            open_ways.append(number + 1)
        open_ways += [number + way for way in step.ways]
    return False


@lru_cache(maxsize=4_096)
def _test(atom: str) -> _Test:
    """Return the test of one character against a literal, an escape or a class."""
    matches = re.compile(atom).fullmatch
    if atom[0] in "[.\\":
        # Most topics are ASCII: what these characters are is looked up.
        known = [matches(chr(code)) is not None for code in range(128)]
        return lambda character: known[ord(character)] if character < "\x80" else matches(character)
    return atom.__eq__
