"""When people work at a site: shifts, breaks and holidays as a user writes them."""

from __future__ import annotations

import zoneinfo
from datetime import date, time
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from shopfloor.configfile import ConfigModel
from simulators.physics.calendar import Calendar, Shift
from simulators.scenario.refusal import refuse

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: Final[tuple[Day, ...]] = get_args(Day)
_DAY_S: Final = 86_400
_WEEK_S: Final = 7 * _DAY_S


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
    """Within it, one after another."""

    @model_validator(mode="after")
    def _breaks_fit(self) -> Self:
        taken: list[tuple[int, int]] = []
        for number, pause in enumerate(self.breaks):
            begin_s = _seconds_after(self.start, pause.start) % _DAY_S
            end_s = begin_s + (_seconds_after(pause.start, pause.end) % _DAY_S or _DAY_S)
            if end_s > self.length_s:
                refuse(
                    ("breaks", number, "start"),
                    "the break from {begin} to {end} is not within the shift {shift}",
                    begin=f"{pause.start:%H:%M}",
                    end=f"{pause.end:%H:%M}",
                    shift=self.name,
                )
            if any(begin_s < until and since < end_s for since, until in taken):
                refuse(
                    ("breaks", number, "start"),
                    "the break from {begin} to {end} overlaps another one of the shift {shift}",
                    begin=f"{pause.start:%H:%M}",
                    end=f"{pause.end:%H:%M}",
                    shift=self.name,
                )
            taken.append((begin_s, end_s))
        return self

    @property
    def length_s(self) -> int:
        """How long it lasts by the clock, in seconds; a day where it ends when it begins."""
        return _seconds_after(self.start, self.end) % _DAY_S or _DAY_S

    def shift(self) -> Shift:
        """Return it for the calendar."""
        return Shift(
            self.name,
            self.start,
            self.end,
            frozenset(_DAYS.index(day) for day in self.days),
            tuple((pause.start, pause.end) for pause in self.breaks),
        )


def refuse_overlapping_shifts(shifts: tuple[ShiftConfig, ...]) -> None:
    """Refuse that people of two shifts work at once; places count from the site."""
    taken: list[tuple[int, int, str]] = []
    for number, shift in enumerate(shifts):
        start_s = _seconds_after(time(0), shift.start)
        own = []
        for day in sorted({_DAYS.index(day) for day in shift.days}):
            begin_s = day * _DAY_S + start_s
            end_s = begin_s + shift.length_s
            for since_s, until_s, name in taken:
                # Sunday's night reaches into Monday: a week later or earlier is the same time.
                if any(
                    begin_s + week < until_s and since_s < end_s + week for week in (-_WEEK_S, 0, _WEEK_S)
                ):
                    refuse(
                        ("shifts", number, "start"),
                        "the shift {shift} that begins on {day} overlaps {other}",
                        shift=shift.name,
                        other=name,
                        day=_DAYS[day],
                    )
            own.append((begin_s, end_s, shift.name))
        taken += own


def _seconds_after(begin: time, end: time) -> int:
    """Return by how many seconds one time of the day is later than another; negative where it is earlier."""
    return (end.hour - begin.hour) * 3_600 + (end.minute - begin.minute) * 60 + end.second - begin.second


def calendar(zone: str, shifts: tuple[ShiftConfig, ...], holidays: tuple[date, ...]) -> Calendar:
    """Return the working time of a site."""
    return Calendar(zoneinfo.ZoneInfo(zone), tuple(shift.shift() for shift in shifts), frozenset(holidays))
