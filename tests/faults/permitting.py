"""Which losses a log of faults permits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tests.faults.evidence import EVER, Damaged, Permits, Window
from tests.faults.plant_config import OVERLAP_S
from tests.faults.schedule import Fault, Kind
from tests.faults.watch import Look, loss_window

_BEFORE_S: Final = 15.0
"""What was said so shortly before a fault may not have been on disk yet. On an idle computer a second would do; ten have
been seen on a busy one, where each refused commit is followed by a rebuild of the index of repeats."""
_AFTER_S: Final = 3.0
_LOSES_PLAIN: Final = frozenset(set(Kind) - {Kind.CLOCK})
_LOSES_OF_AGENT: Final = frozenset({Kind.KILL, Kind.FREEZE, Kind.DISK_FULL, Kind.DAMAGE})


@dataclass(frozen=True, slots=True)
class Happened:
    """A fault as it was; times are true UTC ns."""

    fault: Fault
    begin: int
    end: int
    note: str = ""
    damaged: Damaged | None = None


def permits_of(
    log: Sequence[Happened], plain_clock: Sequence[tuple[int, int]], looks: Sequence[Look]
) -> Permits:
    """Return what may be lost.

    A server without history may lose what was said while the way from it to the buffer was broken; a damaged buffer what
    it held. QoS 0 may lose anything at any time: nobody promises more. What hits only the way from the buffer to the
    service permits nothing, and nothing permits a server with history or QoS 1 anything.

    Args:
        log: the faults as they happened.
        plain_clock: from when on (true UTC ns) the clock of the server without history was how many ns ahead.
        looks: what the agent said of its sources: a way is broken until its source runs steadily again.
    """
    plain = []
    for each in log:
        window = Window(each.begin, each.end)
        kind, target = each.fault.kind, each.fault.target
        of_agent = target == "agent" and kind in _LOSES_OF_AGENT
        if of_agent or (target == "plain" and kind in _LOSES_PLAIN):
            plain.append(loss_window(looks, "plain", window, _BEFORE_S, _AFTER_S))
    return Permits(
        {"plain": plain, "lossy": [EVER]},
        [(0, 0), *plain_clock],
        [each.damaged for each in log if each.damaged is not None],
        round(OVERLAP_S * 1e9),
    )


def at_any_time(permits: Permits) -> Permits:
    """Return what may be lost on a computer so busy that silence is no sign of a fault.

    When something was lost decides nothing: of the server without history all that a gap's record covers may be, of QoS 0
    anything; of others still nothing.
    """
    return replace(permits, windows={"plain": [EVER], "lossy": [EVER]})
