"""What docs/specs/behaviours.md promises is held by tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "specs" / "behaviours.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[^`]+\.py)::([^`]+)`", TABLE)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_exists(path: str, name: str) -> None:
    found: ast.AST = ast.parse((ROOT / path).read_text())
    for part in name.split("::"):
        named = [each for each in ast.iter_child_nodes(found) if getattr(each, "name", "") == part]
        assert named, f"{path} has no {part}"
        found = named[0]


def test_each_of_the_fifteen_situations_has_one() -> None:
    rows = [line for line in TABLE.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, 16))
    assert all("::" in row for row in rows)
