"""What a user writes about an MQTT broker and the messages that machines publish there."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from edge_agent.sources.mqtt.topics import (
    Relation,
    TopicTemplate,
    compare,
    fill,
    parse_template,
    placeholders,
)
from shopfloor.asset import parse_asset
from shopfloor.configfile import ConfigModel, FilePath, Secret
from shopfloor.errors import InvalidName
from shopfloor.signal import parse_signal

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_EXAMPLE: Final = "x"
"""Stands in for a topic level while a template is checked; valid in asset paths and in signal names."""


class Broker(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int
    tls: bool

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there stays on this computer."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_broker(url: str) -> Broker:
    """Return host, port and transport of ``mqtt://host[:1883]`` or ``mqtts://host[:8883]``; raises ValueError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not a URL: {error}") from None
    if parts.scheme not in {"mqtt", "mqtts"}:
        raise ValueError("must be mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
    # Checked before anything of the URL stands in a message: it may hold a password.
    if parts.username is not None or parts.password is not None:
        raise PydanticCustomError(
            "secret", "user and password don't belong in the URL; they have keys of their own"
        )
    if not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("must be mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
    tls = parts.scheme == "mqtts"
    return Broker(parts.hostname, port or (8883 if tls else 1883), tls)


def _checked_broker(url: str) -> str:
    parse_broker(url)
    return url


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


def _zone(name: str | None) -> str | None:
    if name is not None:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError("not a time zone such as Asia/Hong_Kong or UTC") from error
    return name


def _all_or_some(given: object) -> object:
    if given == "all":
        return ()
    if isinstance(given, list | tuple) and given:
        return given
    raise ValueError("must be a list of signals, or the word all")


def _as_text(given: object) -> object:
    # YAML reads 5 as a number and 3.1.1 as text.
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


class TlsConfig(ConfigModel):
    """Certificates for ``mqtts://``; without any the system's certificate authorities vouch for the broker."""

    ca: FilePath | None = None
    """PEM file of the certificate authorities that may vouch for the broker. Default: those of the system."""
    cert: FilePath | None = None
    """PEM file of the agent's own certificate, where the broker asks for one; needs ``key``. Default: none."""
    key: FilePath | None = None
    """PEM file of the private key of ``cert``, without a pass phrase. Default: none."""

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together: give both or neither")
        return self


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
    asset: Annotated[str, AfterValidator(_checked_asset)]
    """Asset path; ``{name}`` stands for the topic level of that name."""
    lowercase: bool = False
    """Whether topic levels are put in lower case before they go into asset and signal. Default: false."""
    payload: Literal["json", "text"] = "json"
    """``text`` takes the whole payload as one text (``Online``, ``21,5``) instead of JSON. Default: json."""
    time: TimeConfig | None = None
    """Where the message gives its time. Default: none; the agent's time of receipt stands in for it."""
    signals: Annotated[tuple[SignalConfig, ...], BeforeValidator(_all_or_some)]
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
                _problem(place, text, f"the topic has no level {{{name}}}")
                for name in placeholders(text)
                if name not in known
            ]
        seen: set[str] = set()
        for number, each in enumerate(self.signals):
            if each.signal in seen:
                wrong.append(_problem(("signals", number, "signal"), each.signal, "stands here twice"))
            seen.add(each.signal)
            if self.payload == "text" and each.path:
                wrong.append(
                    _problem(("signals", number, "path"), each.path, "a payload of text has no paths")
                )
        if self.payload == "text" and (self.takes_all or self.time):
            place = ("signals",) if self.takes_all else ("time",)
            wrong.append(_problem(place, "all", "a payload of text is one signal and has no time"))
        if self.prefix:
            if not self.takes_all:
                wrong.append(_problem(("prefix",), self.prefix, "goes with signals: all only"))
            try:
                parse_signal(self.prefix)
            except InvalidName as error:
                wrong.append(_problem(("prefix",), self.prefix, str(error)))
        if wrong:
            raise ValidationError.from_exception_data("TopicConfig", wrong)
        return self


class MqttConfig(ConfigModel):
    """One MQTT broker and what the agent takes from it."""

    name: str = Field(pattern=_NAME.pattern, max_length=63)
    """Name of this source, unique within the agent."""
    broker: Annotated[str, AfterValidator(_checked_broker)]
    """``mqtt://HOST[:1883]``, or ``mqtts://HOST[:8883]`` for TLS."""
    client_id: str = Field(min_length=1, max_length=128, pattern=r"^[!-~]+$")
    """Identifier of the session that the broker keeps for this agent. Never change it and never use it twice."""
    protocol: Annotated[Literal["3.1.1", "5"], BeforeValidator(_as_text)] = "3.1.1"
    """MQTT version. With 5 the agent sets how long its session lives and how much may be on its way. Default: 3.1.1."""
    session_expiry_s: int = Field(default=7 * 86_400, ge=60, le=2**32 - 1)
    """MQTT 5: for how many seconds of absence the broker keeps messages for the agent. Default: 604800 (a week)."""
    receive_maximum: int = Field(default=2_000, ge=1, le=65_535)
    """MQTT 5: how many unacknowledged messages may be on their way to the agent. Default: 2000."""
    keepalive_s: int = Field(default=30, ge=2, le=3_600)
    """A broker silent for this many seconds is given up. Default: 30."""
    connect_timeout_s: float = Field(default=10.0, gt=0, le=300)
    """How many seconds connecting, TLS and the broker's first answer may take in all. Default: 10."""
    user: str | None = Field(default=None, max_length=500)
    """User name. Default: none, the agent is anonymous."""
    password: Secret | None = None
    """Password, as ${VARIABLE} or file:PATH. Default: none."""
    allow_insecure_password: bool = False
    """Whether the password may go unencrypted over the network (``mqtt://`` to another host). Default: false."""
    tls: TlsConfig | None = None
    """Certificates for ``mqtts://``. Default: the certificate authorities of the system."""
    qos: Literal[0, 1] = 1
    """Quality of service asked for; with 0 the broker drops what it can't deliver at once. Default: 1."""
    max_payload_bytes: int = Field(default=256 * 1024, ge=1, le=16 * 2**20)
    """Larger payloads are acknowledged, counted and dropped. Default: 262144 bytes."""
    topics: tuple[TopicConfig, ...] = Field(max_length=500)
    """What to take, and what it means."""

    @property
    def address(self) -> Broker:
        """The parsed ``broker``."""
        return parse_broker(self.broker)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        wrong: list[InitErrorDetails] = []
        if not self.topics:
            wrong.append(_problem(("topics",), "", "give at least one topic"))
        address = self.address
        if self.password is not None and self.user is None:
            wrong.append(_problem(("user",), "", "a password needs a user"))
        exposed = self.password is not None and not address.tls and not address.is_loopback
        if exposed and not self.allow_insecure_password:
            wrong.append(
                _problem(
                    ("broker",),
                    self.broker,
                    "the password would cross the network unencrypted; use mqtts://, or allow_insecure_password: true",
                )
            )
        if self.tls is not None and not address.tls:
            wrong.append(_problem(("tls",), "", "goes with mqtts:// only"))
        wrong += _clashes(self.topics)
        if wrong:
            raise ValidationError.from_exception_data("MqttConfig", wrong)
        return self


def _clashes(topics: tuple[TopicConfig, ...]) -> list[InitErrorDetails]:
    found: list[InitErrorDetails] = []
    templates = [topic.template for topic in topics]
    for later, template in enumerate(templates):
        for earlier in range(later):
            relation = compare(templates[earlier], template)
            if relation is Relation.SAME:
                what = f"matches the same topics as topics.{earlier}"
            elif relation is Relation.WIDER:
                what = f"never matches: topics.{earlier} takes all of it before; put this one first"
            elif relation is Relation.CROSSING:
                what = f"some topics match this and topics.{earlier}, each matches more; write the common ones apart"
            else:
                continue
            found.append(_problem(("topics", later, "topic"), topics[later].topic, what))
            break
    return found


def _problem(place: tuple[int | str, ...], given: object, what: str) -> InitErrorDetails:
    error = PydanticCustomError("mqtt_config", "{what}", {"what": what})
    return InitErrorDetails(type=error, loc=place, input=given)
