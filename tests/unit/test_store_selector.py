"""Which series a selector means."""

from __future__ import annotations

import pytest

from ingest_service.stores.selector import Selector, asset_matcher
from ingest_service.stores.series import SeriesIndex
from shopfloor.asset import parse_asset
from shopfloor.signal import SeriesKey


@pytest.mark.parametrize(
    ("glob", "meant", "not_meant"),
    [
        ("acme/hk01", ["acme/hk01", "acme/hk01/a/b/c"], ["acme/hk0", "acme/hk011", "acme"]),
        ("acme/*", ["acme/hk01"], ["acme", "acme/hk01/a", "bcme/hk01"]),
        ("acme/*/moulding", ["acme/hk01/moulding"], ["acme/hk01/moulding/x", "acme/moulding"]),
        ("acme/*/moulding/**", ["acme/hk01/moulding", "acme/dg/moulding/x/y"], ["acme/hk01/pack/x"]),
        ("**", ["acme", "acme/hk01/a/b/c"], []),
        ("**/imm-0?", ["acme/h/a/b/imm-01", "imm-01"], ["acme/imm-011", "acme/imm-01/x"]),
        ("acme/**/imm-*", ["acme/imm-1", "acme/a/b/imm-1"], ["imm-1", "acme/imm-1/x"]),
        ("acme/h[k]*", [], ["acme/hk01"]),
        ("acme/**/**", ["acme", "acme/a", "acme/a/b/c"], ["acme2"]),
        ("**/a*/**/b", ["a/b", "x/ab/y/b", "a/a/b/b"], ["a", "b/a", "a/b/x", "a/xb"]),
        ("**/a/*b/**/c", ["a/b/c", "a/x/a/xb/c"], ["a/b", "a/x/b/c", "a/b/cx"]),
        ("*a*b*", ["ab", "xaxbx", "aab"], ["ba", "a/b"]),
    ],
)
def test_globs_over_asset_paths(glob: str, meant: list[str], not_meant: list[str]) -> None:
    matches = asset_matcher(glob)
    assert [one for one in meant if not matches(one)] == []
    assert [one for one in not_meant if matches(one)] == []


@pytest.mark.parametrize(
    "glob", ["*a" * 31 + "b", "**/*a" * 40 + "/b", "**/" * 300 + "b", "**/*a*a*a*a*a*a*a*ab"]
)
def test_no_glob_keeps_a_processor_busy(glob: str) -> None:
    # With backtracking each of them takes longer than anybody waits.
    assert not asset_matcher(glob)("/".join(["a" * 63] * 8))


def test_a_glob_never_leaves_what_the_reader_may_see() -> None:
    selector = Selector(("**",), (), "acme/hk01")
    assert selector.matches(SeriesKey(parse_asset("acme/hk01/a"), "x"))
    assert not selector.matches(SeriesKey(parse_asset("acme/dg01/a"), "x"))


def test_the_index_answers_by_asset_and_signal_and_learns_new_series() -> None:
    index = SeriesIndex()
    keys = [SeriesKey(parse_asset(f"acme/{site}"), signal) for site in "cab" for signal in ("y", "x")]
    index.restore(keys[:4])
    assert [one.key for one in index.select(Selector())] == sorted(keys[:4])
    index.restore(keys[4:])
    assert [one.key for one in index.select(Selector())] == sorted(keys)
    assert [one.id for one in index.select(Selector(("acme/b",)))] == [6, 5]
