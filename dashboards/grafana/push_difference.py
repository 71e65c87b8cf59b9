"""Differences between two JSON values, as lines that a person can read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

_NAMES: Final = ("refId", "uid", "id", "name")
"""What tells the members of a list apart, the first one that all of them have."""
_LABELS: Final = ("title", *_NAMES)
_LONGEST: Final = 100


class Absent:
    """What stands for a value that one side does not have."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = Absent()


class Difference(NamedTuple):
    """One place where two values differ."""

    path: str
    """Such as ``panels[Cycle time].targets[A].query``."""
    there: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.path or 'all'}: {_shown(self.there)} -> {_shown(self.ours)}"


def differences(there: Any, ours: Any, *, only_ours: bool = False) -> list[Difference]:
    """Return where two JSON values differ, in the order of ``ours``; numbers of any kind are equal by value.

    Args:
        there: what is found.
        ours: what is wanted.
        only_ours: whether keys that only ``there`` has do not count.
    """
    return list(_between(there, ours, "", only_ours=only_ours))


def _between(there: Any, ours: Any, path: str, *, only_ours: bool) -> Iterator[Difference]:
    if isinstance(there, Mapping) and isinstance(ours, Mapping):
        keys = list(ours) if only_ours else [*ours, *(key for key in there if key not in ours)]
        for key in keys:
            below = f"{path}.{key}" if path else str(key)
            yield from _between(there.get(key, ABSENT), ours.get(key, ABSENT), below, only_ours=only_ours)
    elif isinstance(there, list) and isinstance(ours, list):
        yield from _between_lists(there, ours, path, only_ours=only_ours)
    elif there != ours or isinstance(there, bool) != isinstance(ours, bool):
        yield Difference(path, there, ours)


def _between_lists(
    there: Sequence[Any], ours: Sequence[Any], path: str, *, only_ours: bool
) -> Iterator[Difference]:
    key = next((name for name in _NAMES if _tells_apart(there, name) and _tells_apart(ours, name)), None)
    if key is None:
        for place in range(max(len(there), len(ours))):
            one = there[place] if place < len(there) else ABSENT
            other = ours[place] if place < len(ours) else ABSENT
            yield from _between(one, other, f"{path}[{_label(other, one, place)}]", only_ours=only_ours)
        return
    found = {one[key]: one for one in there}
    wanted = {one[key]: one for one in ours}
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        one, other = found.get(name, ABSENT), wanted.get(name, ABSENT)
        yield from _between(one, other, f"{path}[{_label(other, one, name)}]", only_ours=only_ours)


def _tells_apart(members: Sequence[Any], name: str) -> bool:
    names = [one.get(name) for one in members if isinstance(one, Mapping)]
    if len(names) < len(members) or not all(isinstance(one, str | int) for one in names):
        return False
    return len(set(names)) == len(names)


def _label(one: Any, other: Any, otherwise: object) -> object:
    for member in (one, other):
        if isinstance(member, Mapping):
            for name in _LABELS:
                if isinstance(member.get(name), str) and member[name]:
                    return member[name]
    return otherwise


def _shown(value: Any) -> str:
    if value is ABSENT:
        return repr(value)
    if isinstance(value, Mapping | list):
        title = value.get("title", "") if isinstance(value, Mapping) else ""
        kind = "keys" if isinstance(value, Mapping) else "members"
        return f"{title!r} with {len(value)} {kind}" if title else f"{len(value)} {kind}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
