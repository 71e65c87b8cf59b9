"""What a user writes about topics of one form."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from edge_agent.sources.mqtt.broker import problem
from edge_agent.sources.mqtt.message_config import (
    PointsConfig,
    SignalConfig,
    TimeConfig,
    Zone,
    checked_asset,
)
from edge_agent.sources.mqtt.topic_regex import TopicPattern, parse_pattern
from edge_agent.sources.mqtt.topics import TopicTemplate, parse_filter, parse_template, placeholders
from shopfloor.configfile import ConfigModel, resolve
from shopfloor.errors import InvalidName
from shopfloor.signal import parse_signal

TopicForm: TypeAlias = TopicTemplate | TopicPattern
"""What matches topics and names what stands in them."""
_OF_THE_PRESET: Final = frozenset(
    {"topic_regex", "subscribe", "payload", "time", "numbered", "points", "signals"}
)


def _checked_template(text: str) -> str:
    try:
        parse_template(text)
    except InvalidName as error:
        raise PydanticCustomError("topic_template", "{reason}", {"reason": str(error)}) from error
    return text


def _checked_filter(text: str) -> str:
    try:
        return parse_filter(text)
    except InvalidName as error:
        raise PydanticCustomError("topic_filter", "{reason}", {"reason": str(error)}) from error


def _checked_pattern(text: str) -> str:
    try:
        parse_pattern(text, ())
    except InvalidName as error:
        raise PydanticCustomError("topic_regex", "{reason}", {"reason": str(error)}) from error
    return text


def _preset(name: str, info: ValidationInfo) -> str:
    """Return the name of one of our presets as it is, and any other as the path of a file."""
    return str(resolve(name, info)) if "/" in name or name.endswith((".yaml", ".yml")) else name


def all_or_some(given: object) -> object:
    """Let the word ``all`` be the empty tuple, and refuse an empty list (a validator to run before)."""
    if given == "all":
        return ()
    if isinstance(given, list | tuple) and given:
        return given
    raise ValueError("must be a list of signals, or the word all")


AssetTemplate = Annotated[str, AfterValidator(checked_asset)]
"""An asset path in which ``{name}`` may stand for parts."""


class TopicConfig(ConfigModel):
    """Topics of one form, and what their messages mean."""

    topic: Annotated[str, Field(max_length=1000), AfterValidator(_checked_template)] = Field(
        default="", validate_default=False
    )
    """Topic; ``{name}`` as a whole level stands for any text there. The first topic that matches a message counts.
    With a preset: the levels before its own, where the device was told others than usual. Default: the preset's."""
    topic_regex: Annotated[str, Field(max_length=1000), AfterValidator(_checked_pattern)] = Field(
        default="", validate_default=False
    )
    """Regular expression (Python's syntax without look-around and references back) that whole topics match, instead
    of ``topic``; named groups ``(?P<name>...)`` may be used like levels, and may hold several. Default: none."""
    subscribe: tuple[Annotated[str, Field(max_length=1000), AfterValidator(_checked_filter)], ...] = Field(
        default=(), max_length=50
    )
    """With ``topic_regex``: the MQTT subscriptions (``+``, ``#``) that bring its topics. Default: empty."""
    preset: Annotated[str, Field(max_length=1000), AfterValidator(_preset)] = Field(
        default="", validate_default=False
    )
    """``tasmota``, ``shelly_gen2``, ``shelly_gen2_status``, ``umh``, or the path of a preset file of your own
    (relative to this file): what devices of one make publish, instead of describing it here. Default: none."""
    asset: AssetTemplate = Field(default="", validate_default=False)
    """Asset path; ``{name}`` stands for the topic level of that name. Default: the preset's, if it has one."""
    lowercase: bool = False
    """Whether topic levels are put in lower case before they go into asset and signal; in signals, other characters
    than a-z, 0-9 and _ become _ then. Default: false."""
    zone: Zone = None
    """With a preset of devices that give their local time: the time zone. Default: none."""
    payload: Literal["json", "text"] = "json"
    """``text`` takes the whole payload as one text (``Online``, ``21,5``) instead of JSON. Default: json."""
    time: TimeConfig | None = None
    """Where the message gives its time. Default: none; the agent's time of receipt stands in for it."""
    points: PointsConfig | None = None
    """Where the message holds a list of points; the paths of signals then start at a point. Default: none, the
    message is one point."""
    numbered: bool = False
    """Whether each message holds something that makes it unlike all others, such as a running number: an equal payload
    among the topic's last ones is then a repeat, also where the broker does not say so (DUP). Default: false."""
    signals: Annotated[tuple[SignalConfig, ...], BeforeValidator(all_or_some)] = Field(
        default=(), validate_default=False
    )
    """The values to take, or ``all``: every number, boolean and text becomes the signal ``prefix.key``. Default: the
    preset's; needed without one."""
    prefix: Annotated[str, Field(max_length=500)] = ""
    """With ``signals: all`` or a preset, what stands before the names. Default: nothing."""
    max_signals: int = Field(default=200, ge=1, le=5_000)
    """With ``signals: all``, how many signals one topic may have; further ones are counted. Default: 200."""

    @property
    def takes_all(self) -> bool:
        """Whether every value of the payload becomes a signal."""
        return not self.signals

    @property
    def form(self) -> TopicForm:
        """What the topics look like."""
        if self.topic_regex:
            return parse_pattern(self.topic_regex, self.subscribe)
        return parse_template(self.topic)

    @property
    def label(self) -> str:
        """The topic or the regular expression as it is written."""
        return self.topic_regex or self.topic

    @property
    def where(self) -> str:
        """The key that `label` stands at."""
        return "topic_regex" if self.topic_regex else "topic"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        wrong = _of_a_preset(self) if self.preset else _of_its_own(self)
        if self.prefix:
            if not (self.takes_all or self.preset):
                wrong.append(
                    problem(("prefix",), self.prefix, "goes with signals: all only, or with a preset")
                )
            try:
                parse_signal(self.prefix)
            except InvalidName as error:
                wrong.append(problem(("prefix",), self.prefix, str(error)))
        if wrong:
            raise ValidationError.from_exception_data("TopicConfig", wrong)
        return self


def _of_a_preset(config: TopicConfig) -> list[InitErrorDetails]:
    return [
        problem((key,), None, "the preset says this; leave it out, or leave the preset out")
        for key in sorted(_OF_THE_PRESET & config.model_fields_set)
    ]


def _of_its_own(config: TopicConfig) -> list[InitErrorDetails]:
    wrong = [
        problem((key,), None, "required, but missing")
        for key in ("asset", "signals")
        if key not in config.model_fields_set
    ]
    if config.zone is not None:
        wrong.append(
            problem(("zone",), config.zone, "goes with a preset; else the time has a zone of its own")
        )
    if bool(config.topic) == bool(config.topic_regex):
        wrong.append(problem(("topic",), config.topic or None, "give one of topic, topic_regex and preset"))
    elif bool(config.topic_regex) != bool(config.subscribe):
        wrong.append(
            problem(("subscribe",), None, "topic_regex and subscribe belong together: give both or neither")
        )
    else:
        known = config.form.names
        used = [("asset",), *(("signals", number, "signal") for number in range(len(config.signals)))]
        for place, text in zip(used, [config.asset, *(each.signal for each in config.signals)], strict=True):
            wrong += [
                problem(place, text, f"the topic has no level {{{name}}}")
                for name in placeholders(text)
                if name not in known
            ]
    return wrong + _of_signals(config) + (_of_points(config, config.points) if config.points else [])


def _of_signals(config: TopicConfig) -> list[InitErrorDetails]:
    wrong: list[InitErrorDetails] = []
    seen: dict[str, bool] = {}
    for number, each in enumerate(config.signals):
        place = ("signals", number)
        if each.signal in seen and not (each.optional and seen[each.signal]):
            wrong.append(problem((*place, "signal"), each.signal, "stands here twice"))
        seen[each.signal] = each.optional
        if config.payload == "text" and (each.path or each.jmespath):
            key = "path" if each.path else "jmespath"
            wrong.append(problem((*place, key), each.path or each.jmespath, "a payload of text has no paths"))
        if each.point and not (config.points and config.points.name):
            wrong.append(problem((*place, "point"), each.point, "goes with points.name only"))
    if config.payload == "text":
        extra = {"signals": config.takes_all, "time": config.time, "points": config.points}
        wrong += [
            problem((key,), None, "a payload of text is one signal and has no time and no points")
            for key, given in extra.items()
            if given
        ]
    return wrong


def _of_points(config: TopicConfig, points: PointsConfig) -> list[InitErrorDetails]:
    wrong: list[InitErrorDetails] = []
    if points.columns and config.takes_all:
        wrong.append(problem(("signals",), "all", "lists side by side need a list of signals"))
    if bool(points.value) != bool(points.name and config.takes_all):
        what = "goes with points.name and signals: all, and these need it"
        wrong.append(problem(("points", "value"), points.value or None, what))
    if points.interval_ms and config.time is None:
        wrong.append(
            problem(("points", "interval_ms"), None, "starts at the message's time, but there is no time")
        )
    if points.name:
        wrong += [
            problem(("signals", number), None, "say which point holds it: points have names")
            for number, each in enumerate(config.signals)
            if not each.point
        ]
    return wrong
