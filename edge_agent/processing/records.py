"""What is remembered of each thinned series, and what its rule says, as rows of numpy records.

A reading's *tag* is its status where it is a number, and a digest of status and text (with the top bit set) where it
is text: readings with different tags are never compared, the later one is a change.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_agent.processing.config import RuleConfig
from shopfloor.block import Int64

Records: TypeAlias = npt.NDArray[np.void]
Mask: TypeAlias = npt.NDArray[np.bool_]

NEVER: Final = -(2**63)
MINUTE_NS: Final = 60_000_000_000
TEXT_TAG: Final = 1 << 63
_LONG: Final = 2**62

MEMORY: Final = np.dtype(
    [
        # Whether a kept reading stands to which others are compared; without, the next plain reading is kept.
        ("begun", np.bool_),
        ("tag", np.uint64),
        ("kept_time", np.int64),
        ("kept_value", np.float64),
        # The newest reading in order of source time, kept or not.
        ("seen_time", np.int64),
        ("seen_value", np.float64),
        ("seen_received", np.int64),
        ("seen_status", np.uint32),
        # Its row in the block at work, -1 where it came with an earlier one.
        ("seen_row", np.int64),
        # Whether the newest reading was not kept, but may be yet.
        ("waits", np.bool_),
        # Whether it must not get lost: it is saved, and kept at the latest when its time is over.
        ("held", np.bool_),
        ("held_since", np.int64),
        # The door: slopes that the line from the kept reading may have, in units a nanosecond.
        ("low", np.float64),
        ("high", np.float64),
        ("minute", np.int64),
        ("in_minute", np.int64),
    ],
    align=True,
)
"""Times are UTC ns, of the machine's clock except ``seen_received``; ``held_since`` is monotonic ns."""

LIMITS: Final = np.dtype(
    [
        ("banded", np.bool_),
        ("absolute", np.float64),
        ("relative", np.float64),
        ("previous", np.bool_),
        ("door", np.bool_),
        ("deviation", np.float64),
        ("min_ns", np.int64),
        ("max_ns", np.int64),
        ("per_minute", np.int64),
        ("hold_ns", np.int64),
    ],
    align=True,
)


def nothing_seen(count: int) -> Records:
    """Return the memory of ``count`` series that nothing was seen of."""
    memory = np.zeros(count, dtype=MEMORY)
    memory["seen_time"] = memory["kept_time"] = memory["minute"] = NEVER
    memory["low"], memory["high"] = -np.inf, np.inf
    memory["seen_row"] = -1
    return memory


def gathered(records: Records, numbers: Int64) -> Records:
    """Return a copy of some rows; numpy copies records field by field, and plain bytes ten times as fast."""
    rows: Records = _plain(records)[numbers].view(records.dtype)
    return rows


def scatter(records: Records, numbers: Int64, rows: Records) -> None:
    """Write rows to their numbers; see `gathered`."""
    _plain(records)[numbers] = _plain(rows)


def copied(records: Records) -> Records:
    """Return a copy; see `gathered`."""
    rows: Records = _plain(records).copy().view(records.dtype)
    return rows


def _plain(records: Records) -> Records:
    return records.view(np.dtype((np.void, records.dtype.itemsize)))


def limits_of(rule: RuleConfig) -> tuple[Any, ...]:
    """Return a rule as a row of LIMITS."""
    band, door = rule.deadband, rule.swinging_door
    min_ns = round(rule.min_interval_s * 1e9)
    hold_ns = max(min_ns, MINUTE_NS if rule.max_per_minute is not None else 0)
    return (
        band is not None,
        band.absolute if band else 0.0,
        band.percent / 100 if band else 0.0,
        band is not None and band.keep_previous,
        door is not None,
        door.deviation if door else 0.0,
        min_ns,
        _LONG if rule.max_interval_s is None else round(rule.max_interval_s * 1e9),
        _LONG if rule.max_per_minute is None else rule.max_per_minute,
        round(door.hold_s * 1e9) if door else hold_ns,
    )


def text_tag(status: int, text: str) -> int:
    """Return the tag of a text; two of them are the same by chance once in 2**63."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=status.to_bytes(4, "little"))
    return int.from_bytes(digest.digest(), "little") | TEXT_TAG
