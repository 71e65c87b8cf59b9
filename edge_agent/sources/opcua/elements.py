"""Which elements the values of a source's nodes have: learned, named, bounded, and kept over a restart."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol

import numpy as np

from edge_agent.sources.opcua.config import NodeConfig
from shopfloor.block import UInt32
from shopfloor.messages import SeriesDeclaration
from shopfloor.signal import SeriesKey

log = logging.getLogger(__name__)

MAX_ELEMENTS: Final = 100_000
"""Elements of all nodes of a source together."""
LEFT_OUT: Final = np.uint32(2**32 - 1)
_MAX_SAVED: Final = 20_000
_MAX_PLACES: Final = 10_000
_NAMED_IN_REPORT: Final = 3


class Wanted(Protocol):
    """The nodes, as far as elements have to know them."""

    configs: list[NodeConfig]

    @property
    def series(self) -> tuple[SeriesKey, ...]:
        """Of each node by its number, then those beside them."""
        ...

    def names(self, number: int) -> Mapping[int, str] | None:
        """Return the names of the values of a node that is an enumeration, where they are wanted."""
        ...

    def companion(self, number: int, suffix: str) -> int:
        """Return the position in ``series`` of a series that a node has beside its own."""
        ...


class Elements:
    """The elements of one source's nodes; those of a node by path, with whether its last value had them."""

    def __init__(self, nodes: Wanted) -> None:
        self._nodes = nodes
        self._present: dict[int, dict[str, bool]] = {}
        self._places: dict[tuple[int, tuple[str, ...]], UInt32] = {}
        self._remembered: dict[str, list[str]] = {}
        self._fitted = 0
        self._taken: set[SeriesKey] = set()
        """What nodes become themselves; made when the first element has to be told from it."""
        self._notes: dict[int, str] = {}
        self.concerned = np.zeros(0, np.bool_)
        """bool[nodes]: which have elements."""
        self.total = 0
        """How many elements there are."""
        self.news = False
        """Whether there is something to be reported or saved that was not there before; whoever does so resets it."""

    def __contains__(self, number: int) -> bool:
        """Tell whether a node's values were ever made of others: then its own series is none."""
        return number in self._present

    def begin(self) -> None:
        """Begin a session: nobody knows which elements there are now."""
        self._notes.clear()
        for elements in self._present.values():
            elements.update(dict.fromkeys(elements, True))

    def of(self, number: int) -> dict[str, bool]:
        """Return the elements of a node; whether its last value had them may be changed in there."""
        return self._present.get(number, {})

    def fit(self) -> bool:
        """Make room for the nodes that there are now; tell whether places of elements have moved, as there are more."""
        count = len(self._nodes.configs)
        if count == self._fitted:
            return False
        self._taken.clear()
        self._places.clear()
        self.concerned = np.zeros(count, np.bool_)
        for number in self._present:
            self.concerned[number] = True
        self._fitted = count
        if self._remembered:
            for number, series in enumerate(self._nodes.series[:count]):
                paths = self._remembered.pop(str(series), None)
                if paths:
                    self.learn(number, paths)
        return True

    def learn(self, number: int, paths: Iterable[str]) -> None:
        """Take up elements of a node that are new, as far as there is room for them."""
        config = self._nodes.configs[number]
        elements = self._present.get(number, {})
        asset = self._nodes.series[number].asset
        if not self._taken:
            self._taken.update(self._nodes.series[: self._fitted])
        refused = clash = 0
        for path in paths:
            if path in elements or not path:
                continue
            if SeriesKey(asset, f"{config.signal}.{path}") in self._taken:
                clash += 1
            elif len(elements) >= config.max_elements or self.total >= MAX_ELEMENTS:
                refused += 1
            else:
                elements[path] = True
                self.total += 1
                self.news = True
        if elements:
            self._present[number] = elements
            self.concerned[number] = True
        if clash:
            self.note(number, f"{clash} of its elements would be what other nodes become")
        if refused:
            self.note_limit(number)

    def places(self, number: int, paths: tuple[str, ...]) -> UInt32:
        """Return the positions in `Wanted.series` of elements; `LEFT_OUT` for one that is left out."""
        places = self._places.get((number, paths))
        if places is None:
            self.learn(number, paths)
            elements = self._present.get(number, {})
            places = np.array(
                [
                    self._nodes.companion(number, path)
                    if path in elements
                    else number
                    if not path
                    else LEFT_OUT
                    for path in paths
                ],
                np.uint32,
            )
            if len(self._places) >= _MAX_PLACES:
                self._places.clear()
            self._places[number, paths] = places
        return places

    def declarations(self, known: Sequence[tuple[str, str]] = ()) -> Iterator[SeriesDeclaration]:
        """Yield what is known of the elements: those of arrays have unit and description of their node.

        ``known`` holds these two of each node by its number, where there is more than the configuration says.
        """
        for number, elements in self._present.items():
            config = self._nodes.configs[number]
            for path in elements:
                is_index = path.replace(".", "").isdecimal()
                said = known[number] if known else (config.unit, config.description)
                if not is_index:
                    said = ("", "")
                yield SeriesDeclaration(str(config.asset), f"{config.signal}.{path}", *said)

    def summary(self) -> str:
        """Say what could not be taken apart, for the source's report; empty if nothing."""
        if not self._notes:
            return ""
        named = [
            f"{self._nodes.configs[number].label}: {note}"
            for number, note in sorted(self._notes.items())[:_NAMED_IN_REPORT]
        ]
        if len(self._notes) > len(named):
            named.append("…")
        return f"{len(self._notes)} of the values are not whole: {'; '.join(named)}"

    def saved(self) -> bytes:
        """Return the elements learned so far, to be kept over a restart."""
        known = {
            str(self._nodes.series[number]): list(elements) for number, elements in self._present.items()
        }
        room = _MAX_SAVED
        kept: dict[str, list[str]] = {}
        for series, paths in (known | self._remembered).items():
            kept[series] = paths[:room]
            room -= len(kept[series])
            if not room:
                break
        return json.dumps(kept).encode()

    def restore(self, raw: bytes | None) -> None:
        """Take up what `saved` returned in another life of this source; what is no such thing is ignored."""
        try:
            record = json.loads(raw) if raw else {}
        except ValueError:
            return
        if isinstance(record, dict):
            self._remembered |= {
                str(series): [str(path) for path in paths][:MAX_ELEMENTS]
                for series, paths in record.items()
                if isinstance(paths, list)
            }
            self._fitted = 0

    def note_limit(self, number: int) -> None:
        """Say that a node has more elements than are kept."""
        limit = self._nodes.configs[number].max_elements
        self.note(
            number, f"it has more elements than max_elements ({limit}), or some too deep for a signal's name"
        )

    def note(self, number: int, note: str) -> None:
        """Say something about a node once a session."""
        if number not in self._notes:
            self._notes[number] = note
            self.news = True
            log.warning("%s: %s", self._nodes.configs[number].label, note)
