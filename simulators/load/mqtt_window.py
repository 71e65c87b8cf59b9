"""QoS 1 from the sender's side: which messages are under way, and which have to be sent again (MQTT 3.1.1 §4.3.2)."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from simulators.load.mqtt_json import Packets
from simulators.load.mqtt_packets import DUP

_IDS: Final = 65_535
"""Packet ids are 1 to 65,535 (§2.3.1)."""
MAX_WINDOW: Final = 30_000


class _Batch(NamedTuple):
    """Messages sent together, kept until the last of them is acknowledged."""

    first: int
    """Which of all messages its first one is."""
    packets: npt.NDArray[np.uint8]


class Window:
    """Up to ``size`` messages without an acknowledgement; ids go round."""

    def __init__(self, size: int) -> None:
        if not 1 <= size <= MAX_WINDOW:
            raise ValueError(f"a window of {size} messages; it must be 1 to {MAX_WINDOW}")
        self._size = size
        self._batches: deque[_Batch] = deque()
        self._acknowledged = np.zeros(_IDS, np.bool_)
        """Of the messages in the window, by id - 1."""
        self._oldest = 0
        self._next = 0
        self.acknowledged_total = 0

    def __len__(self) -> int:
        """Messages that are not acknowledged, and those behind them."""
        return self._next - self._oldest

    @property
    def room(self) -> int:
        """How many messages may be added."""
        return self._size - len(self)

    def add(self, packets: Packets) -> bytes:
        """Give messages their ids, in the caller's array, and return them as bytes; at most `room` of them."""
        order = np.arange(self._next, self._next + len(packets))
        packets["id"] = order % _IDS + 1
        self._acknowledged[order % _IDS] = False
        data = packets.tobytes()
        kept = np.frombuffer(data, np.uint8).reshape(len(packets), packets.itemsize)
        self._batches.append(_Batch(self._next, kept))
        self._next += len(packets)
        return data

    def acknowledge(self, ids: npt.NDArray[np.int64]) -> None:
        """Take acknowledgements in any order; ids that are not under way are ignored."""
        places = (ids - 1) % _IDS
        in_window = (places - self._oldest) % _IDS < len(self)
        places = np.unique(places[in_window & (ids > 0)])
        places = places[~self._acknowledged[places]]
        self._acknowledged[places] = True
        self.acknowledged_total += len(places)
        done = self._acknowledged[np.arange(self._oldest, self._next) % _IDS]
        self._oldest += len(done) if done.all() else int(np.argmin(done))
        while self._batches and self._batches[0].first + len(self._batches[0].packets) <= self._oldest:
            self._batches.popleft()

    def again(self) -> bytes:
        """Return all messages without an acknowledgement, in order and marked as repeated (§4.4)."""
        parts = []
        for batch in self._batches:
            order = np.arange(batch.first, batch.first + len(batch.packets))
            packets = batch.packets[(order >= self._oldest) & ~self._acknowledged[order % _IDS]]
            packets[:, 0] |= DUP
            parts.append(packets.tobytes())
        return b"".join(parts)
