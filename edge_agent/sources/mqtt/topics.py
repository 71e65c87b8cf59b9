"""Topic templates and filters: ``meters/{site}/{cell}`` matches a topic level by level and names what stands there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Final, Protocol

from shopfloor.errors import InvalidName

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SHARED: Final = "shared subscriptions ($share/...) lose the order of messages and are not supported"


class Filtered(Protocol):
    """What has subscription filters: a template, or a pattern."""

    @property
    def filters(self) -> tuple[str, ...]:
        """What to subscribe to."""
        ...


@dataclass(frozen=True, slots=True)
class TopicTemplate:
    """A parsed template: for each level its literal text, or None where a name stands for it."""

    levels: tuple[str | None, ...]
    names: tuple[str, ...]
    """The names of the None levels, in order."""

    @property
    def filter(self) -> str:
        """The MQTT subscription filter that covers exactly these topics (MQTT 5.0 §4.7)."""
        return "/".join("+" if level is None else level for level in self.levels)

    @property
    def filters(self) -> tuple[str, ...]:
        """The one filter, as a pattern has several."""
        return (self.filter,)

    def match(self, topic: str) -> dict[str, str] | None:
        """Return what stands at the named levels of ``topic``; None where the topic has another form."""
        parts = topic.split("/")
        if len(parts) != len(self.levels):
            return None
        # A wildcard at the first level does not match topics of the broker itself ($SYS/...), MQTT 5.0 §4.7.2.
        if self.levels[0] is None and topic.startswith("$"):
            return None
        found: list[str] = []
        for level, part in zip(self.levels, parts, strict=True):
            if level is None:
                found.append(part)
            elif level != part:
                return None
        return dict(zip(self.names, found, strict=True))


@lru_cache(maxsize=4_096)
def parse_template(text: str) -> TopicTemplate:
    """Return the template that ``text`` spells.

    Raises:
        InvalidName: a wildcard, a name that is not a whole level, a name twice, or a shared subscription.
    """
    levels: list[str | None] = []
    names: list[str] = []
    if "\0" in text:
        raise InvalidName("a topic can't contain the character NUL")
    for level in text.split("/"):
        if "+" in level or "#" in level:
            raise InvalidName(
                f"topic level {level[:80]!r}: write {{name}} for a level that varies; + and # stay out"
            )
        match = _PLACEHOLDER.fullmatch(level)
        if match is None:
            if "{" in level or "}" in level:
                raise InvalidName(f"topic level {level[:80]!r}: {{name}} stands for a whole level only")
            levels.append(level)
            continue
        name = match[1]
        if not is_name(name):
            raise InvalidName(
                f"topic level {level[:80]!r}: a name is a-z, 0-9 and _, beginning with a letter"
            )
        if name in names:
            raise InvalidName(f"topic level {level[:80]!r} stands there twice")
        names.append(name)
        levels.append(None)
    if levels[0] == "$share":
        raise InvalidName(_SHARED)
    return TopicTemplate(tuple(levels), tuple(names))


def is_name(text: str) -> bool:
    """Tell whether ``text`` may stand in braces."""
    return _NAME.fullmatch(text) is not None


def placeholders(text: str) -> tuple[str, ...]:
    """Return the names in braces in an asset or signal template."""
    return tuple(_PLACEHOLDER.findall(text))


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return an asset or signal template with its names replaced; every name must be in ``values``."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


class Relation(Enum):
    """How the topics of one template or filter lie to those of another."""

    APART = auto()
    SAME = auto()
    WIDER = auto()
    """The first matches all that the second does, and more."""
    NARROWER = auto()
    CROSSING = auto()
    """Some topics match both, and each matches some that the other does not."""


def compare(first: TopicTemplate, second: TopicTemplate) -> Relation:
    """Say how the topics of two templates lie to each other."""
    if len(first.levels) != len(second.levels):
        return Relation.APART
    for one, other in zip(first.levels, second.levels, strict=True):
        # Nearly all pairs of a long list end here.
        if one != other and one is not None and other is not None:
            return Relation.APART
    return compare_filters(first.filter, second.filter)


def compare_filters(first: str, second: str) -> Relation:
    """Say how the topics of two subscription filters lie to each other (wildcards: MQTT 5.0 §4.7.1)."""
    one, other = first.split("/"), second.split("/")
    covers, is_covered = _covers(one, other), _covers(other, one)
    if covers:
        return Relation.SAME if is_covered else Relation.WIDER
    if is_covered:
        return Relation.NARROWER
    return Relation.CROSSING if _meet(one, other) else Relation.APART


def _covers(wide: Sequence[str], narrow: Sequence[str]) -> bool:
    """Tell whether ``wide`` matches all that ``narrow`` matches."""
    for position, level in enumerate(wide):
        other = narrow[position] if position < len(narrow) else None
        if position == 0 and other is not None and level in {"+", "#"} and other.startswith("$"):
            return False
        if level == "#":
            # It matches its parent level too; further up the loop has ended already.
            return True
        if other is None or other == "#" or (level not in {"+", other}):
            return False
    return len(wide) == len(narrow)


def _meet(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether some topic matches both."""
    if (one[0] in {"+", "#"} and other[0].startswith("$")) or (
        other[0] in {"+", "#"} and one[0].startswith("$")
    ):
        return False
    for left, right in zip(one, other, strict=False):
        if "#" in {left, right}:
            return True
        if left != right and "+" not in {left, right}:
            return False
    if len(one) == len(other):
        return True
    longer, shorter = (one, other) if len(one) > len(other) else (other, one)
    return longer[len(shorter) :] == ["#"]


def parse_filter(text: str) -> str:
    """Return a subscription filter unchanged, if it is one (MQTT 5.0 §4.7).

    Raises:
        InvalidName: a wildcard that is no whole level, ``#`` before the end, a shared subscription, or NUL.
    """
    levels = text.split("/")
    if not text or "\0" in text:
        raise InvalidName("a subscription is not empty and has no character NUL")
    for number, level in enumerate(levels):
        if ("+" in level or "#" in level) and len(level) > 1:
            raise InvalidName(f"level {level[:80]!r} of a subscription: + and # stand for whole levels only")
        if level == "#" and number < len(levels) - 1:
            raise InvalidName("# stands at the end of a subscription only")
    if levels[0] == "$share":
        raise InvalidName(_SHARED)
    return text


def subscription_filters(forms: Sequence[Filtered]) -> tuple[str, ...]:
    """Return the filters to subscribe to: one covered by another is left out.

    Overlapping subscriptions may bring a message once for each (MQTT 3.1.1 §3.3.5), which nobody could tell from
    two messages.
    """
    filters = list(dict.fromkeys(each for form in forms for each in form.filters))
    return tuple(
        each
        for number, each in enumerate(filters)
        if not any(
            (relation := compare_filters(other, each)) is Relation.WIDER
            or (relation is Relation.SAME and position < number)
            for position, other in enumerate(filters)
        )
    )
