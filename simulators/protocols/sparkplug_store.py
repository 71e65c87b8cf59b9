"""What a simulated edge node has not certainly delivered: a bounded store and a rolling history, by counts of messages.

Everything but births goes out with QoS 0, and what was on its way when a connection, a broker or a host died is
gone. Therefore a sample stays here after the socket took it, for a while in which such a loss would be noticed; when
one is noticed, `recall` makes all of these wait again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from simulators.protocols.sparkplug_metrics import DeviceSample


class SampleStore:
    """Samples on their way: waiting, handed over but not written, and written lately.

    A sample is in one of the three (and leaves the last by time), so that `recall` is complete by construction.
    """

    def __init__(self, max_samples: int) -> None:
        if max_samples < 1:
            raise ValueError("a store has room for at least one sample")
        self._max = max_samples
        self._waiting: deque[DeviceSample] = deque()
        self._parked: dict[str, deque[DeviceSample]] = {}
        """By device, of those that may not send now."""
        self._unwritten: deque[Sequence[DeviceSample]] = deque()
        """One entry a message, in the order of the socket; births have no samples."""
        self._recent: deque[tuple[float, Sequence[DeviceSample]]] = deque()
        self._recent_samples = 0
        self.dropped_total = 0
        """Samples that a full store gave up, oldest first; some may have been delivered before a recall."""

    @property
    def waiting(self) -> int:
        """Samples that wait, of all devices."""
        return len(self._waiting) + sum(map(len, self._parked.values()))

    @property
    def has_ready(self) -> bool:
        """Whether `take` may have something."""
        return bool(self._waiting)

    @property
    def unwritten_messages(self) -> int:
        """Messages handed over that the socket has not taken yet."""
        return len(self._unwritten)

    @property
    def unwritten_samples(self) -> int:
        """The samples in those."""
        return sum(map(len, self._unwritten))

    def park(self, device: str) -> None:
        """Keep the device's samples back until `release`."""
        self._parked.setdefault(device, deque())

    def release(self, device: str) -> None:
        """Let what was kept back of the device wait behind the others."""
        self.wait(self._parked.pop(device, ()))

    def wait(self, samples: Iterable[DeviceSample]) -> None:
        """Let samples wait behind those that do already."""
        self._waiting.extend(samples)
        self._bound(self._waiting)

    def take(self, count: int) -> list[DeviceSample]:
        """Return up to ``count`` of the samples that wait longest; they must be `handed` or `wait` again."""
        taken: list[DeviceSample] = []
        while self._waiting and len(taken) < count:
            sample = self._waiting.popleft()
            parked = self._parked.get(sample.device)
            if parked is None:
                taken.append(sample)
            else:
                parked.append(sample)
                self._bound(parked)
        return taken

    def handed(self, samples: Sequence[DeviceSample]) -> None:
        """Take note of one message that was handed to the connection."""
        self._unwritten.append(samples)

    def written(self, messages: int, now: float) -> None:
        """Take note that the socket has taken the next so many messages; ``now`` in seconds, monotonic."""
        for _ in range(min(messages, len(self._unwritten))):
            samples = self._unwritten.popleft()
            if samples:
                self._recent.append((now, samples))
                self._recent_samples += len(samples)
        while self._recent_samples > self._max:
            self._forget_oldest()

    def expire(self, before: float) -> None:
        """Forget what was written before that time."""
        while self._recent and self._recent[0][0] < before:
            self._forget_oldest()

    def recall(self, *, connection_lost: bool) -> None:
        """Let everything that was sent and may be lost wait again, in front.

        While the connection stands, messages still on their way to the socket keep their place in the count.
        """
        again: list[DeviceSample] = []
        for _, samples in self._recent:
            again.extend(samples)
        for samples in self._unwritten:
            again.extend(samples)
        messages = 0 if connection_lost else len(self._unwritten)
        self._recent.clear()
        self._recent_samples = 0
        self._unwritten = deque([()] * messages)
        self._waiting.extendleft(reversed(again))
        self._bound(self._waiting)

    def _forget_oldest(self) -> None:
        _, samples = self._recent.popleft()
        self._recent_samples -= len(samples)

    def _bound(self, samples: deque[DeviceSample]) -> None:
        while len(samples) > self._max:
            samples.popleft()
            self.dropped_total += 1
