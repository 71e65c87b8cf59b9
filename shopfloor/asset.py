"""Where in the company something stands: the ISA-95 equipment hierarchy as a path."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Self

from shopfloor.errors import InvalidName

LEVELS: Final = ("enterprise", "site", "area", "line", "cell")
"""ISA-95 (IEC 62264-1) role-based equipment levels; the machine is a cell (work unit)."""

_SEGMENT: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class AssetPath(str):
    """A validated path ``enterprise[/site[/area[/line[/cell]]]]``.

    It is its own text, so that it costs nothing to store, compare or send; it differs from other text by type.
    Segments match ``[a-z0-9][a-z0-9_-]*`` and are at most 63 characters long.

    Raises:
        InvalidName: the text is not such a path.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Return the validated path."""
        segments = text.split("/")
        if len(segments) > len(LEVELS):
            raise InvalidName(
                f"asset path {text[:200]!r} has {len(segments)} levels; {'/'.join(LEVELS)} are all"
            )
        for level, segment in zip(LEVELS, segments, strict=False):
            if not _SEGMENT.fullmatch(segment):
                raise InvalidName(
                    f"asset path {text[:200]!r}: {level} {segment[:80]!r} must be 1 to 63 characters "
                    "of a-z, 0-9, _ and -, beginning with a letter or digit"
                )
        return str.__new__(cls, text)

    @property
    def segments(self) -> tuple[str, ...]:
        """The names of the levels, enterprise first."""
        return tuple(self.split("/"))

    @property
    def name(self) -> str:
        """The last segment."""
        return self.rpartition("/")[2]

    @property
    def site(self) -> AssetPath | None:
        """The path of the site that this belongs to; None for an enterprise."""
        return self.ancestor(2)

    def ancestor(self, depth: int) -> AssetPath | None:
        """Return the first ``depth`` levels as a path (1 is the enterprise), None where this is shorter."""
        segments = self.split("/")
        return parse_asset("/".join(segments[:depth])) if len(segments) >= depth else None

    def contains(self, other: str) -> bool:
        """Tell whether ``other`` is this asset or lies below it."""
        return other == self or other.startswith(self + "/")


@lru_cache(maxsize=65_536)
def parse_asset(text: str) -> AssetPath:
    """Return the path that ``text`` spells, from a cache; raises InvalidName."""
    return AssetPath(text)
