"""How long to wait before trying again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Delays that double up to a limit, with jitter, so that a hundred gateways do not knock at once."""

    first_s: float
    limit_s: float
    chance: random.Random = field(default_factory=random.Random)
    _attempt: int = 0

    def next_s(self) -> float:
        """Return the next delay: between half of the step and the whole of it."""
        step = min(self.limit_s, self.first_s * 2.0 ** min(self._attempt, 32))
        self._attempt += 1
        return step * self.chance.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin again with the shortest delay."""
        self._attempt = 0
