"""What a panel asks of a database, whatever its language."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from shopfloor.asset import LEVELS
from shopfloor.block import Quality

SAMPLE: Final = "sample"
"""The measurement of samples; those of reports are named in `shopfloor.reports`."""
BAD: Final = int(Quality.BAD)
"""Samples of this quality show nothing: their value, often zero, is none that was measured."""
HELD_FOR: Final = "2d"
"""For how long `How.HELD` holds."""
MACHINE_TAGS: Final = LEVELS
LINE_TAGS: Final = LEVELS[:4]
SITE_TAGS: Final = (*LEVELS[:2], "time_zone")


class How(StrEnum):
    """What is made of the values."""

    MEAN = "mean"
    """Their mean, interval by interval."""
    MOST = "most"
    """The highest one of each interval."""
    LAST = "last"
    """The last one of each interval: for numbers that stand for something."""
    HELD = "held"
    """The same for what is said when it changes and holds until then: also what was said up to two days before."""
    NEWEST = "newest"
    """The newest one of each series."""
    NEWEST_SUM = "newest_sum"
    """The sum over all series of their newest ones."""
    TOTAL = "total"
    """Their sum."""
    RATE = "rate"
    """Their sum of each interval, per second."""
    SUM = "sum"
    """Their sum of each interval."""
    RISE = "rise"
    """By how much a counter rose, interval by interval."""
    DAILY_RISE = "daily_rise"
    """The same, by days of the site."""


class Var(NamedTuple):
    """A tag is one of what a variable of the dashboard holds; the variable is named like the tag where it says nothing else."""

    tag: str
    name: str = ""

    @property
    def variable(self) -> str:
        """The variable's name."""
        return self.name or self.tag


class Is(NamedTuple):
    """A tag is this text."""

    tag: str
    text: str


class Like(NamedTuple):
    """A tag matches this regular expression (RE2) as a whole."""

    tag: str
    expression: str


Filter = Var | Is | Like


class Ask(NamedTuple):
    """One query."""

    measurement: str
    field: str
    how: How
    by: tuple[str, ...] = ()
    """Tags that tell series apart."""
    where: tuple[Filter, ...] = ()
    legend: str = ""
    """Name of a series, with tags in braces: ``{site}/{cell}``."""
    within: str = "2m"
    """How old the newest value may be."""


class Column(NamedTuple):
    """One figure of a table."""

    field: str
    title: str
    look: str = ""
    """Key of `look.FIELDS`: unit, thresholds, mappings."""


class Rows(NamedTuple):
    """A table: the newest figures of each series of a measurement."""

    measurement: str
    columns: tuple[Column, ...]
    by: tuple[str, ...]
    where: tuple[Filter, ...] = ()
    within: str = "2m"


def signal(
    name: str, how: How, by: tuple[str, ...], where: tuple[Filter, ...], legend: str, within: str = "15m"
) -> Ask:
    """Return an ask for a signal of machines; a name with ``*`` means those that it matches, between dots."""
    one: Filter = (
        Like("signal", name.replace(".", "[.]").replace("*", "[^.]+")) if "*" in name else Is("signal", name)
    )
    return Ask(SAMPLE, "value", how, by, (*where, one), legend, within)
