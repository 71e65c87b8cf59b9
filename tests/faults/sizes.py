"""How much the machines of a campaign say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much the machines say, and how patient those are who listen."""

    history: int = 12
    """Variables of the server with a history."""
    plain: int = 8
    """Variables of the server without."""
    kept: int = 8
    """Series at QoS 1."""
    lossy: int = 2
    """Series at QoS 0."""
    rate_hz: float = 12.0
    """Values of each series in a second."""
    batch: int = 1000
    """Samples of a batch, at most."""

    patience: float = 1.0
    """By how much longer than two or three seconds the agent waits, and the servers' queues last: on a computer that is busy
    with other things, silence is no sign of a fault."""

    @property
    def series(self) -> list[tuple[str, str]]:
        """(source, signal) of every series; the source is also the last segment of its asset."""
        counts = {"history": self.history, "plain": self.plain, "kept": self.kept, "lossy": self.lossy}
        return [
            (source, f"{'v' if source in {'history', 'plain'} else 's'}{number}")
            for source, count in counts.items()
            for number in range(count)
        ]
