"""Regular expressions taken apart into steps; see `edge_agent.sources.mqtt.topic_regex`, which walks through them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn

from edge_agent.sources.mqtt.topics import is_name
from shopfloor.errors import InvalidName

_MAX_STEPS: Final = 500
"""Steps that an expression may have once its bounded repetitions are written out."""
_REPEAT: Final = re.compile(r"[*+?]|\{(?=[\d,])(\d*)(?:(,)(\d*))?\}", re.ASCII)
_CLASS: Final = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_GROUP: Final = re.compile(r"\((?:\?:|\?P<([^>]*)>)?")
_TOO_DEEP: Final = "a regular expression nested too deeply"
Test = Callable[[str], object]
"""Tells whether a character is one of those that a step takes."""


class Step(NamedTuple):
    """One instruction: a character to test, a place to note, or ways to go on; with none of them the end."""

    test: Test | None = None
    note: int | None = None
    """The place: twice the number of a named group for its begin, one more for its end."""
    ways: tuple[int, ...] = ()
    """Relative to this step, the preferred one first."""


Steps = list[Step]
END: Final = Step()


def read_expression(text: str) -> tuple[Steps, tuple[str, ...]]:
    """Return the steps of an expression, the end last, and its named groups in the order in which they begin.

    Raises:
        InvalidName: no regular expression, or one with what is not supported; the message says where.
    """
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
    return [*steps, END], tuple(reader.names)


class _Reader:
    """Reads an expression that ``re`` has found to be well-formed."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.names: list[str] = []

    def whole(self) -> Steps:
        if self._text.startswith("^"):
            self._at = 1
        steps = self._choice()
        assert self._at == len(self._text), self._text
        return steps

    def _choice(self) -> Steps:
        """Read alternatives up to ``)`` or the end."""
        ways = [self._sequence()]
        while self._next("|"):
            ways.append(self._sequence())
        return self._bounded(_either(ways))

    def _sequence(self) -> Steps:
        steps: Steps = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            if self._text[self._at] == "$" and self._at == len(self._text) - 1:
                self._at += 1
                break
            begin = self._at
            named = len(self.names)
            steps += self._bounded(self._repeated(begin, self._single(), named))
        return steps

    def _single(self) -> Steps:
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
        return [Step(test=_test(text[at:end]))]

    def _group(self) -> Steps:
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
        return [Step(note=2 * number), *inner, Step(note=2 * number + 1)]

    def _repeated(self, begin: int, steps: Steps, named: int) -> Steps:
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

    def _bounded(self, steps: Steps) -> Steps:
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


def _either(ways: Sequence[Steps]) -> Steps:
    *others, last = ways
    steps = last
    for way in reversed(others):
        # The way, then over the rest to what follows all.
        steps = [Step(ways=(1, len(way) + 2)), *way, Step(ways=(len(steps) + 1,)), *steps]
    return steps


def _optional(steps: Steps, *, lazy: bool) -> Steps:
    return [Step(ways=_order(1, len(steps) + 1, lazy=lazy)), *steps]


def _loop(steps: Steps, *, lazy: bool) -> Steps:
    return [Step(ways=_order(1, len(steps) + 2, lazy=lazy)), *steps, Step(ways=(-len(steps) - 1,))]


def _order(inside: int, past: int, *, lazy: bool) -> tuple[int, int]:
    return (past, inside) if lazy else (inside, past)


def _may_be_empty(steps: Steps) -> bool:
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
def _test(atom: str) -> Test:
    """Return the test of one character against a literal, an escape or a class."""
    matches = re.compile(atom).fullmatch
    if atom[0] in "[.\\":
        # Most topics are ASCII: what these characters are is looked up.
        known = [matches(chr(code)) is not None for code in range(128)]
        return lambda character: known[ord(character)] if character < "\x80" else matches(character)
    return atom.__eq__
