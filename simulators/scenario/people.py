"""When people work at a site: shifts, breaks and holidays as a user writes them."""

from __future__ import annotations

import zoneinfo
from datetime import date, time
from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from shopfloor.configfile import ConfigModel
from simulators.physics.calendar import Calendar, Shift

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: Final[tuple[Day, ...]] = get_args(Day)


def time_zone(name: str) -> str:
    """Check the name of a time zone."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise PydanticCustomError("time_zone", "no IANA time zone of that name") from error
    return name


def _clock(given: object) -> object:
    # YAML 1.1 reads 22:00 as the number 22 * 60.
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < 24 * 60:
        return time(given // 60, given % 60)
    return given


TimeZone = Annotated[str, AfterValidator(time_zone)]
Clock = Annotated[time, BeforeValidator(_clock)]


class BreakConfig(ConfigModel):
    """Time within a shift in which nobody works."""

    start: Clock
    """Local time."""
    end: Clock
    """Local time."""


class ShiftConfig(ConfigModel):
    """Working time that recurs."""

    name: str = Field(min_length=1, max_length=40)
    """As people call it."""
    start: Clock
    """Local time."""
    end: Clock
    """Local time; at or before ``start`` it is the next day's."""
    days: tuple[Day, ...] = _DAYS
    """Days on which it starts."""
    breaks: tuple[BreakConfig, ...] = Field(default=(), max_length=10)
    """Within it."""

    def shift(self) -> Shift:
        """Return it for the calendar."""
        return Shift(
            self.name,
            self.start,
            self.end,
            frozenset(_DAYS.index(day) for day in self.days),
            tuple((pause.start, pause.end) for pause in self.breaks),
        )


def calendar(zone: str, shifts: tuple[ShiftConfig, ...], holidays: tuple[date, ...]) -> Calendar:
    """Return the working time of a site."""
    return Calendar(zoneinfo.ZoneInfo(zone), tuple(shift.shift() for shift in shifts), frozenset(holidays))
