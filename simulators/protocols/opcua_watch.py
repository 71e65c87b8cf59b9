"""Which changes of variables a EUROMAP 77 machine reports as events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from asyncua.common.events import Event

from shopfloor import signal
from simulators.protocols.euromap77_events import (
    Alarm,
    alarm_event,
    mode_event,
    production_event,
    standstill_event,
)
from simulators.protocols.opcua_site import SiteSpace
from simulators.protocols.opcua_variable import Raw, Variable

_ALARM = "status.alarm"
_WATCHED = frozenset({signal.MACHINE_MODE, signal.PRODUCTION_STATUS, signal.STANDSTILL_REASON, _ALARM})


class Watch:
    """Turns changes into events."""

    def __init__(self, variables: Sequence[tuple[str, Variable]]) -> None:
        self._places = {(cell, variable.signal): number for number, (cell, variable) in enumerate(variables)}
        self.numbers = {number: place for place, number in self._places.items() if place[1] in _WATCHED}
        """The variables that matter, each with its machine and signal."""

    def events(
        self,
        space: SiteSpace,
        number: int,
        time_ms: int,
        old: Raw | None,
        new: Raw,
        newest: Callable[[int], Raw | None],
    ) -> Iterator[Event]:
        """Yield what is reported of one change; ``newest`` is what another variable shows by now."""
        cell, name = self.numbers[number]
        machine = space.roots[cell]
        if old == new or old is None:
            return
        if name == signal.MACHINE_MODE:
            yield mode_event(machine, cell, time_ms, int(old), int(new))
        elif name == signal.PRODUCTION_STATUS:
            yield production_event(machine, cell, time_ms, int(old), int(new))
        elif name == signal.STANDSTILL_REASON:
            yield standstill_event(machine, cell, time_ms, str(new))
        else:
            message = newest(self._places[cell, "status.alarm_text"])
            classification = newest(self._places[cell, "status.alarm_classification"])
            alarm = Alarm(cell, time_ms, str(new), str(message or ""), int(classification or 0))
            yield alarm_event(space.names, machine, alarm)
