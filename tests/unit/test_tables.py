"""Tables of commands: aligned, no wider than asked where a column gives way, never a space at a line's end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.tables import cut, size_text, table

CELLS = st.text(st.characters(codec="ascii", min_codepoint=33), max_size=60)


def test_columns_stand_below_their_titles_numbers_to_the_right() -> None:
    assert table(("name", "size", "oldest"), [("a", "1", "-"), ("bcdef", "1,000", "x")], right=(1,)) == [
        "name    size  oldest",
        "a          1  -",
        "bcdef  1,000  x",
    ]


def test_the_column_that_gives_way_keeps_the_ends_of_its_cells() -> None:
    lines = table(("node", "state"), [("acme/hk01/moulding/imm-01:barrel", "Good")], giving=0, width=21)
    assert lines[1] == "…imm-01:barrel  Good"


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=8), st.integers(0, 2), st.integers(20, 200))
def test_no_line_is_wider_than_the_others_need(
    rows: list[tuple[str, str, str]], giving: int, width: int
) -> None:
    lines = table(("a", "b", "c"), rows, giving=giving, width=width)
    others = sum(
        max(len(row[column]) for row in [("a", "b", "c"), *rows]) for column in range(3) if column != giving
    )
    assert len(lines) == len(rows) + 1
    assert max(map(len, lines)) <= max(width, others + 4 + 12)
    assert all(line == line.rstrip() for line in lines)


def test_a_cell_with_a_line_end_stays_one_line() -> None:
    assert table(("a",), [("x\ny",)]) == ["a", "x y"]


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (3.2e12, "3200.0 GB")],
)
def test_sizes(size: float, shown: str) -> None:
    assert size_text(size) == shown


def test_what_is_cut_says_so() -> None:
    assert (cut("abcdef", 4), cut("abcdef", 4, end=False), cut("abcd", 4)) == ("abc…", "…def", "abcd")
