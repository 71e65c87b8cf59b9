"""A damaged buffer file is set aside, and a new one takes over what is readable of it or has a second copy.

The new file is written beside the old one and takes its place when it is whole: a kill, or a disk without room, in
between costs nothing.
"""

from __future__ import annotations

import logging
from pathlib import Path

from edge_agent.buffer.file import BufferFile
from edge_agent.buffer.losses import span_of, unknown_loss
from edge_agent.buffer.mirror import Mirror
from edge_agent.buffer.salvage import salvage
from shopfloor.messages import SpanKind

log = logging.getLogger(__name__)


def repaired(path: Path, mirror: Mirror, reason: str, now_ns: int) -> tuple[BufferFile, int]:
    """Return the new file in the old one's place, and how many numbered samples are known to be lost.

    The file must be closed. Each run of lost numbers becomes a span record, and one more says that there may be
    others ("at least none").

    Raises:
        OSError: the file can't be renamed.
        sqlite3.Error: the new one can't be written.
    """
    aside = _name_aside(path, now_ns)
    log.error("the buffer is damaged (%s); kept as %s, what is readable is taken over", reason, aside)
    found = salvage(path, mirror.copies())
    if found.restored_samples:
        log.warning("%d samples were restored from the second copy", found.restored_samples)
    fresh = _fresh(path)
    for stale in _with_sides(fresh):
        stale.unlink(missing_ok=True)
    file = BufferFile(fresh)
    lost = 0
    try:
        file.verify()
        with file.transaction():
            file.take_over(found)
            for stream_id, first_seq, last_seq in found.missing:
                why = f"buffer damaged: {reason}"
                record = span_of(SpanKind.DROPPED, why, stream_id, first_seq, last_seq, (now_ns, now_ns))
                file.put_span(record)
                lost += record.count
            file.put_span(unknown_loss(f"buffer damaged, file set aside as {aside.name}: {reason}", now_ns))
    finally:
        # The last connection that closes moves the write-ahead log into the file.
        file.close()
    for old, new in zip(_with_sides(path), _with_sides(aside), strict=True):
        if old.exists():
            old.rename(new)
    finish_repair(path)
    return BufferFile(path), lost


def finish_repair(path: Path) -> bool:
    """Put the new file of a repair into the place of one that was set aside; return whether there is a file now."""
    fresh = _fresh(path)
    if not path.exists() and fresh.exists():
        for leftover in _with_sides(path):
            leftover.unlink(missing_ok=True)
        fresh.rename(path)
    return path.exists()


def _fresh(path: Path) -> Path:
    return path.with_name(f"{path.name}.repaired")


def _with_sides(path: Path) -> list[Path]:
    """Return the database itself, and the files that SQLite keeps beside it."""
    return [path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))]


def _name_aside(path: Path, now_ns: int) -> Path:
    aside = path.with_name(f"{path.name}.damaged-{now_ns // 1_000_000_000}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{now_ns // 1_000_000_000}-{number}")
    return aside
