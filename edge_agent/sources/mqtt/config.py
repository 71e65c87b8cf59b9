"""What a user writes about an MQTT broker and the messages that machines publish there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from edge_agent.sources.mqtt.broker import BrokerConfig, problem
from edge_agent.sources.mqtt.topics import (
    Relation,
    TopicTemplate,
    compare,
    fill,
    parse_template,
    placeholders,
)
from shopfloor.asset import parse_asset
from shopfloor.configfile import ConfigModel
from shopfloor.errors import InvalidName
from shopfloor.signal import parse_signal

_EXAMPLE: Final = "x"
"""Stands in for a topic level while a template is checked; valid in asset paths and in signal names."""


def _checked_template(text: str) -> str:
    try:
        parse_template(text)
    except InvalidName as error:
        raise PydanticCustomError("topic_template", "{reason}", {"reason": str(error)}) from error
    return text


def _checked_asset(text: str) -> str:
    return _checked(text, "asset_path", parse_asset)


def _checked_signal(text: str) -> str:
    return _checked(text, "signal_name", parse_signal)


def _checked(text: str, kind: Literal["asset_path", "signal_name"], parse: Callable[[str], str]) -> str:
    try:
        parse(fill(text, dict.fromkeys(placeholders(text), _EXAMPLE)))
    except InvalidName as error:
        raise PydanticCustomError(kind, "{reason}", {"reason": str(error)}) from error
    return text


AssetTemplate = Annotated[str, AfterValidator(_checked_asset)]
"""An asset path in which ``{name}`` may stand for parts."""


def _zone(name: str | None) -> str | None:
    if name is not None:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("not a time zone such as Asia/Hong_Kong or UTC") from error
    return name


def all_or_some(given: object) -> object:
    """Let the word ``all`` be the empty tuple, and refuse an empty list (a validator to run before)."""
    if given == "all":
        return ()
    if isinstance(given, list | tuple) and given:
        return given
    raise ValueError("must be a list of signals, or the word all")


class TimeConfig(ConfigModel):
    """Where a message says when it was measured."""

    path: str = Field(min_length=1, max_length=500)
    """Path of the time in the payload, written as a signal's path is."""
    format: Literal["s", "ms", "us", "ns", "iso"]
    """Unit of a number counted from 1970-01-01 UTC (fractions allowed), or ``iso`` for ISO 8601 text."""
    zone: Annotated[str | None, AfterValidator(_zone)] = None
    """Time zone (such as Asia/Hong_Kong) of ISO 8601 text without offset; without it such text counts as no time.
    Default: none."""


class SignalConfig(ConfigModel):
    """One value of a message and the signal that it becomes."""

    path: str = Field(default="", max_length=500)
    """Key, or keys and list indices joined by dots (``em.0.act_power``). Empty: the whole payload. Default: empty."""
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

    @model_validator(mode="after")
    def _text_is_not_scaled(self) -> Self:
        if self.type == "text" and (self.scale != 1.0 or self.offset != 0.0):
            raise ValueError("text has neither scale nor offset")
        return self


class TopicConfig(ConfigModel):
    """Topics of one form, and what their messages mean."""

    topic: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_checked_template)]
    """Topic; ``{name}`` as a whole level stands for any text there. The first topic that matches a message counts."""
    asset: AssetTemplate
    """Asset path; ``{name}`` stands for the topic level of that name."""
    lowercase: bool = False
    """Whether topic levels are put in lower case before they go into asset and signal. Default: false."""
    payload: Literal["json", "text"] = "json"
    """``text`` takes the whole payload as one text (``Online``, ``21,5``) instead of JSON. Default: json."""
    time: TimeConfig | None = None
    """Where the message gives its time. Default: none; the agent's time of receipt stands in for it."""
    numbered: bool = False
    """Whether each message holds something that makes it unlike all others, such as a running number: an equal payload
    among the topic's last ones is then a repeat, also where the broker does not say so (DUP). Default: false."""
    signals: Annotated[tuple[SignalConfig, ...], BeforeValidator(all_or_some)]
    """The values to take, or ``all``: every number, boolean and text becomes the signal ``prefix.key``."""
    prefix: Annotated[str, Field(max_length=500)] = ""
    """With ``signals: all``, what stands before the names. Default: nothing."""
    max_signals: int = Field(default=200, ge=1, le=5_000)
    """With ``signals: all``, how many signals one topic may have; further ones are counted. Default: 200."""

    @property
    def takes_all(self) -> bool:
        """Whether every value of the payload becomes a signal."""
        return not self.signals

    @property
    def template(self) -> TopicTemplate:
        """The parsed topic."""
        return parse_template(self.topic)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        wrong: list[InitErrorDetails] = []
        known = self.template.names
        used = [("asset",), *(("signals", number, "signal") for number in range(len(self.signals)))]
        for place, text in zip(used, [self.asset, *(each.signal for each in self.signals)], strict=True):
            wrong += [
                problem(place, text, f"the topic has no level {{{name}}}")
                for name in placeholders(text)
                if name not in known
            ]
        seen: set[str] = set()
        for number, each in enumerate(self.signals):
            if each.signal in seen:
                wrong.append(problem(("signals", number, "signal"), each.signal, "stands here twice"))
            seen.add(each.signal)
            if self.payload == "text" and each.path:
                wrong.append(
                    problem(("signals", number, "path"), each.path, "a payload of text has no paths")
                )
        if self.payload == "text" and (self.takes_all or self.time):
            place = ("signals",) if self.takes_all else ("time",)
            wrong.append(problem(place, "all", "a payload of text is one signal and has no time"))
        if self.prefix:
            if not self.takes_all:
                wrong.append(problem(("prefix",), self.prefix, "goes with signals: all only"))
            try:
                parse_signal(self.prefix)
            except InvalidName as error:
                wrong.append(problem(("prefix",), self.prefix, str(error)))
        if wrong:
            raise ValidationError.from_exception_data("TopicConfig", wrong)
        return self


class MqttConfig(BrokerConfig):
    """One MQTT broker and what the agent takes from it."""

    session_expiry_s: int = Field(default=7 * 86_400, ge=60, le=2**32 - 1)
    """MQTT 5: for how many seconds of absence the broker keeps messages for the agent. Default: 604800 (a week)."""
    qos: Literal[0, 1] = 1
    """Quality of service asked for; with 0 the broker drops what it can't deliver at once. Default: 1."""
    topics: tuple[TopicConfig, ...] = Field(max_length=500)
    """What to take, and what it means."""

    @property
    def kept_session_s(self) -> int:
        """See `BrokerConfig.kept_session_s`."""
        return self.session_expiry_s

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        wrong = self.problems_of_reach()
        if not self.topics:
            wrong.append(problem(("topics",), "", "give at least one topic"))
        wrong += clashes([(each.topic, each.template) for each in self.topics], "topics", "topic")
        if wrong:
            raise ValidationError.from_exception_data("MqttConfig", wrong)
        return self


def clashes(templates: Sequence[tuple[str, TopicTemplate]], where: str, key: str) -> list[InitErrorDetails]:
    """Return a mistake for each template of a list that an earlier one hides or crosses; the first match counts."""
    found: list[InitErrorDetails] = []
    for later, (text, template) in enumerate(templates):
        for earlier in range(later):
            relation = compare(templates[earlier][1], template)
            if relation is Relation.SAME:
                what = f"matches the same {where} as {where}.{earlier}"
            elif relation is Relation.WIDER:
                what = f"never matches: {where}.{earlier} takes all of it before; put this one first"
            elif relation is Relation.CROSSING:
                what = f"some {where} match this and {where}.{earlier}, each matches more; write the common ones apart"
            else:
                continue
            found.append(problem((where, later, key), text, what))
            break
    return found
