"""What becomes of moments that nobody has looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from simulators.physics.machine import COARSE, LIVE, InjectionMachine
from simulators.physics.unit import Change, Moment, Unit
from simulators.playback import Playback, TruthSink


def look(unit: Unit, *, live: bool) -> None:
    """Look at a unit as often as somebody does who watches it, or seldom."""
    if isinstance(unit, InjectionMachine):
        unit.sampling = LIVE if live else COARSE


def at_least(changes: Sequence[Change], time_ns: int) -> list[Change]:
    """Return changes none of which is before a time."""
    return [change if change.time_ns >= time_ns else change._replace(time_ns=time_ns) for change in changes]


def newest_of(moments: Iterable[Moment], time_ns: int) -> Iterator[Moment]:
    """Yield the newest change of each signal, as if it came at that time."""
    newest: dict[str, Change] = {}
    for moment in moments:
        if isinstance(moment, Change):
            newest[moment.signal] = moment
    for change in newest.values():
        yield change._replace(time_ns=time_ns)


def fast_forward(playback: Playback, told: TruthSink, until_ms: int) -> Playback:
    """Let a unit live on without being looked at; return it at the begin of its stretch around ``until_ms`` (UTC ms).

    Planning alone is a hundred times as fast as playing. The stretch that ``playback`` is in must be over by then.
    """
    unit = playback.unit
    unit.restore(playback.snapshot)
    while True:
        snapshot = unit.snapshot()
        stretch = unit.plan()
        if stretch.end_ms >= until_ms:
            unit.restore(snapshot)
            return Playback(unit, told)
        told(unit, stretch.facts)
