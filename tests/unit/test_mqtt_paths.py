"""Where a value lies: plain paths, JMESPath, and all values of nested objects."""

from __future__ import annotations

import math
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sources.mqtt import paths
from edge_agent.sources.mqtt.paths import MISSING, UNFIT, finder, leaves, query

GATEWAY = {"values": [{"id": "T1", "v": 21.5}, {"id": "T2", "v": None}], "em:0": {"act_power": 110}, "n": 3}


def test_paths() -> None:
    payload = {"a": {"b": [1, {"c": 2}]}, "x.y": 3, "em:0": 4, "5": 6}
    assert finder("")(payload) is payload
    assert finder("em:0")(payload) == 4
    assert finder("a.b.1.c")(payload) == 2
    assert finder("x.y")(payload) == 3
    assert finder("5")(payload) == 6
    assert finder("")(21.5) == 21.5
    for path in (
        "nothing",
        "a.b.2",
        "a.b.-1",
        "a.b.c",
        "a.x.y",
        "em:0.x",
        "a.b.99999999999999999999",
        "a.b.²",
    ):
        assert finder(path)(payload) is MISSING
    assert finder("a")(21.5) is MISSING


def test_leaves_are_all_values_outside_of_lists() -> None:
    payload = {"a": 1, "b": {"c": "x", "d": {"e": None}}, "f": [1, 2], "g": True}
    assert list(leaves(payload)) == [("a", 1), ("b.c", "x"), ("b.d.e", None), ("g", True)]
    assert list(leaves([1])) == []


def test_objects_nested_too_deeply_are_leaves() -> None:
    payload: Any = 1
    for _ in range(40):
        payload = {"x": payload}
    ((path, value),) = leaves(payload)
    assert len(path.split(".")) == 33
    assert type(value) is dict


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("n", 3),
        ('"em:0".act_power', 110),
        ("values[0].v", 21.5),
        ("values[-2].id", "T1"),
        ("values[?id=='T1'].v | [0]", 21.5),
        ("max(values[].v)", 21.5),
        ("sum(values[].id)", UNFIT),
        ("length(values)", 2),
        ("values[*].id", ["T1", "T2"]),
        ("@", GATEWAY),
        ("values[1].v", MISSING),
        ("values[2].v", MISSING),
        ("values.v", MISSING),
        ("n[0]", MISSING),
        ("nothing.at.all", MISSING),
        ("values[?id=='T3'].v | [0]", MISSING),
        ("sum(n)", UNFIT),
        ("ceil(n)", 3),
    ],
)
def test_queries(expression: str, found: object) -> None:
    result = query(expression)(GATEWAY)
    assert result is found or (found not in (MISSING, UNFIT) and result == found)


@pytest.mark.parametrize("payload", [math.inf, math.nan, "x", [], {}, None, True, 10**400])
def test_a_query_that_does_not_fit_a_payload_costs_only_itself(payload: Any) -> None:
    assert query("ceil(v)")({"v": payload}) in (UNFIT, 10**400)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("a b", "see character 3"),
        ("a[", "see character 3"),
        ("a.", "see character 3"),
        ("^", "see character 1"),
        ("maximum(a)", r"no function maximum\(\)"),
        ("a[?length(b, c) > `1`]", r"length\(\) takes 1 arguments, not 2"),
        ("", "not a JMESPath expression"),
    ],
)
def test_what_is_no_query(expression: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        query(expression)
    assert "\n" not in str(caught.value)


_JSON = st.recursive(
    st.none() | st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
)
_STEPS = st.lists(st.sampled_from([".a", ".b", "[0]", "[1]", "[-1]"]), max_size=3)


@given(_JSON, _STEPS)
def test_expressions_of_keys_and_indices_find_what_jmespath_finds_without_it(
    payload: Any, steps: list[str]
) -> None:
    expression = "a" + "".join(steps)
    assert paths._plain_steps(jmespath.compile(expression).parsed) is not None
    expected = jmespath.search(expression, payload)
    found = query(expression)(payload)
    assert (found is MISSING) == (expected is None)
    assert expected is None or found == expected
