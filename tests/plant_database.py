"""The plant's database as migrations leave it: made once for all tests of a process that begin with an empty one."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from ingest_service.plant.engine import connect


def empty_plant(file: Path) -> Path:
    """Write one to a file; to run all migrations takes most of the time of a service's start."""
    file.write_bytes(_migrated())
    return file


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "plant.sqlite")
        connect(file).dispose()
        return file.read_bytes()
