"""What this host says of itself on its STATE topic (Eclipse Sparkplug 3.0, sections 4.3, 5.1 and 6.4.22)."""

from __future__ import annotations

from typing import Final

from shopfloor.sparkplug import HostState, SparkplugDecodeError, decode_state, encode_state

_AGAIN_S: Final = 1.0
"""Least time between two repetitions: two hosts of one name must not chase each other round."""


class Presence:
    """One session's will and birth, which carry one timestamp: by it edge nodes tell an old death from a new one."""

    def __init__(self, timestamp_ms: int) -> None:
        self.timestamp_ms = timestamp_ms
        """When this session began, UTC ms; later than that of every session before."""
        self._is_announced = False
        self._contradicted = False
        self._said_s = 0.0

    @property
    def death(self) -> bytes:
        """The will: what the broker says when it loses us."""
        return encode_state(HostState(online=False, timestamp_ms=self.timestamp_ms))

    def birth(self, now_s: float) -> bytes:
        """The message that makes us online; to be published once the subscriptions stand."""
        self._is_announced = True
        self._contradicted = False
        self._said_s = now_s
        return encode_state(HostState(online=True, timestamp_ms=self.timestamp_ms))

    def goodbye(self, now_ms: int) -> bytes:
        """The message before a disconnect of our own will: it carries the time of leaving."""
        return encode_state(HostState(online=False, timestamp_ms=max(now_ms, self.timestamp_ms)))

    def hear(self, payload: bytes) -> str | None:
        """Take what came on our STATE topic; return what is odd about it, as the name of a counter."""
        try:
            state = decode_state(payload)
        except SparkplugDecodeError:
            # The topic's older form said ONLINE and OFFLINE in plain words; who writes that here contradicts us.
            self._contradicted = True
            return "state_not_understood"
        if not state.online:
            # The will of our own last session may come after our birth, and is retained: new nodes would believe it.
            self._contradicted = True
            return None
        return "state_of_another_host" if state.timestamp_ms > self.timestamp_ms else None

    def is_due(self, now_s: float) -> bool:
        """Tell whether the birth has to be published again now."""
        return self._is_announced and self._contradicted and now_s - self._said_s >= _AGAIN_S

    def next_s(self) -> float | None:
        """Return when `is_due` has to be asked again."""
        return self._said_s + _AGAIN_S if self._is_announced and self._contradicted else None
