"""Logging of every process: one line an event, to stderr, time in UTC."""

from __future__ import annotations

import logging
import time
from typing import Final

_FORMAT: Final = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"
_NOISY: Final = ("asyncua", "httpx", "httpcore", "alembic", "uvicorn.access")


def set_up(*, verbose: bool = False) -> None:
    """Configure the root logger; libraries that log each of their steps speak up only for warnings."""
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # asyncua reports lost connections as errors with traces; the agent says the same in one line.
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
