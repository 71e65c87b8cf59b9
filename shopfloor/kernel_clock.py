"""Whether this machine's clock is kept right: every sample's received time is read from it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from shopfloor.findings import Finding, ok, warning

_UNSYNCHRONISED: Final = 0x0040
_NANOSECONDS: Final = 0x2000
_TIME_ERROR: Final = 5
_LARGE_ERROR_S: Final = 0.5
_LONG: Final = ctypes.c_long
_ADVICE: Final = (
    "have chrony or systemd-timesyncd follow a time server that this machine reaches (often the plant's own); "
    "until then received times drift"
)
DAEMONS: Final = {
    "systemd-timesyncd": "systemd/timesync/synchronized",
    "chrony": "chrony/chronyd.pid",
    "ntpd": "ntpd.pid",
    "ntpsec": "ntpsec/ntpd.pid",
}
"""File below /run that each of the usual ones leaves while it works."""


class KernelClock(NamedTuple):
    """What the kernel knows of its clock (adjtimex(2))."""

    synchronised: bool
    error_s: float
    """Estimated; grows while nobody corrects it."""
    offset_s: float
    """Correction that is still being applied."""


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", _LONG),
        ("freq", _LONG),
        ("maxerror", _LONG),
        ("esterror", _LONG),
        ("status", ctypes.c_int),
        ("constant", _LONG),
        ("precision", _LONG),
        ("tolerance", _LONG),
        ("time", _LONG * 2),
        ("tick", _LONG),
        ("ppsfreq", _LONG),
        ("jitter", _LONG),
        ("shift", ctypes.c_int),
        ("stabil", _LONG),
        ("jitcnt", _LONG),
        ("calcnt", _LONG),
        ("errcnt", _LONG),
        ("stbcnt", _LONG),
        ("tai", ctypes.c_int),
        ("padding", ctypes.c_int * 11),
    )


def read_kernel_clock() -> KernelClock | None:
    """Ask the kernel, changing nothing; None where it does not say (a sandbox may forbid the call)."""
    asked: Any = _Timex(modes=0)
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(asked))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    fraction = 1e-9 if asked.status & _NANOSECONDS else 1e-6
    return KernelClock(
        synchronised=state != _TIME_ERROR and not asked.status & _UNSYNCHRONISED,
        error_s=asked.esterror * 1e-6,
        offset_s=asked.offset * fraction,
    )


def look_at_clock(
    read: Callable[[], KernelClock | None] = read_kernel_clock, run: Path = Path("/run")
) -> list[Finding]:
    """Say whether somebody keeps the clock right, and who."""
    daemon = next((name for name, file in DAEMONS.items() if (run / file).exists()), "")
    now = read()
    if now is None:
        return [
            warning(
                "the kernel does not say whether its clock is synchronised",
                _ADVICE,
                synchronised=None,
                by=daemon,
            )
        ]
    figures = {"synchronised": now.synchronised, "error_s": now.error_s, "by": daemon}
    by = f" by {daemon}" if daemon else ""
    if not now.synchronised:
        return [warning("nobody keeps this machine's clock right", _ADVICE, **figures)]
    text = f"the clock is kept right{by}, to about {now.error_s * 1000:.1f} ms"
    if now.error_s > _LARGE_ERROR_S:
        return [warning(text, _ADVICE, **figures)]
    return [ok(text, **figures)]
