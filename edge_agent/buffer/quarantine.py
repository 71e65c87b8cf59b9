"""Files beside the buffer: batches that the service refused, and rows that can't be read."""

from __future__ import annotations

import os
from pathlib import Path

from shopfloor import wire
from shopfloor.durable import sync
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import Batch


def set_batch_aside(folder: Path, batch: Batch) -> Path:
    """Write a batch as a wire message, durable with its name; raises StoreUnavailable where the disk refuses."""
    place = folder / "quarantine"
    path = place / f"{batch.stream_id}-{batch.first_seq}-{batch.last_seq}.sfb"
    try:
        place.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.write(wire.encode_batch(batch))
            file.flush()
            os.fsync(file.fileno())
        for directory in (place, folder):
            sync(directory)
    except OSError as error:
        raise StoreUnavailable(f"quarantine {path}: {error}") from error
    return path


def set_row_aside(folder: Path, stream_id: str, first_seq: int, payload: bytes) -> None:
    """Write the bytes of a row that can't be read; raises StoreUnavailable where the disk refuses."""
    path = folder / f"damaged-{stream_id}-{first_seq}.bin"
    try:
        path.write_bytes(payload)
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error}") from error
