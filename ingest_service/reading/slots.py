"""How many large answers are on their way at once: each holds its rows for as long as its reader takes them."""

from __future__ import annotations

from shopfloor.errors import Transient


class NoSlot(Transient):
    """As many large answers are on their way as there may be."""


class Slot:
    """One of them; `release` may be called twice."""

    def __init__(self, slots: Slots) -> None:
        self._slots: Slots | None = slots

    def release(self) -> None:
        """Let another one begin."""
        if self._slots is not None:
            self._slots.taken -= 1
            self._slots = None


class Slots:
    """Counts them. Belongs to the event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    def take(self) -> Slot:
        """Return a slot.

        Raises:
            NoSlot: there is none.
        """
        if self.taken >= self._most:
            raise NoSlot(
                f"{self._most} large answers are on their way; one has to end first", retry_after_s=2
            )
        self.taken += 1
        return Slot(self)


__all__ = ["NoSlot", "Slot", "Slots"]
