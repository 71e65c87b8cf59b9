"""Topic templates: what matches, what is subscribed to, how templates lie to each other."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from edge_agent.sources.mqtt.topics import (
    Relation,
    compare,
    compare_filters,
    parse_filter,
    parse_template,
    subscription_filters,
)
from shopfloor.errors import InvalidName


def test_names_stand_for_one_level() -> None:
    template = parse_template("meters/{site}/{cell}")
    assert template.filter == "meters/+/+"
    assert template.match("meters/hk01/c1") == {"site": "hk01", "cell": "c1"}
    assert template.match("meters/hk01") is None
    assert template.match("meters/hk01/c1/x") is None
    assert template.match("METERS/hk01/c1") is None


def test_empty_levels_are_levels() -> None:
    assert parse_template("/{x}/").match("/a/") == {"x": "a"}
    assert parse_template("/{x}/").match("//") == {"x": ""}


def test_a_leading_name_does_not_take_topics_of_the_broker() -> None:
    assert parse_template("{a}/uptime").match("$SYS/uptime") is None
    assert parse_template("$SYS/{a}").match("$SYS/uptime") == {"a": "uptime"}


@pytest.mark.parametrize(
    "text", ["a/+", "a/#", "a/{X}", "a/{}", "{a}/{a}", "x{a}", "a}", "a\0", "$share/g/t"]
)
def test_what_is_no_template(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_template(text)


_LEVELS = st.sampled_from(["a", "b", "{x}"])


def _template(levels: list[str]) -> str:
    return "/".join(level if level != "{x}" else f"{{x{number}}}" for number, level in enumerate(levels))


_TOPICS = ["/".join(levels) for n in (1, 2, 3) for levels in itertools.product("abc", repeat=n)]


@given(st.lists(_LEVELS, min_size=1, max_size=3), st.lists(_LEVELS, min_size=1, max_size=3))
def test_relations_are_those_of_the_sets_of_topics(first: list[str], second: list[str]) -> None:
    one, other = parse_template(_template(first)), parse_template(_template(second))
    left = {topic for topic in _TOPICS if topic_matches_sub(one.filter, topic)}
    right = {topic for topic in _TOPICS if topic_matches_sub(other.filter, topic)}
    assert left == {topic for topic in _TOPICS if one.match(topic) is not None}
    if left == right:
        expected = Relation.SAME
    elif left > right:
        expected = Relation.WIDER
    elif left < right:
        expected = Relation.NARROWER
    else:
        expected = Relation.CROSSING if left & right else Relation.APART
    assert compare(one, other) is expected


def test_covered_filters_are_not_subscribed_to() -> None:
    texts = ["meters/total", "meters/{x}", "tele/{x}/STATE", "meters/{y}"]
    assert subscription_filters([parse_template(text) for text in texts]) == ("meters/+", "tele/+/STATE")


_FILTERS = [
    "/".join(levels)
    for n in (1, 2, 3)
    for levels in itertools.product(["a", "b", "+", "#"], repeat=n)
    if "#" not in levels[:-1]
]
# Long enough that no two different filters take the same of these: what follows a # may be one level longer.
_LONGER = ["/".join(levels) for n in (1, 2, 3, 4) for levels in itertools.product("abc", repeat=n)]


@given(st.sampled_from(_FILTERS), st.sampled_from(_FILTERS))
def test_relations_of_filters_are_those_of_the_sets_of_topics(first: str, second: str) -> None:
    left = {topic for topic in _LONGER if topic_matches_sub(first, topic)}
    right = {topic for topic in _LONGER if topic_matches_sub(second, topic)}
    found = compare_filters(first, second)
    if left == right:
        # "+/#" and "#" are the same to us only where they are written alike.
        assert found is Relation.SAME or "#" in {first, second}
    elif left > right:
        assert found is Relation.WIDER
    elif left < right:
        assert found is Relation.NARROWER
    else:
        assert found is (Relation.CROSSING if left & right else Relation.APART)


@pytest.mark.parametrize(
    ("first", "second", "relation"),
    [
        ("#", "$SYS/x", Relation.APART),
        ("+/x", "$SYS/x", Relation.APART),
        ("$SYS/#", "$SYS/x", Relation.WIDER),
        ("a/#", "a", Relation.WIDER),
        ("a/+", "a", Relation.APART),
    ],
)
def test_filters_of_the_broker_and_of_parents(first: str, second: str, relation: Relation) -> None:
    assert compare_filters(first, second) is relation


@pytest.mark.parametrize("text", ["a/b", "+", "#", "a/+/b", "a/#", "/", "a//b"])
def test_what_is_a_filter(text: str) -> None:
    assert parse_filter(text) == text
