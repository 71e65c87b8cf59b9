"""Tables and sizes as commands print them: aligned, and narrow enough to be read in a window of 100 columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

WIDTH: Final = 100
"""Columns of a terminal that a table may take."""
_GAP: Final = "  "
_LEAST: Final = 12
"""Columns that the column which gives way keeps."""
_CUT: Final = "…"


def table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
    giving: int | None = None,
    width: int = WIDTH,
) -> list[str]:
    """Return the lines of a table, its titles first; no line ends in a space.

    Args:
        titles: one a column.
        rows: as many cells each as there are titles; line ends in cells become spaces.
        right: numbers of the columns that are aligned to the right.
        giving: number of the column whose cells lose their beginnings where a line would be too wide.
        width: columns of the terminal; without a column that gives way lines may be longer.
    """
    cells = [[" ".join(cell.split("\n")) for cell in row] for row in (titles, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    if giving is not None:
        excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
        widths[giving] = max(min(_LEAST, widths[giving]), widths[giving] - max(0, excess))
    return [
        _GAP.join(
            cut(cell, size, end=False).rjust(size)
            if column in right
            else cut(cell, size, end=False).ljust(size)
            for column, (cell, size) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def cut(text: str, size: int, *, end: bool = True) -> str:
    """Return at most ``size`` characters of a text; without its end, or with ``end`` False without its beginning."""
    if len(text) <= size:
        return text
    return text[: size - 1] + _CUT if end else _CUT + text[len(text) - size + 1 :]


def size_text(size_bytes: float) -> str:
    """Return a size for people, in powers of 1000: ``1.5 MB``."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"
