"""A damaged buffer file is set aside, and a new one takes over what is readable of it."""

from __future__ import annotations

import logging
from pathlib import Path

from edge_agent.buffer.file import BufferFile
from edge_agent.buffer.losses import span_of, unknown_loss
from edge_agent.buffer.salvage import salvage, set_aside
from shopfloor.messages import SpanKind

log = logging.getLogger(__name__)


def repaired(path: Path, reason: str, now_ns: int) -> tuple[BufferFile, int]:
    """Return the new file in the old one's place, and how many numbered samples are known to be lost.

    The file must be closed. Each run of lost numbers becomes a span record, and one more says that there may be
    others ("at least none").

    Raises:
        OSError: the file can't be renamed.
        sqlite3.Error: the new one can't be written.
    """
    aside = set_aside(path, now_ns)
    log.error("the buffer is damaged (%s); kept as %s, what is readable is taken over", reason, aside)
    found = salvage(aside)
    file = BufferFile(path)
    file.verify()
    lost = 0
    with file.transaction():
        file.take_over(found)
        for stream_id, first_seq, last_seq in found.missing:
            why = f"buffer damaged: {reason}"
            record = span_of(SpanKind.DROPPED, why, stream_id, first_seq, last_seq, (now_ns, now_ns))
            file.put_span(record)
            lost += record.count
        file.put_span(unknown_loss(f"buffer damaged, file set aside as {aside.name}: {reason}", now_ns))
    return file, lost
