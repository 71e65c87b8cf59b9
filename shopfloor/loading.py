"""Loading what only some commands need when it is needed: a start is mostly the loading of modules."""

from __future__ import annotations

import atexit
import contextlib
import gc
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder


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


def leave_out(name: str) -> None:
    """Let a module that others load if it is there be as if it were not installed, in this process."""
    sys.meta_path.insert(0, _LeftOut(name))


class _LeftOut(MetaPathFinder):
    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, fullname: str, _path: object = None, _target: object = None) -> None:
        if fullname == self._name:
            raise ModuleNotFoundError(f"{fullname} is left out", name=fullname)
