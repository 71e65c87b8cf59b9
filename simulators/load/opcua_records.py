"""Many DataValues as one numpy array: OPC UA binary (Part 6 §5.2) in which only numbers change from tick to tick.

A DataValue with a Double, the same timestamps and the same presence of a status has a fixed length, so that thousands
of them are one structured array, filled column by column.
"""

from __future__ import annotations

import functools
import struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from simulators.load.plan import Int64, values

SOURCE: Final = 0x04
SERVER: Final = 0x08
"""Bits of a DataValue's mask for its two timestamps (Part 6 §5.2.2.17)."""
OVERFLOW: Final = 0x0000_0480
"""Good, with InfoType DataValue and the overflow bit (Part 4 §7.39.1)."""
_VALUE: Final = 0x01
_STATUS: Final = 0x02
_DOUBLE: Final = 11
_EPOCH_100NS: Final = 116_444_736_000_000_000
"""1970 in OPC UA's DateTime: intervals of 100 ns since 1601 (Part 6 §5.2.2.5)."""
_READ_RESPONSE: Final = 634
"""ReadResponse_Encoding_DefaultBinary."""
_NO_ELEMENTS: Final = struct.pack("<i", -1)

Records = npt.NDArray[np.void]


def date_time(time_ms: int) -> int:
    """Return a time in UTC ms as an OPC UA DateTime."""
    return time_ms * 10_000 + _EPOCH_100NS


@functools.cache
def _layout(*, handle: bool, status: bool, timestamps: int) -> np.dtype[np.void]:
    fields: list[tuple[str, str]] = [("handle", "<u4")] if handle else []
    fields += [("mask", "u1"), ("kind", "u1"), ("value", "<f8")]
    if status:
        fields.append(("status", "<u4"))
    if timestamps & SOURCE:
        fields.append(("source", "<i8"))
    if timestamps & SERVER:
        fields.append(("server", "<i8"))
    return np.dtype(fields)


class ValueRecords:
    """The encoded values of a set of signals, at any tick.

    With ``handles`` they are MonitoredItemNotifications (Part 4 §7.25.2), without they are DataValues.
    """

    def __init__(
        self, numbers: Int64, timestamps: int, handles: npt.NDArray[np.uint32] | None = None
    ) -> None:
        self._numbers = numbers
        self._timestamps = timestamps
        self._handles = handles
        self._plain: Records | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def at(self, tick: int, source_ms: int, server_ms: int, *, overflow: bool = False) -> Records:
        """Return one record a signal; without overflow they are valid until the next call only."""
        if overflow:
            records = self._template(status=True)
        else:
            if self._plain is None:
                self._plain = self._template(status=False)
            records = self._plain
        records["value"] = values(tick, self._numbers)
        if self._timestamps & SOURCE:
            records["source"] = date_time(source_ms)
        if self._timestamps & SERVER:
            records["server"] = date_time(server_ms)
        return records

    def _template(self, *, status: bool) -> Records:
        layout = _layout(handle=self._handles is not None, status=status, timestamps=self._timestamps)
        records: Records = np.zeros(len(self._numbers), layout)
        if self._handles is not None:
            records["handle"] = self._handles
        records["mask"] = _VALUE | self._timestamps | (_STATUS if status else 0)
        records["kind"] = _DOUBLE
        if status:
            records["status"] = OVERFLOW
        return records


def data_change_body(count: int, parts: list[bytes]) -> bytes:
    """Return a DataChangeNotification's body (Part 4 §7.25.2) of records encoded before."""
    return b"".join([struct.pack("<i", count), *parts, _NO_ELEMENTS])


def read_response(request_handle: int, now_ms: int, records: Records) -> bytes:
    """Return a whole ReadResponse with its type and header (Part 4 §5.10.2.2)."""
    header: Any = struct.pack(
        "<BBHqIIBiHB",
        *(1, 0, _READ_RESPONSE),  # a four-byte NodeId
        *(date_time(now_ms), request_handle, 0),  # the result: Good
        *(0, -1),  # no diagnostics, no strings
        *(0, 0),  # no additional header: a null NodeId and no body
    )
    return b"".join([header, struct.pack("<i", len(records)), records.tobytes(), _NO_ELEMENTS])
