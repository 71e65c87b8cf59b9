"""What a user writes about an MQTT broker and the messages that machines publish there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from edge_agent.sources.mqtt.broker import BrokerConfig, problem
from edge_agent.sources.mqtt.message_config import SignalConfig
from edge_agent.sources.mqtt.presets import UnusablePreset, expand
from edge_agent.sources.mqtt.topic_config import AssetTemplate, TopicConfig, TopicForm, all_or_some
from edge_agent.sources.mqtt.topic_regex import TopicPattern
from edge_agent.sources.mqtt.topics import Relation, TopicTemplate, compare, compare_filters

_MAX_TOPICS: Final = 1_000
_PROBES: Final = ("x", "Ab-1 %", "0" * 40)
"""What stands at a named level while it is tried whether a regular expression takes all topics of a template."""


def _checked_topics(given: tuple[TopicConfig, ...]) -> tuple[TopicConfig, ...]:
    """Return the topics with those of presets in their places; refuses those that never match."""
    topics: list[TopicConfig] = []
    places: list[tuple[int | str, ...]] = []
    wrong: list[InitErrorDetails] = []
    for number, each in enumerate(given):
        try:
            made = expand(each) if each.preset else (each,)
        except UnusablePreset as error:
            wrong.append(problem((number, "preset"), each.preset, str(error)))
            continue
        topics += made
        places += [(number, "preset" if each.preset else each.where)] * len(made)
    if not given:
        wrong.append(problem((), None, "give at least one topic"))
    if len(topics) > _MAX_TOPICS:
        wrong.append(problem((), None, f"{len(topics)} topics with those of presets, at most {_MAX_TOPICS}"))
        raise ValidationError.from_exception_data("MqttConfig", wrong)
    for later, earlier, what in _clashes([each.form for each in topics]):
        label = topics[later].label
        named = f"{label}: " if places[later][-1] == "preset" else ""
        text = named + what.format(what="topics", earlier=f"topics.{places[earlier][0]}")
        wrong.append(problem(places[later], label, text))
    if wrong:
        raise ValidationError.from_exception_data("MqttConfig", wrong)
    return tuple(topics)


class MqttConfig(BrokerConfig):
    """One MQTT broker and what the agent takes from it."""

    session_expiry_s: int = Field(default=7 * 86_400, ge=60, le=2**32 - 1)
    """MQTT 5: for how many seconds of absence the broker keeps messages for the agent. Default: 604800 (a week)."""
    qos: Literal[0, 1] = 1
    """Quality of service asked for; with 0 the broker drops what it can't deliver at once. Default: 1."""
    topics: Annotated[tuple[TopicConfig, ...], Field(max_length=500), AfterValidator(_checked_topics)]
    """What to take, and what it means."""

    @property
    def kept_session_s(self) -> int:
        """See `BrokerConfig.kept_session_s`."""
        return self.session_expiry_s

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        wrong = self.problems_of_reach()
        if wrong:
            raise ValidationError.from_exception_data("MqttConfig", wrong)
        return self


def clashes(templates: Sequence[tuple[str, TopicTemplate]], where: str, key: str) -> list[InitErrorDetails]:
    """Return a mistake for each template of a list that an earlier one hides or crosses; the first match counts."""
    return [
        problem(
            (where, later, key), templates[later][0], what.format(what=where, earlier=f"{where}.{earlier}")
        )
        for later, earlier, what in _clashes([template for _, template in templates])
    ]


def _clashes(forms: Sequence[TopicForm]) -> list[tuple[int, int, str]]:
    """Return (the later one, the earlier one, what is wrong, to be formatted) for each form that an earlier one hides or crosses."""
    found: list[tuple[int, int, str]] = []
    for later, form in enumerate(forms):
        for earlier in range(later):
            what = _clash(forms[earlier], form)
            if what:
                found.append((later, earlier, what))
                break
    return found


def _clash(first: TopicForm, second: TopicForm) -> str:
    if isinstance(first, TopicTemplate) and isinstance(second, TopicTemplate):
        relation = compare(first, second)
        if relation is Relation.CROSSING:
            return "some {what} match this and {earlier}, each matches more; write the common ones apart"
    elif isinstance(first, TopicTemplate):
        relations = {compare_filters(first.filter, each) for each in second.filters}
        relation = Relation.WIDER if relations <= {Relation.WIDER, Relation.SAME} else Relation.APART
    elif isinstance(second, TopicTemplate):
        hidden = all(first.match(_topic_of(second, probe)) is not None for probe in _PROBES)
        relation = Relation.WIDER if hidden else Relation.APART
    else:
        relation = Relation.SAME if first.text == second.text else Relation.APART
    if relation is Relation.SAME:
        return "matches the same {what} as {earlier}"
    if relation is Relation.WIDER:
        return "never matches: {earlier} takes all of it before; put this one first"
    return _crossing_subscriptions(first, second)


def _crossing_subscriptions(first: TopicForm, second: TopicForm) -> str:
    """Say which subscriptions would bring a message twice; those that one entry names together are its own business."""
    if isinstance(first, TopicTemplate) and isinstance(second, TopicTemplate):
        return ""
    for one in first.filters:
        for other in second.filters:
            together = one in second.filters and other in first.filters
            if not together and compare_filters(one, other) is Relation.CROSSING:
                both = f"{one} and {other}".replace("{", "{{").replace("}", "}}")
                return f"subscriptions {both} overlap, of {{earlier}} and of this, and bring messages twice; let one cover the other"
    return ""


def _topic_of(template: TopicTemplate, text: str) -> str:
    return "/".join(text if level is None else level for level in template.levels)


__all__ = [
    "AssetTemplate",
    "MqttConfig",
    "SignalConfig",
    "TopicConfig",
    "TopicPattern",
    "all_or_some",
    "clashes",
]
