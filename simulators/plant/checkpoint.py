"""What a site's simulation goes on from after a kill: snapshots of its units, and until when the past was served."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from shopfloor.errors import StoreUnavailable


class Life(msgspec.Struct):
    """One unit."""

    config: str
    """Fingerprint of what it was made of: another unit does not go on with its life."""
    snapshot: bytes
    """From the begin of the stretch that it was in."""


class Checkpoint(msgspec.Struct):
    """One moment of a site."""

    life_ms: int
    """When the units' lives began, UTC ms."""
    part: int
    """How many parts of the truth are complete."""
    units: dict[str, Life]
    """By the units' first cells."""
    outlets: dict[str, dict[str, bytes]]
    """By the kinds of outlets."""
    time_ns: int = 0
    """Until when it all was told, UTC ns: outlets and data faults know of everything up to here."""
    faults: bytes = b""
    """What data faults depend on."""


class CheckpointFile:
    """A site's checkpoint on disk, replaced whole."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def load(self) -> Checkpoint | None:
        """Return the last one; None where there is none.

        Raises:
            StoreUnavailable: it can't be read. Going on without it would contradict what was said and true.
        """
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Checkpoint)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(f"{self._file}: {error.strerror}") from error
        except msgspec.MsgspecError as error:
            raise StoreUnavailable(
                f"{self._file}: no checkpoint that can be read ({error}); begin with another data folder, or delete "
                f"{self._file.parent.parent}"
            ) from error

    def save(self, checkpoint: Checkpoint) -> None:
        """Write one; raises StoreUnavailable."""
        draft = self._file.with_name(self._file.name + ".new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.encode(checkpoint))
            draft.replace(self._file)
        except OSError as error:
            raise StoreUnavailable(f"{self._file}: {error.strerror}") from error


class TimeMark:
    """A time on disk. Losing one costs repeats and no data, so it is not an error that it can't be written.

    Args:
        file: the folder is made if missing.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def load(self) -> int:
        """Return the time; 0 where there is none that can be read."""
        try:
            return int(self._file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def save(self, time: int) -> None:
        """Write one, replacing the last."""
        draft = self._file.with_name(self._file.name + ".new")
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(str(time), encoding="ascii")
            draft.replace(self._file)
