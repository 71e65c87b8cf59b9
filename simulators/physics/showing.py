"""What somebody sees who watches a moulding machine through a planned stretch, moment by moment."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from shopfloor import signal
from simulators.physics import signals
from simulators.physics.machine_state import Detail, Equipment
from simulators.physics.machine_status import noticed_ms, status
from simulators.physics.machine_view import View
from simulators.physics.unit import MS, Change, CycleEnd, Moment, Value

_OFF_LOOK_MS: Final = 60_000
_OF_JOB: Final = (signal.JOB_NAME, signal.JOB_STATUS, signals.JOB_LOT, signals.JOB_CAVITIES)


class Sampling(NamedTuple):
    """How often somebody looks at what moves by itself, in milliseconds."""

    slow_ms: int
    """Temperatures, heaters, cooling."""
    fast_ms: int
    """Pressures and positions."""


LIVE: Final = Sampling(1_000, 200)
COARSE: Final = Sampling(10_000, 30_000)
"""For a past that nobody watched."""


def show(
    machine: Equipment,
    detail: Detail,
    before: Mapping[str, Value],
    sampling: Callable[[], Sampling],
    *,
    anew: bool = False,
) -> Iterator[Moment]:
    """Yield what is to be seen of a stretch, in order of time; see `simulators.physics.unit.Unit.play`.

    However often somebody looks, a stretch's last millisecond is looked at as well: what is shown then can be told
    from the stretch alone (`shown_at_end`), and the next one goes on from there.

    Args:
        machine: that is watched.
        detail: of the stretch.
        before: what it shows already, by signal.
        sampling: asked before each look: whoever looks may look more often from now on.
        anew: say also at the begin what it shows already.
    """
    view, cell = View(machine, detail), machine.spec.cell
    shown = {} if anew else dict(before)
    rng = random.Random(f"{machine.seed}:{detail.number}")

    def say(time_ms: int, values: Mapping[str, Value]) -> Iterator[Change]:
        time_ns = time_ms * MS
        for name, value in values.items():
            if shown.get(name) != value:
                shown[name] = value
                yield Change(cell, name, time_ns, value)

    begin_ms, last_ms = detail.begin_ms, detail.end_ms - 1
    now_shown = {**status(machine, detail, begin_ms), **view.counters(0)}
    yield from say(begin_ms, {**before, **now_shown} if anew else now_shown)
    off = detail.pending is not None and detail.pending.kind == "off"
    next_slow = next_fast = due = begin_ms - 1
    turns = iter(_turns(machine, detail, view))
    turn_ms, done = next(turns, (detail.end_ms, 0))
    while True:
        slow_ms, fast_ms = (max(_OFF_LOOK_MS, pace) if off else pace for pace in sampling())
        if due >= next_slow:
            next_slow = (due // slow_ms + 1) * slow_ms
        if due >= next_fast:
            next_fast = (due // fast_ms + 1) * fast_ms
        due = min(turn_ms, next_slow, next_fast)
        if due >= last_ms:
            break
        if due == next_slow:
            yield from say(due, view.slow(due, rng))
        if due == next_fast:
            yield from say(due, view.fast(due, rng))
        if due == turn_ms:
            yield from _turn(machine, detail, view, shown, say, due, done)
            turn_ms, done = next(turns, (detail.end_ms, 0))
    yield from say(last_ms, _last_look(machine, detail, view))
    if turn_ms == last_ms:
        yield from _turn(machine, detail, view, shown, say, last_ms, done)


def shown_at_end(machine: Equipment, detail: Detail) -> dict[str, Value]:
    """Return all that a machine shows at the end of a stretch, by signal."""
    view, last_ms = View(machine, detail), detail.end_ms - 1
    done = len(view.ends_ms)
    return {
        **status(machine, detail, last_ms),
        **view.counters(done),
        **view.figures(done),
        **_last_look(machine, detail, view),
    }


def _turns(machine: Equipment, detail: Detail, view: View) -> Iterator[tuple[int, int]]:
    """Yield when something happens by itself: how many cycles are over then, 0 where it is something else."""
    yield from zip(view.ends_ms, range(1, len(view.ends_ms) + 1), strict=True)
    if detail.pending is not None and detail.pending.kind == "stop":
        at_ms = noticed_ms(machine, detail.pending)
        if detail.begin_ms < at_ms < detail.end_ms:
            yield at_ms, 0


def _turn(
    machine: Equipment,
    detail: Detail,
    view: View,
    shown: Mapping[str, Value],
    say: Callable[[int, Mapping[str, Value]], Iterator[Change]],
    time_ms: int,
    done: int,
) -> Iterator[Moment]:
    if not done:
        yield from say(time_ms, status(machine, detail, time_ms))
        return
    values = {**view.figures(done), **view.counters(done)}
    yield from say(time_ms, values)
    of_job = {name: shown[name] for name in _OF_JOB}
    yield CycleEnd(machine.spec.cell, time_ms * MS, {**values, **view.cavities(done), **of_job})


def _last_look(machine: Equipment, detail: Detail, view: View) -> dict[str, Value]:
    rng, last_ms = random.Random(f"{machine.seed}:{detail.number}:end"), detail.end_ms - 1
    return {**view.slow(last_ms, rng), **view.fast(last_ms, rng)}
