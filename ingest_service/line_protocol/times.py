"""The times of ordinary lines, as a column."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from ingest_service.line_protocol.lines import MAX_INTEGER_DIGITS
from ingest_service.line_protocol.points import Bool
from shopfloor.block import Int64

_PLAIN: Final = "^-?([0-9]{1,18}|[1-8][0-9]{18})$"
_X: Final = b"x"[0]
_SMALL: Final = 0x20
"""What makes a small letter of a large one."""


def read_times(moments: Any, multiplier: int, odd: Bool) -> Int64:
    """Return int64[n], UTC ns.

    Args:
        moments: string[n], as they were written, in a buffer of their own.
        multiplier: nanoseconds of one unit of them.
        odd: bool[n]; lines whose times are not plain are marked there, and have any time.
    """
    import pyarrow.compute as pc  # noqa: PLC0415 - a tenth of a start, and few are sent any line

    try:
        column = pc.cast(moments, pa.int64()) if _may_be_plain(moments) else None
    except pa.ArrowInvalid:
        column = None
    if column is None:
        plain = pc.match_substring_regex(moments, pattern=_PLAIN)
        odd |= ~plain.to_numpy(zero_copy_only=False)
        column = pc.cast(pc.if_else(plain, moments, "0"), pa.int64())
    time: Int64 = column.to_numpy()
    bound = (2**63 - 1) // multiplier
    if len(time) and (time.max() > bound or time.min() < -bound):
        odd |= (time > bound) | (time < -bound)
    if odd.any():
        time = np.where(odd, 0, time)
    return time if multiplier == 1 else time * multiplier


def _may_be_plain(moments: Any) -> bool:
    """Tell whether there is no x in them, and none is too long: Arrow takes hexadecimal numbers, and any leading zeros."""
    _, bound, content = moments.buffers()
    if content is None:
        return True
    length = np.diff(np.frombuffer(bound, np.int32)[: len(moments) + 1])
    return bool(
        length.max() <= MAX_INTEGER_DIGITS and (np.frombuffer(content, np.uint8) | _SMALL != _X).all()
    )
