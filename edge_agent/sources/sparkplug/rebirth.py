"""When to ask an edge node for its births again, and how often."""

from __future__ import annotations

from typing import Final

_MAX_INTERVAL_S: Final = 600.0


class RebirthRequests:
    """The requests to one edge node: at most one in ``min_interval_s``, rarer the longer they go unanswered."""

    def __init__(self, min_interval_s: float) -> None:
        self._min_interval_s = min_interval_s
        self._due_s: float | None = None
        self._asked_s: float | None = None
        self._unanswered = 0

    def want(self, now_s: float, after_s: float = 0.0) -> None:
        """Ask as soon as that is permitted, ``after_s`` from now at the earliest."""
        due_s = now_s + after_s
        if self._asked_s is not None:
            patience_s = self._min_interval_s * 2.0 ** max(0, self._unanswered - 1)
            due_s = max(due_s, self._asked_s + min(patience_s, _MAX_INTERVAL_S))
        self._due_s = due_s if self._due_s is None else min(self._due_s, due_s)

    def answered(self) -> None:
        """Note that a birth came."""
        self._due_s = None
        self._unanswered = 0

    def next_s(self) -> float | None:
        """Return when `take` has to be asked again; None while nothing is wanted."""
        return self._due_s

    def take(self, now_s: float) -> bool:
        """Tell whether to ask now; without an answer, it will be asked again later."""
        if self._due_s is None or now_s < self._due_s:
            return False
        self._asked_s = now_s
        self._unanswered = min(self._unanswered + 1, 32)
        self._due_s = None
        self.want(now_s)
        return True
