"""The quick reader of plain YAML: it reads as PyYAML does, or says that it can't."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shopfloor import plainyaml
from shopfloor.plainyaml import Unusual

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | st.dates()
)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(documents, st.booleans())
def test_what_pyyaml_writes_is_read_as_pyyaml_reads_it(document: Any, flow: bool) -> None:
    text = yaml.safe_dump(document, default_flow_style=flow, allow_unicode=True)
    assert plainyaml.read(text) == yaml.safe_load(text)


@given(st.text(max_size=60))
def test_any_text_is_read_as_pyyaml_reads_it_or_unusual(text: str) -> None:
    try:
        found = plainyaml.read(text)
    except Unusual:
        return
    assert found == yaml.safe_load(text) or (isinstance(found, float) and math.isnan(found))


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1\nb: *x",
        "base: &b {c: 1}\na: {<<: *b}",
        "a: !!str 1",
        "a: !thing {b: 1}",
        "a: 1\na: 2",
        "? [a, b]\n: 1",
        "a: [1",
        "--- 1\n--- 2",
        "a: 2026-13-45",
        "true: 1",
        "[" * 200 + "]" * 200,
    ],
)
def test_what_is_special_or_wrong_is_left_to_others(text: str) -> None:
    with pytest.raises(Unusual):
        plainyaml.read(text)


def test_nothing_is_none() -> None:
    assert plainyaml.read("# nothing\n") is None
