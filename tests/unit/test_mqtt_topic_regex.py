"""Regular expressions over topics: the same matches as Python's own, in a time that no topic can drag out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sources.mqtt.topic_regex import MAX_TOPIC, TopicPattern, parse_pattern
from shopfloor.errors import InvalidName


def pattern(text: str, *filters: str) -> TopicPattern:
    return parse_pattern(text, filters or ("#",))


def test_named_groups_may_hold_several_levels() -> None:
    made = pattern(r"plant/(?P<place>\w+(?:/\w+)*)/_(?P<kind>state|data)(?:/(?P<tag>.+))?", "plant/#")
    assert made.names == ("place", "kind", "tag")
    assert made.filters == ("plant/#",)
    assert made.match("plant/a/b/_data/x/y") == {"place": "a/b", "kind": "data", "tag": "x/y"}
    assert made.match("plant/a/_state") == {"place": "a", "kind": "state", "tag": ""}
    assert made.match("plant/a/_stat") is None
    assert made.match("xplant/a/_state") is None


def test_topics_of_the_broker_need_a_subscription_of_theirs() -> None:
    assert pattern("(?P<a>.*)/uptime").match("$SYS/uptime") is None
    assert pattern("(?P<a>.*)/uptime", "$SYS/#").match("$SYS/uptime") == {"a": "$SYS"}


def test_anchors_around_the_whole_change_nothing() -> None:
    assert pattern("^a(?P<x>b*)$").match("abb") == {"x": "bb"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a(", "not a regular expression: missing .* at character 2"),
        ("a[b", "not a regular expression: unterminated character set at character 2"),
        ("*", "not a regular expression: nothing to repeat at character 1"),
        ("(?P<a>x)(?P<a>y)", "redefinition"),
        (r"(?P<a>x)\1", r"character 9 of the expression: \\1 is not supported"),
        ("(?P<a>x)(?P=a)", r"character 9 of the expression: of groups only"),
        ("a(?=b)", "character 2 of the expression: of groups only"),
        ("(?i)a", "character 1 of the expression: of groups only"),
        (r"a\bb", r"character 2 of the expression: \\b is not supported"),
        ("a^b", r"character 2 of the expression: \^ inside"),
        ("a$b", r"character 2 of the expression: \$ inside"),
        ("a++", "character 1 of the expression: possessive"),
        ("(?P<Big>x)", "a name is a-z, 0-9 and _"),
        ("(a*)*", "character 1 of the expression: what is repeated here may be empty"),
        ("(a|b*){2,}", "may be empty"),
        ("a{600}", "too large"),
        ("((a{20}){20}){20}", "too large"),
        ("(?P<a>x){0}", "a named group that is never there"),
        ("[[a]", "ambiguous"),
        ("(" * 400 + ")" * 400, "nested too deeply"),
        ("(?:" * 2_000 + ")" * 2_000, "nested too deeply"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidName, match=why):
        pattern(text)


@pytest.mark.parametrize("text", ["a/#/b", "a+/b", "a/b#", "", "$share/g/a", "a\0"])
def test_what_is_no_subscription(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_pattern("a", (text,))


@pytest.mark.parametrize(
    "text", ["(a|aa)+b", "(a|a)*b", ".*.*.*.*.*b", "(?:a+)+b", "([ab]|[ac])+d", "a*a*a*a*a*a*b"]
)
def test_expressions_that_keep_pythons_own_engine_busy_for_ever_end_at_once(text: str) -> None:
    # Python's takes time that grows as the square of the length and worse, for most of these as 2 to its power.
    made = pattern(text)
    assert made.match("a" * MAX_TOPIC) is None
    assert len(made._tests) < 40


def test_very_long_topics_do_not_match() -> None:
    made = pattern("a+")
    assert made.match("a" * MAX_TOPIC) == {}
    assert made.match("a" * (MAX_TOPIC + 1)) is None


_ATOMS = st.sampled_from(
    ["a", "b", "/", ".", "[ab]", "[^a/]", r"\w", r"\.", r"\d", "[]a]", "[a-c_]", "{", "}", "a{", "]"]
)
_QUANTIFIERS = st.sampled_from(
    ["", "", "", "*", "+", "?", "{2}", "{1,3}", "{,2}", "{2,}", "*?", "+?", "??", "{1,2}?"]
)


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("".join, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: f"(?:{'|'.join(parts)})", st.lists(inner, min_size=1, max_size=3)),
        st.builds("(?P<NAME>{})".format, inner),
        st.builds("({}){}".format, inner, _QUANTIFIERS),
        st.builds("(?P<NAME>{}){}".format, inner, st.sampled_from(["", "+", "{2}", "*", "?"])),
    )


_PATTERNS = st.recursive(st.builds("{}{}".format, _ATOMS, _QUANTIFIERS), _compound, max_leaves=6)


@given(_PATTERNS, st.lists(st.text("abc/._1{}]", max_size=8), min_size=1, max_size=5))
def test_matches_are_those_of_pythons_own_engine(text: str, topics: list[str]) -> None:
    number = iter(range(100))
    text = re.sub("NAME", lambda _: f"n{next(number)}", text)
    try:
        made = pattern(text)
    except InvalidName as error:
        why = str(error)
    else:
        why = ""
    if why:
        # Python takes nearly all of these; what is refused here is refused for its own reason.
        assert re.search("may be empty|not a regular|ambiguous", why), why
        return
    for topic in topics:
        expected = re.fullmatch(text, topic)
        found = made.match(topic)
        assert (found is None) == (expected is None), topic
        if expected is not None:
            assert found == {name: part or "" for name, part in expected.groupdict().items()}, topic
