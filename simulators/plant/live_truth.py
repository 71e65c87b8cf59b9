"""The truth of a live run: a part of each table a checkpoint, and what is not finished yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from shopfloor.errors import StoreUnavailable
from simulators.physics.unit import Facts
from simulators.truth import TABLES, TruthWriter

OPEN_PART = 999_999
"""Number of the part that holds what is not finished; it is written anew each time."""


class LiveTruth:
    """Gathers what was true and writes it part by part."""

    def __init__(self, folder: Path, asset_of: Callable[[str], str]) -> None:
        self._folder = folder
        self._asset_of = asset_of
        self._facts: list[tuple[str, Facts]] = []

    def tell(self, cell: str, facts: Sequence[Facts]) -> None:
        """Take the facts of a stretch that is over; ``cell`` is theirs where they name none."""
        self._facts += [(cell, fact) for fact in facts]

    def write_part(self, part: int) -> None:
        """Write what was told since the last part; raises StoreUnavailable."""
        self._write(part, self._facts)
        self._facts = []

    def write_open(self, unfinished: Sequence[tuple[str, Facts]]) -> None:
        """Write what was told since the last part, and what is not finished; raises StoreUnavailable."""
        self._write(OPEN_PART, [*self._facts, *unfinished])

    def has_parts(self) -> bool:
        """Tell whether an earlier life has written anything."""
        return any(self._folder.glob("*.parquet"))

    def drop_open(self) -> None:
        """Forget what an earlier life left unfinished; raises StoreUnavailable."""
        for table in TABLES:
            file = self._folder / f"{table}-{OPEN_PART:06d}.parquet"
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise StoreUnavailable(f"{file}: {error.strerror}") from error

    def _write(self, part: int, facts: Sequence[tuple[str, Facts]]) -> None:
        writer = TruthWriter(self._folder, part)
        for cell, fact in facts:
            writer.add(lambda named, cell=cell: self._asset_of(named or cell), fact)  # type: ignore[misc]
        writer.close()
