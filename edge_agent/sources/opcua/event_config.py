"""What a user writes about the events and alarms of one OPC UA server."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from edge_agent.sources.opcua.address import NodeAddress, Step, parse_address
from shopfloor.configfile import Asset, ConfigModel, Signal
from shopfloor.errors import InvalidName

SERVER: Final = "i=2253"
"""The Server object: where a server reports everything, unless it says otherwise (Part 5 §6.3.3)."""
BASE_EVENT_TYPE: Final = "i=2041"
_NAMED: Final = re.compile(r"(?:nsu=(?P<uri>[^;]+);|(?P<index>[0-9]{1,5}):)?(?P<name>[^;=/]+)", re.DOTALL)


class EventTypeName(NamedTuple):
    """An event type: by its NodeId, or by its browse name among the subtypes of BaseEventType."""

    address: NodeAddress | None
    name: Step | None


def parse_event_type(text: str) -> EventTypeName:
    """Return what ``text`` names: ``nsu=URI;i=1038``, ``i=2041``, or ``nsu=URI;CycleParametersEventType``, ``3:Name``.

    Raises:
        InvalidName: it is none of them.
    """
    try:
        address = parse_address(text)
    except InvalidName:
        match = _NAMED.fullmatch(text)
        if match is None:
            raise InvalidName(
                f"{text[:200]!r} is neither a NodeId (nsu=URI;i=…) nor a browse name (nsu=URI;Name, 3:Name)"
            ) from None
        namespace = match["uri"] or (None if match["index"] is None else int(match["index"]))
        return EventTypeName(None, Step(match["name"], namespace))
    if not address.identifier:
        raise InvalidName(f"{text[:200]!r} is a path: name an event type by its NodeId or browse name")
    return EventTypeName(address, None)


def parse_field(text: str) -> tuple[Step, ...]:
    """Return the steps from an event to one of its fields; raises InvalidName.

    ``CycleTime``, ``3:JobInformation/3:JobName``, ``nsu=URI;Name``: a step without a namespace matches in any.
    """
    if text.startswith("/"):
        raise InvalidName(f"{text[:200]!r}: a field's path begins at the event itself, without /")
    return parse_address(f"/{text}").path


class EventField(ConfigModel):
    """One field of an event and the series that it becomes."""

    signal: Signal
    """Signal name within the asset."""
    unit: Annotated[str, Field(max_length=100)] = ""
    """Unit of the value after scaling, UCUM such as ``s`` or ``bar``; default none."""
    description: Annotated[str, Field(max_length=1000)] = ""
    """For people; default none."""
    scale: float = 1.0
    """The value is raw x scale + offset; default 1."""
    offset: float = 0.0
    """See ``scale``; default 0."""


class NotifierConfig(ConfigModel):
    """Where events are listened for."""

    notifier: str = SERVER
    """The object whose events are wanted, as an address like that of a node; default the Server object, which reports
    everything. On a server of several machines, the machine."""
    asset: Asset
    """Asset path that what is reported belongs to."""
    queue_size: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """Events that the server keeps between two publishings; default 1000."""

    @field_validator("notifier")
    @classmethod
    def _check_notifier(cls, text: str) -> str:
        try:
            parse_address(text)
        except InvalidName as error:
            raise PydanticCustomError("opcua_node", "{reason}", {"reason": str(error)}) from error
        return text

    @property
    def address(self) -> NodeAddress:
        """The parsed ``notifier``."""
        return parse_address(self.notifier)


class EventConfig(NotifierConfig):
    """Events of one type, whose fields become samples at the event's own Time."""

    type: str = BASE_EVENT_TYPE
    """The event type, its subtypes included: a NodeId such as ``nsu=urn:x;i=1038`` or a browse name such as
    ``nsu=urn:x;CycleParametersEventType``; default BaseEventType, which is every event."""
    prefix: Signal = "event"
    """What the signals of ``fields: all`` begin with; default ``event``."""
    fields: Literal["all"] | dict[str, Signal | EventField] = "all"
    """Fields by their path from the event, and the signals that they become: ``CycleTime: cycle.time`` or
    ``3:JobInformation/3:JobName: {signal: job.name}``; steps without a namespace match in any. ``all`` (default) takes
    what the type and its subtypes declare, nested objects included, named after their paths."""
    max_fields: Annotated[int, Field(ge=1, le=2_000)] = 200
    """Fields that ``all`` takes at most; default 200."""

    @field_validator("type")
    @classmethod
    def _check_type(cls, text: str) -> str:
        try:
            parse_event_type(text)
        except InvalidName as error:
            raise PydanticCustomError("event_type", "{reason}", {"reason": str(error)}) from error
        return text

    @model_validator(mode="after")
    def _check_fields(self) -> EventConfig:
        problems = []
        for path in self.named:
            try:
                parse_field(path)
            except InvalidName as error:
                problems.append(str(error))
        if self.fields != "all" and not self.fields:
            problems.append("fields: none are named; leave the option out for all of them")
        if problems:
            raise PydanticCustomError("event_field", "{reason}", {"reason": "; ".join(problems[:20])})
        return self

    @property
    def named(self) -> dict[str, EventField]:
        """The configured fields by path; empty for ``all``."""
        if self.fields == "all":
            return {}
        return {
            path: EventField(signal=field) if isinstance(field, str) else field
            for path, field in self.fields.items()
        }

    @property
    def label(self) -> str:
        """How messages name this."""
        return f"events of {self.notifier} ({self.type})"


class AlarmConfig(NotifierConfig):
    """Alarms and other conditions (Part 9), each as a few signals named after it."""

    prefix: Signal = "alarm"
    """What the signals begin with; default ``alarm``: ``alarm.<condition>`` is the message while the condition is
    active and empty text once it is not; ``….severity``, ``….active`` and ``….acknowledged`` are numbers."""
    max_conditions: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Conditions that become signals, at most; default 500. More are counted as ``alarm_not_taken``."""

    @property
    def label(self) -> str:
        """How messages name this."""
        return f"alarms of {self.notifier}"
