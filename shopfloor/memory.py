"""What the C library's allocator keeps for itself, where that is the GNU one: little, so that a small gateway suffices."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_ARENA_MAX: Final = -8
"""M_ARENA_MAX of mallopt(3)."""
_ARENAS: Final = 2


def keep_little() -> None:
    """Let threads share a few arenas instead of having eight a core, each with its own holes; call it before they start."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return free pages to the system now; after something large has gone, such as the text of a configuration."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


__all__ = ["give_back", "keep_little"]
