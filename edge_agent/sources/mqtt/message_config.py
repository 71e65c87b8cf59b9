"""What a user writes about the inside of a message: its values, its times, and lists of points in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from edge_agent.sources.mqtt.paths import Finder, finder, query
from edge_agent.sources.mqtt.times import TimeReader, time_reader
from edge_agent.sources.mqtt.topics import fill, placeholders
from shopfloor.asset import parse_asset
from shopfloor.configfile import ConfigModel
from shopfloor.errors import InvalidName
from shopfloor.signal import parse_signal

_EXAMPLE: Final = "x"
"""Stands in for a topic level while a template is checked; valid in asset paths and in signal names."""


def checked_asset(text: str) -> str:
    """Return an asset template unchanged, if it can become an asset path (a validator)."""
    return _checked(text, "asset_path", parse_asset)


def _checked_signal(text: str) -> str:
    return _checked(text, "signal_name", parse_signal)


def _checked(text: str, kind: Literal["asset_path", "signal_name"], parse: Callable[[str], str]) -> str:
    try:
        parse(fill(text, dict.fromkeys(placeholders(text), _EXAMPLE)))
    except InvalidName as error:
        raise PydanticCustomError(kind, "{reason}", {"reason": str(error)}) from error
    return text


def _checked_zone(name: str | None) -> str | None:
    if name is not None:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("not a time zone such as Asia/Hong_Kong or UTC") from error
    return name


def _checked_query(text: str) -> str:
    if text:
        query(text)
    return text


Zone = Annotated[str | None, AfterValidator(_checked_zone)]
"""IANA name of a time zone."""
Path = Annotated[str, Field(max_length=500)]
"""Keys and list indices joined by dots."""
Query = Annotated[str, Field(max_length=500), AfterValidator(_checked_query)]
"""A JMESPath expression."""


class TimeConfig(ConfigModel):
    """Where a message says when it was measured."""

    path: Path = ""
    """Path of the time in the payload, written as a signal's path is; this or ``jmespath`` is needed.
    Default: empty."""
    jmespath: Query = ""
    """The same as a JMESPath expression. Default: empty."""
    format: Literal["s", "ms", "us", "ns", "iso"]
    """Unit of a number counted from 1970-01-01 UTC (fractions allowed), or ``iso`` for ISO 8601 text."""
    zone: Zone = None
    """Time zone (such as Asia/Hong_Kong) whose local time ISO 8601 text without offset gives, or numbers count;
    without it such text counts as no time, and numbers count in UTC. Default: none."""
    fold: Literal["first", "second", "nearest"] = "first"
    """Which one is meant of a local time that comes twice because the clock was put back. ``nearest`` is the second
    one if that is within half an hour of the time of receipt; a message that the broker brings again much later could
    then be read otherwise. Default: first."""

    @property
    def find(self) -> Finder:
        """The function that finds the time in a payload or point."""
        return query(self.jmespath) if self.jmespath else finder(self.path)

    @property
    def read(self) -> TimeReader:
        """The function that reads what was found."""
        return time_reader(self.format, self.zone, self.fold)

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if bool(self.path) == bool(self.jmespath):
            raise ValueError("give either path or jmespath, where the time stands")
        if self.fold != "first" and self.zone is None:
            raise ValueError("fold goes with zone only")
        return self


class SignalConfig(ConfigModel):
    """One value of a message and the signal that it becomes."""

    path: Path = ""
    """Key, or keys and list indices joined by dots (``em.0.act_power``). Empty: the whole payload. Default: empty."""
    jmespath: Query = ""
    """JMESPath expression for values that a path does not reach (``values[?id=='T1'].v | [0]``), instead of ``path``;
    a null that it selects counts as nothing. Default: empty."""
    point: str = Field(default="", max_length=500)
    """With ``points.name``: name of the points that hold this signal. Default: empty."""
    optional: bool = False
    """Whether messages may lack the value without being counted. Several optional entries may name one signal, where
    devices have it in different places. Default: false."""
    signal: Annotated[str, AfterValidator(_checked_signal)]
    """Signal name; ``{name}`` stands for the topic level of that name."""
    type: Literal["auto", "number", "text"] = "auto"
    """``auto`` keeps numbers as numbers, true and false as 1 and 0, text as text; ``number`` also reads numbers
    written as text, and what is none becomes a bad sample; ``text`` writes everything as text. Default: auto."""
    decimal_comma: bool = False
    """Whether numbers written as text have a decimal comma (``12,5``). Default: false."""
    unit: str = Field(default="", max_length=60)
    """Unit after scaling, in UCUM (``kW``, ``Cel``). Default: none."""
    description: str = Field(default="", max_length=500)
    """For people. Default: none."""
    scale: float = 1.0
    """The sample is raw * scale + offset; a signal with scale or offset is a number. Default: 1, without unit."""
    offset: float = 0.0
    """Added after scaling, in ``unit``. Default: 0."""

    @property
    def find(self) -> Finder:
        """The function that finds the value in a payload or point."""
        return query(self.jmespath) if self.jmespath else finder(self.path)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.type == "text" and (self.scale != 1.0 or self.offset != 0.0):
            raise ValueError("text has neither scale nor offset")
        if self.path and self.jmespath:
            raise ValueError("path and jmespath both say where the value stands: give one")
        return self


class PointsConfig(ConfigModel):
    """A list of points in a message, each with values of its own, and perhaps its own time."""

    path: Path = ""
    """Path of the list in the payload. Empty: the payload is the list. Default: empty."""
    jmespath: Query = ""
    """The same as a JMESPath expression, which may also filter it. Default: empty."""
    columns: bool = False
    """Whether the values stand in lists side by side (``{"t": [1, 2], "v": [3.5, 3.6]}``) instead of a list of
    points: ``path`` then leads to what holds the lists, and the paths of time and signals to a list each.
    Default: false."""
    name: Path = ""
    """Path of a point's name within the point, where names tell which signal it holds. Default: none."""
    value: Path = ""
    """With ``name`` and ``signals: all``: path of the value within the point. Default: none."""
    time: TimeConfig | None = None
    """Where a point gives its own time; one without it has the message's. Default: none."""
    interval_ms: float = Field(default=0.0, ge=0, le=86_400_000)
    """Milliseconds from one point to the next where they have no time of their own: the message's time is that of the
    first. Default: 0."""
    max_points: int = Field(default=5_000, ge=1, le=100_000)
    """Points that are taken of one message at most; further ones are counted. Default: 5000."""

    @property
    def find(self) -> Finder:
        """The function that finds the list in a payload."""
        return query(self.jmespath) if self.jmespath else finder(self.path)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.path and self.jmespath:
            raise ValueError("path and jmespath both say where the list stands: give one")
        if self.time is not None and self.interval_ms:
            raise ValueError("points have a time of their own or an interval, not both")
        if self.columns and self.name:
            raise ValueError("lists side by side have no names of points")
        return self
