"""The elements of arrays and structures as series beside those of their nodes: ``SIGNAL.PATH``.

Which there are is learned from the values. What has been learned stays: an element that a later value does not have
becomes null and BAD, once, and a node that turns bad takes all of its elements with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.arrays import Leaves
from edge_agent.sources.opcua.columns import Compound, Readings
from edge_agent.sources.opcua.datavalue import OVERFLOW_BITS
from edge_agent.sources.opcua.elements import LEFT_OUT, Elements, Wanted
from edge_agent.sources.opcua.structures import Types
from edge_agent.sources.opcua.unfold import unfold
from shopfloor.block import STATUS_NOT_CONVERTIBLE, Float64, UInt32

_MAX_SIGNAL_PARTS: Final = 8
_NAN: Final = float("nan")


class _Rows(NamedTuple):
    """What takes the place of one reading."""

    series: UInt32
    value: Float64 | float
    status: UInt32 | int
    null: npt.NDArray[np.bool_] | bool
    text: Mapping[int, str]


class Expansion:
    """The elements of one source's nodes."""

    def __init__(self, nodes: Wanted) -> None:
        self._nodes = nodes
        self.elements = Elements(nodes)
        self.types = Types()
        """The structures of this session."""
        self._last: dict[int, tuple[tuple[str, ...], UInt32]] = {}
        """The paths that the last value of a node had, and their places."""

    def begin(self) -> None:
        """Begin a session: other types may count, and nobody knows which elements there are now."""
        self.types.clear()
        self._last.clear()
        self.elements.begin()

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
        number = int(readings.handle[compound.row])
        config = self._nodes.configs[number]
        room = _MAX_SIGNAL_PARTS - config.signal.count(".") - 1
        names = self._nodes.names(number)
        return unfold(compound.variant, self.types, config.max_elements, room, config.enum, names)

    def expand(self, readings: Readings, leaves: Sequence[Leaves] = ()) -> Readings:
        """Put the elements of values in their places.

        Args:
            readings: ``n`` of them, each of a node that there is.
            leaves: what `take_apart` returned for their ``compound`` values.

        Returns:
            The same object where all are plain values of nodes that never had any elements.
        """
        if self.elements.fit():
            # The places of elements have moved.
            self._last.clear()
        special: dict[int, Leaves | None] = {
            compound.row: each for compound, each in zip(readings.compound, leaves, strict=True)
        }
        if self.elements.total:
            for row in np.flatnonzero(self.elements.concerned[readings.handle]).tolist():
                special.setdefault(row, None)
        return self._assemble(readings, special) if special else readings

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
            if made.text:
                text.update({at + position: line for position, line in made.text.items()})
        kept = series != LEFT_OUT
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
        elements = self.elements.of(number)
        if elements and leaves.paths == (_ITSELF,) and leaves.null[0]:
            # Nothing, or nothing that can be taken apart: that is said of everything that the node ever had.
            places = self.elements.places(number, tuple(elements))
            said = _worse(status, int(leaves.status[0]))
            return _Rows(places, _NAN, said, True, {})
        if not leaves.paths and not elements:
            said = _worse(status, STATUS_NOT_CONVERTIBLE if leaves.beyond else 0)
            return _Rows(np.array([number], np.uint32), _NAN, said, True, {})
        return self._elements(number, status, leaves)

    def _elements(self, number: int, status: int, leaves: Leaves) -> _Rows:
        """Return the rows of a value's elements, and of those that it does not have any more."""
        paths = leaves.paths
        own: UInt32 | int = status
        if leaves.status.any():
            own = np.array([_worse(status, each) for each in leaves.status.tolist()], np.uint32)
        last = self._last.get(number)
        if last is not None and (last[0] is paths or last[0] == paths):
            return _Rows(last[1], leaves.value, own, leaves.null, leaves.text)
        places = self.elements.places(number, paths)
        self._last[number] = paths, places
        elements = self.elements.of(number)
        here = set(paths)
        gone = [path for path, present in elements.items() if present and path not in here]
        for path in elements:
            elements[path] = path in here
        if not gone:
            return _Rows(places, leaves.value, own, leaves.null, leaves.text)
        missing = [_worse(status, _BAD_INDEX if _has_index(path) else _BAD_FIELD) for path in gone]
        return _Rows(
            np.append(places, self.elements.places(number, tuple(gone))),
            np.append(leaves.value, np.full(len(gone), _NAN)),
            np.append(np.broadcast_to(np.asarray(own, np.uint32), len(paths)), np.array(missing, np.uint32)),
            np.append(leaves.null, np.ones(len(gone), np.bool_)),
            leaves.text,
        )

    def _complain(self, number: int, leaves: Leaves) -> None:
        if leaves.problems:
            self.elements.note(number, "; ".join(leaves.problems))
        elif leaves.beyond:
            self.elements.note_limit(number)


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
