"""The messages of a simulated edge node in the order of the wire: their seq, and the ways in which that order can fail."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from shopfloor.sparkplug import SEQ_MODULO
from simulators.protocols.sparkplug_metrics import DeviceSample
from simulators.protocols.sparkplug_store import SampleStore


class Publish(NamedTuple):
    """A message to publish, never retained (6.4.18)."""

    topic: str
    payload: bytes
    qos: int = 0


class Leave(NamedTuple):
    """Disconnect, after everything before this is written, and connect anew."""


class Outbox:
    """What is to be sent; the store is told of every message that the connection will be handed."""

    def __init__(self, store: SampleStore) -> None:
        self.messages: deque[Publish | Leave] = deque()
        """For the connection to take from the left."""
        self._store = store
        self._seq = 0
        self._swap = False
        self._duplicate = False
        self._held: tuple[Publish, Sequence[DeviceSample]] | None = None

    @property
    def held_samples(self) -> int:
        """Samples of a message that waits to change places with the next one."""
        return len(self._held[1]) if self._held else 0

    def next_seq(self) -> int:
        """Return the seq of the next message: 0 to 255 over all of the node's and its devices' (6.4.4)."""
        self._seq = (self._seq + 1) % SEQ_MODULO
        return self._seq

    def begin_birth(self) -> None:
        """The next message is an NBIRTH, whose seq is 0."""
        self.release()
        self._seq = 0

    def swap_next(self) -> None:
        """Let the next two data messages change places."""
        self._swap = True

    def duplicate_next(self) -> None:
        """Let the next data message come twice."""
        self._duplicate = True

    def add(self, message: Publish, samples: Sequence[DeviceSample] = ()) -> None:
        """Add a message with QoS 0, as it is."""
        self.messages.append(message)
        self._store.handed(samples)

    def add_data(self, message: Publish, samples: Sequence[DeviceSample]) -> None:
        """Add a data message, with the faults that were asked for."""
        if self._swap and self._held is None:
            self._swap = False
            self._held = (message, samples)
            return
        self.add(message, samples)
        if self._duplicate:
            self._duplicate = False
            self.add(message)
        self.release()

    def add_last(self, death: Publish) -> None:
        """Add the NDEATH, after which the node leaves."""
        self.release()
        self.messages.append(death)
        self.messages.append(Leave())

    def release(self) -> None:
        """Let a message that was to change places go out now."""
        if self._held is not None:
            (message, samples), self._held = self._held, None
            self.add(message, samples)

    def clear(self) -> None:
        """The connection is gone: nothing of this can be sent, and samples that were held wait again."""
        self.messages.clear()
        if self._held is not None:
            self._store.wait(self._held[1])
            self._held = None
