"""What bodies of one token have in common, remembered: who sends the same series again sends all but values and times again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from shopfloor.block import Int64, UInt8, UInt32

_MOST_LAYOUTS: Final = 8
"""Of one token, which may need several bodies to say everything once."""
_LARGEST_BYTES: Final = 8 * 2**20
_LONGEST_PREFIX: Final = 1000


class Meaning(NamedTuple):
    """What ``n`` lines with ``m`` fields say, in the numbers of `placing.Places`."""

    state: UInt8
    """uint8[n], what became of the key."""
    field: Int64
    """int64[m], the series of the field, or what else it is."""
    series: UInt32 | None
    """uint32[m], the same where every line is placed and every field a series that the token reaches; else None."""
    digest: bytes
    """Of which series these are, by their names; empty where that is None."""


@dataclass(slots=True, eq=False)
class Layout:
    """A body of ``n`` lines with one number each, without its values and times."""

    prefixes: Any
    """Arrow's buffer: what stands before the values, joined."""
    prefix_bytes: npt.NDArray[np.int32]
    """int32[n], how much of it each line has."""
    time_bytes: int
    """Length of every line's time, 0 where they have none."""
    keys: list[bytes]
    names: list[str]
    key_index: Int64
    """int64[n], positions in ``keys``."""
    name_index: Int64
    """int64[n], positions in ``names``."""
    meaning: Meaning | None = None
    """Known after the first time."""

    def __len__(self) -> int:
        return len(self.prefix_bytes)

    @property
    def size(self) -> int:
        """Return the bytes that it takes, roughly."""
        named = sum(map(len, self.keys)) + sum(map(len, self.names))
        # Beside the prefixes: the columns here, those of the meaning, and an object for each name.
        return len(self.prefixes) + 33 * len(self) + named + 100 * (len(self.keys) + len(self.names))


class Layouts:
    """The layouts of one token. One thread at a time may use it."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[bytes, bytes], Layout | None] = OrderedDict()
        self.size = 0
        """Bytes of all of them."""

    def find(self, body: bytes) -> tuple[Layout | None, bool]:
        """Return the layout that a body may have, to judge by its ends; and whether such ends were met before.

        A body whose ends are new may never come again: its layout is not worth the work.
        """
        place = _ends(body)
        again = place in self._known
        found = self._known.pop(place, None)
        self._known[place] = found
        while len(self._known) > _MOST_LAYOUTS:
            _, oldest = self._known.popitem(last=False)
            self.size -= oldest.size if oldest else 0
        return found, again

    def add(self, body: bytes, layout: Layout) -> None:
        """Remember the layout of a body that was looked for."""
        if layout.size > _LARGEST_BYTES:
            return
        place = _ends(body)
        before = self._known.get(place)
        self._known[place] = layout
        self.size += layout.size - (before.size if before else 0)

    def clear(self) -> None:
        """Forget them."""
        self._known.clear()
        self.size = 0


def _ends(body: bytes) -> tuple[bytes, bytes]:
    """Return what stands before the first and before the last value; of a body that is otherwise, a piece of it."""
    last = body.rfind(b"\n", 0, len(body) - 1) + 1
    return _prefix(body, 0), _prefix(body, last)


def _prefix(body: bytes, start: int) -> bytes:
    most = start + _LONGEST_PREFIX
    value = body.find(b"=", body.find(b" ", start, most) + 1, most) + 1
    return body[start : value or most]
