"""The elements of arrays and structures as series beside those of their nodes: ``SIGNAL.PATH``.

Which there are is learned from the values. What has been learned stays: an element that a later value does not have
becomes null and BAD, once, and a node that turns bad takes all of its elements with it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.arrays import Leaves
from edge_agent.sources.opcua.columns import Compound, Readings
from edge_agent.sources.opcua.config import NodeConfig
from edge_agent.sources.opcua.datavalue import OVERFLOW_BITS
from edge_agent.sources.opcua.structures import Types
from edge_agent.sources.opcua.unfold import unfold
from shopfloor.block import STATUS_NOT_CONVERTIBLE, UInt32
from shopfloor.messages import SeriesDeclaration
from shopfloor.signal import SeriesKey

log = logging.getLogger(__name__)

MAX_ELEMENTS: Final = 100_000
"""Elements of all nodes of a source together."""
_MAX_SIGNAL_PARTS: Final = 8
_MAX_SAVED: Final = 20_000
_MAX_PLACES: Final = 10_000
_NAMED_IN_REPORT: Final = 3
_LEFT_OUT: Final = np.uint32(2**32 - 1)
_NAN: Final = float("nan")


class Wanted(Protocol):
    """The nodes, as far as elements have to know them."""

    configs: list[NodeConfig]

    @property
    def series(self) -> tuple[SeriesKey, ...]:
        """Of each node by its number, then those beside them."""
        ...

    def companion(self, number: int, suffix: str) -> int:
        """Return the position in ``series`` of a series that a node has beside its own."""
        ...


class _Rows(NamedTuple):
    """What takes the place of one reading."""

    series: UInt32
    value: Sequence[float]
    status: Sequence[int]
    null: Sequence[bool]
    text: Mapping[int, str]


class Expansion:
    """The elements of one source's nodes."""

    def __init__(self, nodes: Wanted) -> None:
        self._nodes = nodes
        self.types = Types()
        """The structures of this session."""
        self._present: dict[int, dict[str, bool]] = {}
        """Of each node the elements that it ever had; whether the last value had them."""
        self._last: dict[int, tuple[str, ...]] = {}
        self._places: dict[tuple[int, tuple[str, ...]], UInt32] = {}
        self._remembered: dict[str, list[str]] = {}
        self._fitted = 0
        self._taken: set[SeriesKey] = set()
        self._has = np.zeros(0, np.bool_)
        self._total = 0
        self._notes: dict[int, str] = {}
        self.news = False
        """Whether there is something to be reported or saved that was not there before; whoever does so resets it."""

    def begin(self) -> None:
        """Begin a session: other types may count, and nobody knows which elements there are now."""
        self.types.clear()
        self._last.clear()
        self._notes.clear()
        for elements in self._present.values():
            elements.update(dict.fromkeys(elements, True))

    def take_apart(self, readings: Readings) -> tuple[list[Leaves], set[str]]:
        """Take the values that are made of others apart, as far as their types are known.

        Returns:
            The elements of each, and the encodings that have to be learned before it can be done better.

        Raises:
            MalformedMessage: what came is no value.
        """
        leaves = [self._unfold(readings, each) for each in readings.compound]
        return leaves, {encoding for each in leaves for encoding in each.unknown}

    def _unfold(self, readings: Readings, compound: Compound) -> Leaves:
        config = self._nodes.configs[int(readings.handle[compound.row])]
        room = _MAX_SIGNAL_PARTS - config.signal.count(".") - 1
        return unfold(compound.variant, self.types, config.max_elements, room)

    def expand(self, readings: Readings, leaves: Sequence[Leaves] = ()) -> Readings:
        """Put the elements of values in their places.

        Args:
            readings: ``n`` of them, each of a node that there is.
            leaves: what `take_apart` returned for their ``compound`` values.

        Returns:
            The same object where all are plain values of nodes that never had any elements.
        """
        if len(self._nodes.configs) != self._fitted:
            self._fit()
        special: dict[int, Leaves | None] = {
            compound.row: each for compound, each in zip(readings.compound, leaves, strict=True)
        }
        if self._total:
            for row in np.flatnonzero(self._has[readings.handle]).tolist():
                special.setdefault(row, None)
        return self._assemble(readings, special) if special else readings

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

    @property
    def total(self) -> int:
        """How many elements there are."""
        return self._total

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

    def _fit(self) -> None:
        """Make room for the nodes that there are now; places of elements move when there are more."""
        count = len(self._nodes.configs)
        self._taken = set(self._nodes.series[:count])
        self._places.clear()
        self._has = np.zeros(count, np.bool_)
        for number in self._present:
            self._has[number] = True
        self._fitted = count
        if self._remembered:
            for number, series in enumerate(self._nodes.series[:count]):
                paths = self._remembered.pop(str(series), None)
                if paths:
                    self._learn(number, paths)

    def _learn(self, number: int, paths: Iterable[str]) -> None:
        """Take up elements of a node that are new, as far as there is room for them."""
        config = self._nodes.configs[number]
        elements = self._present.get(number, {})
        asset = self._nodes.series[number].asset
        refused = clash = 0
        for path in paths:
            if path in elements or not path:
                continue
            if SeriesKey(asset, f"{config.signal}.{path}") in self._taken:
                clash += 1
            elif len(elements) >= config.max_elements or self._total >= MAX_ELEMENTS:
                refused += 1
            else:
                elements[path] = True
                self._total += 1
                self.news = True
        if elements:
            self._present[number] = elements
            self._has[number] = True
        if clash:
            self._note(number, f"{clash} of its elements would be what other nodes become")
        if refused:
            self._note_limit(number)

    def _place(self, number: int, paths: tuple[str, ...]) -> UInt32:
        """Return the positions in `Wanted.series` of elements; `_LEFT_OUT` for one that is left out."""
        places = self._places.get((number, paths))
        if places is None:
            self._learn(number, paths)
            elements = self._present.get(number, {})
            places = np.array(
                [
                    self._nodes.companion(number, path)
                    if path in elements
                    else number
                    if not path
                    else _LEFT_OUT
                    for path in paths
                ],
                np.uint32,
            )
            if len(self._places) >= _MAX_PLACES:
                self._places.clear()
            self._places[number, paths] = places
        return places

    def _assemble(self, readings: Readings, special: Mapping[int, Leaves | None]) -> Readings:
        count = len(readings.handle)
        rows: dict[int, _Rows] = {}
        left_out = not_convertible = rounded = 0
        for row in sorted(special):
            leaves = special[row]
            rows[row] = self._rows(readings, row, leaves)
            if leaves is not None:
                not_convertible += leaves.not_convertible
                rounded += leaves.rounded
                left_out += leaves.beyond
        sizes = np.ones(count, np.int64)
        for row, made in rows.items():
            sizes[row] = len(made.series)
        origin = np.repeat(np.arange(count), sizes)
        begin = np.cumsum(sizes) - sizes
        series, value = readings.handle[origin], readings.value[origin]
        status, null = readings.status[origin], readings.null[origin]
        text = {int(begin[row]): line for row, line in readings.text.items() if row not in rows}
        for row, made in rows.items():
            at = int(begin[row])
            end = at + len(made.series)
            series[at:end], value[at:end] = made.series, made.value
            status[at:end], null[at:end] = made.status, made.null
            text.update({at + position: line for position, line in made.text.items()})
        kept = series != _LEFT_OUT
        whole = readings._replace(
            handle=readings.handle[origin],
            source_time=readings.source_time[origin],
            value=value,
            status=status,
            null=null,
            text=text,
            series=series,
            compound=(),
            not_convertible=readings.not_convertible + not_convertible,
            integer_rounded=readings.integer_rounded + rounded,
            element_left_out=left_out + int(np.count_nonzero(~kept)),
        )
        return whole if kept.all() else _take(whole, np.flatnonzero(kept))

    def _rows(self, readings: Readings, row: int, leaves: Leaves | None) -> _Rows:
        """Return what takes the place of one reading."""
        number, status = int(readings.handle[row]), int(readings.status[row])
        if leaves is None:
            line = readings.text.get(row)
            plain = readings.value[row : row + 1], readings.null[row : row + 1]
            leaves = Leaves((_ITSELF,), plain[0], {} if line is None else {0: line}, plain[1], _NO_STATUS)
        elif leaves.problems or leaves.beyond:
            self._complain(number, leaves)
        elements = self._present.get(number)
        if elements and leaves.paths == (_ITSELF,) and leaves.null[0]:
            # Nothing, or nothing that can be taken apart: that is said of everything that the node ever had.
            places = self._place(number, tuple(elements))
            said = _worse(status, int(leaves.status[0]))
            return _Rows(places, [_NAN] * len(places), [said] * len(places), [True] * len(places), {})
        if not leaves.paths and not elements:
            said = _worse(status, STATUS_NOT_CONVERTIBLE if leaves.beyond else 0)
            return _Rows(np.array([number], np.uint32), [_NAN], [said], [True], {})
        return self._elements(number, status, leaves)

    def _elements(self, number: int, status: int, leaves: Leaves) -> _Rows:
        """Return the rows of a value's elements, and of those that it does not have any more."""
        paths = leaves.paths
        places = self._place(number, paths)
        statuses = [_worse(status, each) for each in leaves.status.tolist()]
        if self._last.get(number) == paths:
            return _Rows(places, leaves.value.tolist(), statuses, leaves.null.tolist(), leaves.text)
        self._last[number] = paths
        elements = self._present.get(number, {})
        here = set(paths)
        gone = [path for path, present in elements.items() if present and path not in here]
        for path in elements:
            elements[path] = path in here
        missing = [_BAD_INDEX if _has_index(path) else _BAD_FIELD for path in gone]
        return _Rows(
            np.append(places, self._place(number, tuple(gone))) if gone else places,
            leaves.value.tolist() + [_NAN] * len(gone),
            statuses + [_worse(status, each) for each in missing],
            leaves.null.tolist() + [True] * len(gone),
            leaves.text,
        )

    def _complain(self, number: int, leaves: Leaves) -> None:
        if leaves.problems:
            self._note(number, "; ".join(leaves.problems))
        elif leaves.beyond:
            self._note_limit(number)

    def _note_limit(self, number: int) -> None:
        limit = self._nodes.configs[number].max_elements
        self._note(
            number, f"it has more elements than max_elements ({limit}), or some too deep for a signal's name"
        )

    def _note(self, number: int, note: str) -> None:
        """Say something about a node once a session."""
        if number not in self._notes:
            self._notes[number] = note
            self.news = True
            log.warning("%s: %s", self._nodes.configs[number].label, note)


_ITSELF: Final = ""
"""Path of a value that is not made of others."""
_NO_STATUS: Final = np.zeros(1, np.uint32)
_BAD_INDEX: Final = int(StatusCodes.BadIndexRangeNoData)
_BAD_FIELD: Final = int(StatusCodes.BadNoData)


def _worse(status: int, own: int) -> int:
    """Return the status of an element: its own, unless that of the whole value is worse."""
    return own | status & OVERFLOW_BITS if own and own >> 30 >= status >> 30 else status


def _has_index(path: str) -> bool:
    return any(part.isdecimal() for part in path.split("."))


def _take(readings: Readings, rows: npt.NDArray[np.int64]) -> Readings:
    after = {int(row): position for position, row in enumerate(rows.tolist())}
    return readings._replace(
        handle=readings.handle[rows],
        source_time=readings.source_time[rows],
        value=readings.value[rows],
        status=readings.status[rows],
        null=readings.null[rows],
        series=readings.series[rows],
        text={after[row]: line for row, line in readings.text.items() if row in after},
    )
