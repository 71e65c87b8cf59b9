"""What an agent stores of its own about contact with a Sparkplug publisher, and no machine has said.

When an edge node or a device dies, its host writes a null with Bad_NoCommunication for each of its metrics, and when
it is born again the value that stood already with Good_CommunicationEvent (OPC UA Part 8, A.4), at the birth's time.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from shopfloor.block import SampleBlock
from shopfloor.signal import SeriesKey

BAD_NO_COMMUNICATION: Final = 0x8031_0000
GOOD_COMMUNICATION_EVENT: Final = 0x00A7_0000


def without_contact(said: SampleBlock, stored: SampleBlock) -> SampleBlock:
    """Return what is stored but for rows about contact; one that a machine has said at that very time is kept."""
    about_contact = np.isin(stored.status, (BAD_NO_COMMUNICATION, GOOD_COMMUNICATION_EVENT))
    if not about_contact.any():
        return stored
    rows = np.flatnonzero(about_contact)
    near = said.take(np.isin(said.source_time, stored.source_time[rows]))
    known = {_identity(near, row) for row in range(len(near))}
    drop = [row for row in rows.tolist() if _identity(stored, row) not in known]
    keep = np.ones(len(stored), dtype=np.bool_)
    keep[drop] = False
    return stored.take(keep)


def _identity(block: SampleBlock, row: int) -> tuple[SeriesKey, int, str]:
    value = block.text.get(row)
    shown = repr(float(block.value[row])) if value is None else f"text {value}"
    return block.series[int(block.series_index[row])], int(block.source_time[row]), shown
