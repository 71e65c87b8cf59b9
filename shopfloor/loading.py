"""Loading what only some commands need when it is needed: a start is mostly the loading of modules."""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Keep the garbage collector from looking through what is imported here, now and in every later search: it stays."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        # What is frozen outlives even the end of the process, which nanobind's modules (DuckDB) complain of.
        atexit.register(gc.unfreeze)
        if enabled:
            gc.enable()
