"""The elements of one value as they are found, bounded in number and depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from edge_agent.sources.opcua.arrays import Leaves
from edge_agent.sources.opcua.pattern_config import EnumMode
from edge_agent.sources.opcua.scalar import NOT_CONVERTIBLE, NOTHING, Scalar
from edge_agent.sources.opcua.wording import SUFFIX, word_of
from shopfloor.block import STATUS_NOT_CONVERTIBLE

_MAX_PROBLEMS: Final = 3


class Place(NamedTuple):
    """How far collecting was at some moment."""

    found: int
    beyond: int


class Collected:
    """The elements of one value.

    Args:
        most: how many elements are kept.
        room: of how many parts a path may consist.
        enum: what becomes of the values of enumerations.
    """

    def __init__(self, most: int, room: int, enum: EnumMode) -> None:
        self._most, self._room, self._enum = most, room, enum
        self._paths: list[str] = []
        self._scalars: list[tuple[Scalar, int]] = []
        self._problems: dict[str, None] = {}
        self.beyond = 0
        """Elements that were left out."""
        self.full = False
        """Whether nothing more is to be kept, although there would be room."""

    @property
    def left(self) -> int:
        """For how many more there is room."""
        return max(0, self._most - len(self._paths))

    @property
    def place(self) -> Place:
        """Where collecting is."""
        return Place(len(self._paths), self.beyond)

    def back_to(self, place: Place) -> None:
        """Forget what was collected since."""
        del self._paths[place.found :], self._scalars[place.found :]
        self.beyond = place.beyond

    def keep(self, path: str, scalar: Scalar, status: int, names: Mapping[int, str] | None = None) -> None:
        """Take an element, if there is room.

        Args:
            path: where it lies; empty for the value itself.
            scalar: what it is.
            status: what is wrong with it alone, or 0.
            names: where it is of an enumeration, those of its values.
        """
        if not names or not path or self._enum == "value":
            self._keep(path, scalar, status)
            return
        word = NOTHING if scalar.null else Scalar(text=word_of(names, scalar.value))
        if self._enum == "both":
            self._keep(path, scalar, status)
            path = f"{path}.{SUFFIX}"
        self._keep(path, word, status)

    def _keep(self, path: str, scalar: Scalar, status: int) -> None:
        if self.full or len(self._paths) >= self._most or (path and path.count(".") >= self._room):
            self.beyond += 1
            return
        if not scalar.convertible and status >> 30 < 2:
            status = STATUS_NOT_CONVERTIBLE
        self._paths.append(path)
        self._scalars.append((scalar, status))

    def refuse(self, path: str, status: int, problem: str) -> None:
        """Take an element of which nothing can be made."""
        self.complain(problem)
        self._keep(path, NOT_CONVERTIBLE, status)

    def complain(self, problem: str) -> None:
        """Note what is odd."""
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems[problem] = None

    def leaves(self, unknown: frozenset[str]) -> Leaves:
        """Return what was collected; ``unknown`` are the encodings of structures that could not be read yet."""
        scalars = [scalar for scalar, _ in self._scalars]
        return Leaves(
            tuple(self._paths),
            np.array([scalar.value for scalar in scalars], np.float64),
            {row: scalar.text for row, scalar in enumerate(scalars) if scalar.text is not None},
            np.array([scalar.null for scalar in scalars], np.bool_),
            np.array([status for _, status in self._scalars], np.uint32),
            sum(not scalar.convertible for scalar in scalars),
            sum(scalar.rounded for scalar in scalars),
            self.beyond,
            tuple(self._problems),
            unknown,
        )
