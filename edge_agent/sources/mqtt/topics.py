"""Topic templates: ``meters/{site}/{cell}`` matches a topic level by level and names what stands there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Final

from shopfloor.errors import InvalidName

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


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
        if not _NAME.fullmatch(name):
            raise InvalidName(
                f"topic level {level[:80]!r}: a name is a-z, 0-9 and _, beginning with a letter"
            )
        if name in names:
            raise InvalidName(f"topic level {level[:80]!r} stands there twice")
        names.append(name)
        levels.append(None)
    if levels[0] == "$share":
        raise InvalidName(
            "shared subscriptions ($share/...) lose the order of messages and are not supported"
        )
    return TopicTemplate(tuple(levels), tuple(names))


def placeholders(text: str) -> tuple[str, ...]:
    """Return the names in braces in an asset or signal template."""
    return tuple(_PLACEHOLDER.findall(text))


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return an asset or signal template with its names replaced; every name must be in ``values``."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


class Relation(Enum):
    """How the topics of one template lie to those of another."""

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
    wider = narrower = False
    for one, other in zip(first.levels, second.levels, strict=True):
        if one == other:
            continue
        if one is not None and other is not None:
            return Relation.APART
        wider |= one is None
        narrower |= other is None
    if wider and narrower:
        return Relation.CROSSING
    if wider:
        return Relation.WIDER
    return Relation.NARROWER if narrower else Relation.SAME


def subscription_filters(templates: Sequence[TopicTemplate]) -> tuple[str, ...]:
    """Return the filters to subscribe to: one covered by another is left out.

    Overlapping subscriptions may bring a message once for each (MQTT 3.1.1 §3.3.5), which nobody could tell from
    two messages.
    """
    kept = [
        template
        for number, template in enumerate(templates)
        if not any(
            compare(other, template) is Relation.WIDER
            or (compare(other, template) is Relation.SAME and position < number)
            for position, other in enumerate(templates)
        )
    ]
    return tuple(template.filter for template in kept)
