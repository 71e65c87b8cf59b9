"""What one call of the stage gives: samples, state to save with them, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from shopfloor.block import SampleBlock, concat, make_block

NOTHING = make_block((), [], [], [], [])


@dataclass(slots=True)
class Step:
    """Samples for the buffer. Until they are durable, `undo` can make it as if nothing had been handed over."""

    block: SampleBlock
    state: dict[str, bytes] = field(default_factory=dict)
    """To be saved in the same transaction; an empty value deletes its key."""
    thinned: int = 0
    """Readings that are left out for good from now on."""
    back: list[Callable[[], None]] = field(default_factory=list)

    def undo(self) -> None:
        """Forget this step; only the last one that was taken can be undone."""
        for way in reversed(self.back):
            way()


def joined(*steps: Step) -> Step:
    """Return steps that were taken one after the other as one; a lone block stays the same object."""
    blocks = [step.block for step in steps if len(step.block)]
    return Step(
        blocks[0] if len(blocks) == 1 else concat(blocks) if blocks else steps[-1].block,
        {key: value for step in steps for key, value in step.state.items()},
        sum(step.thinned for step in steps),
        [way for step in steps for way in step.back],
    )
