"""Which messages without a machine time came before: the last payloads of every topic, as digests.

With a machine time the buffer recognises a repeat by series, time and value. Without one, two equal payloads are
two readings, unless the broker says that it may be sending the second time (DUP), or that it sends what it
retained.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Final

_DIGEST_BYTES: Final = 8
_KEEP: Final = 16
_MAX_TOPICS: Final = 10_000
_PREFIX: Final = "topic."


class RecentPayloads:
    """The recent payload digests of each topic; what changed is saved in the transaction of the messages.

    A broker repeats what it has not seen acknowledged: the messages of the last commit, and those of the one
    before whose acknowledgements may still have been under way. Their digests are kept however many they are,
    and at least ``keep`` per topic.
    """

    def __init__(
        self, state: Mapping[str, bytes], *, keep: int = _KEEP, max_topics: int = _MAX_TOPICS
    ) -> None:
        self._keep = keep
        self._max_topics = max_topics
        self._digests: OrderedDict[str, bytes] = OrderedDict(
            (key, digests) for key, digests in state.items() if key.startswith(_PREFIX) and digests
        )
        self._changed: set[str] = set()
        self._fresh: Counter[str] = Counter()
        self._previous: Counter[str] = Counter()

    def is_repeat(self, topic: str, payload: bytes, *, dup: bool, retained: bool) -> bool:
        """Tell whether this message came before, and remember it.

        Args:
            topic: the topic it came on.
            payload: its bytes.
            dup: its DUP flag: the broker may have sent it before.
            retained: its RETAIN flag: the broker sends what it kept, not what just happened.
        """
        digest = hashlib.blake2b(payload, digest_size=_DIGEST_BYTES).digest()
        key = _PREFIX + hashlib.blake2b(topic.encode(), digest_size=16).hexdigest()
        known = self._digests.get(key, b"")
        if (dup and _holds(known, digest)) or (retained and known[-_DIGEST_BYTES:] == digest):
            return True
        self._digests[key] = known + digest
        self._digests.move_to_end(key)
        self._changed.add(key)
        self._fresh[key] += 1
        if len(self._digests) > self._max_topics:
            forgotten, _ = self._digests.popitem(last=False)
            self._changed.add(forgotten)
        return False

    def take_changes(self) -> dict[str, bytes]:
        """Return what changed since the last call, for the sink's state; ``b""`` for a forgotten topic."""
        changes: dict[str, bytes] = {}
        for key in self._changed:
            digests = self._digests.get(key, b"")
            if digests:
                keep = max(self._keep, self._fresh[key] + self._previous[key])
                digests = self._digests[key] = digests[-keep * _DIGEST_BYTES :]
            changes[key] = digests
        self._changed.clear()
        self._previous, self._fresh = self._fresh, Counter()
        return changes


def _holds(digests: bytes, digest: bytes) -> bool:
    at = digests.find(digest)
    while at > 0 and at % _DIGEST_BYTES:
        at = digests.find(digest, at + 1)
    return at >= 0
