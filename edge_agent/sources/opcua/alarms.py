"""Conditions (Part 9): which there are, which stand, and the samples that a change of one becomes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from edge_agent.sources.opcua.event_rows import number_of, text_of
from edge_agent.sources.opcua.patterns import legal
from shopfloor.errors import InvalidName
from shopfloor.signal import parse_signal

FIELDS: Final[tuple[tuple[str, ...], ...]] = (
    ("ConditionName",), ("SourceName",), ("Message",), ("Severity",), ("Retain",), ("BranchId",),
    ("EnabledState", "Id"), ("ActiveState", "Id"), ("AckedState", "Id"),
)  # fmt: skip
"""What is selected of a condition, all in namespace 0; the NodeId of the condition follows."""
_NULL_NODES: Final = frozenset({"", "i=0"})
_MAX_SEGMENT: Final = 63


class Condition(NamedTuple):
    """One event of a condition."""

    key: str
    """What it is known by: the names of its source and its own, and its NodeId without the namespace's index."""
    source: str
    name: str
    message: str
    severity: float
    active: bool
    acknowledged: bool | None
    """None for a condition that nobody has to acknowledge."""
    is_branch: bool
    """An earlier state that still waits for somebody, not the present one."""


def read_condition(fields: Sequence[bytes], branch: str, node: str) -> Condition:
    """Return what an event says of a condition.

    Args:
        fields: the Variants of `FIELDS`.
        branch: the BranchId as text.
        node: the condition's NodeId as text, empty where the server gives none.
    """
    name, source, message = (text_of(field) for field in fields[:3])
    severity, retain = number_of(fields[3]), number_of(fields[4])
    enabled, active, acknowledged = (number_of(field) for field in fields[6:9])
    stands = active if active is not None else retain
    identifier = node.rpartition(";")[2]
    return Condition(
        f"{source}\0{name}\0{identifier}",
        source,
        name,
        message,
        severity or 0.0,
        bool(stands) and enabled != 0.0,
        None if acknowledged is None else bool(acknowledged),
        branch not in _NULL_NODES,
    )


class Change(NamedTuple):
    """A sample of a condition."""

    signal: str
    value: float
    text: str | None = None


@dataclass(slots=True)
class Book:
    """The conditions that one listener has met; the names of their signals stay once they are given."""

    prefix: str
    most: int
    signals: dict[str, str] = field(default_factory=dict)
    """By the condition's key."""
    active: set[str] = field(default_factory=set)
    """Keys of those that stand."""
    refreshed: set[str] | None = None
    """Those that the server has named since it began to name all that stand; None while it does not."""

    def restore(self, raw: bytes | None) -> None:
        """Take up what was saved."""
        if raw is not None:
            record = json.loads(raw)
            self.signals = dict(record["signals"])
            self.active = set(record["active"])

    def saved(self) -> bytes:
        """Return what `restore` takes."""
        return json.dumps({"signals": self.signals, "active": sorted(self.active)}).encode()

    def copy(self) -> Book:
        """Return a book to write into before it is known that the disk takes it."""
        refreshed = None if self.refreshed is None else set(self.refreshed)
        return Book(self.prefix, self.most, dict(self.signals), set(self.active), refreshed)

    def take(self, condition: Condition) -> list[Change] | None:
        """Return what a condition's new state becomes; None where there are too many conditions already."""
        signal = self.signals.get(condition.key)
        if signal is None:
            if len(self.signals) >= self.most:
                return None
            signal = self.signals[condition.key] = self._name(condition)
        if self.refreshed is not None:
            self.refreshed.add(condition.key)
        if condition.active:
            self.active.add(condition.key)
        else:
            self.active.discard(condition.key)
        changes = [
            Change(signal, float("nan"), condition.message if condition.active else ""),
            Change(f"{signal}.severity", condition.severity),
            Change(f"{signal}.active", float(condition.active)),
        ]
        if condition.acknowledged is not None:
            changes.append(Change(f"{signal}.acknowledged", float(condition.acknowledged)))
        return changes

    def begin_refresh(self) -> None:
        """The server begins to name all conditions that stand (RefreshStartEventType)."""
        self.refreshed = set()

    def end_refresh(self) -> list[Change]:
        """It has named them all: what it left out stands no more."""
        named, self.refreshed = self.refreshed, None
        over = sorted(self.active - named) if named is not None else []
        self.active.difference_update(over)
        return [
            change
            for key in over
            for change in (
                Change(self.signals[key], float("nan"), ""),
                Change(f"{self.signals[key]}.active", 0.0),
            )
        ]

    def _name(self, condition: Condition) -> str:
        """Return a signal for a condition: its own name, with its source's where another one has that already."""
        taken = set(self.signals.values())
        for signal in self._names(condition):
            if signal not in taken:
                return signal
        raise AssertionError("there are as many names as wanted")

    def _names(self, condition: Condition) -> Iterator[str]:
        own = legal(condition.name or "condition")
        for parts in ((own,), (legal(condition.source or "source"), own)):
            yield from _legal_signal(self.prefix, parts)
        for count in range(2, self.most + 2):
            yield from _legal_signal(self.prefix, (f"{own[: _MAX_SEGMENT - 6]}_{count}",))


def _legal_signal(prefix: str, parts: Sequence[str]) -> Iterator[str]:
    try:
        yield parse_signal(".".join((prefix, *parts)))
    except InvalidName:
        # A prefix of many parts leaves no room.
        return
