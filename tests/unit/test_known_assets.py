"""The assets that a source speaks for, as it comes to know them."""

from __future__ import annotations

from edge_agent.sources.known_assets import KnownAssets, common_ancestor
from shopfloor.asset import parse_asset
from shopfloor.signal import SeriesKey


def declared(*assets: str) -> dict[SeriesKey, None]:
    return {SeriesKey(parse_asset(asset), f"s{number}"): None for number, asset in enumerate(assets)}


def test_what_is_new_is_saved_and_known_after_a_restart() -> None:
    known = KnownAssets(["acme/hk01/a"])
    saved = known.learn(declared("acme/hk01/a", "acme/hk01/b"))
    assert saved == {"assets": b"acme/hk01/a\nacme/hk01/b"}
    assert known.learn(declared("acme/hk01/a", "acme/hk01/b")) == {}
    assert known.learn(declared("acme/hk01/a", "acme/hk01/b", "acme/hk01/b")) == {}, "a series, but no asset"
    later = KnownAssets([])
    later.restore(saved)
    assert list(later) == ["acme/hk01/a", "acme/hk01/b"]


def test_nothing_saved_is_nothing_known() -> None:
    known = KnownAssets([])
    known.restore({})
    assert list(known) == []


def test_a_flood_of_assets_is_bounded() -> None:
    known = KnownAssets([])
    known.learn(declared(*(f"acme/hk01/a{number}" for number in range(3_000))))
    assert len(list(known)) == 2_000


def test_the_common_ancestor_is_the_deepest_that_holds_all() -> None:
    assert common_ancestor([]) == ""
    assert common_ancestor(["acme/hk01/a/b", "acme/hk01/a/c"]) == "acme/hk01/a"
    assert common_ancestor(["acme/hk01", "other/hk01"]) == ""
