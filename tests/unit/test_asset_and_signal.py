import pytest

from shopfloor.asset import AssetPath, parse_asset
from shopfloor.errors import InvalidName
from shopfloor.signal import parse_signal


def test_a_path_knows_its_levels() -> None:
    path = AssetPath("acme/hk01/moulding/cell-a/imm-01")
    assert path.segments == ("acme", "hk01", "moulding", "cell-a", "imm-01")
    assert path.name == "imm-01"
    assert path.site == "acme/hk01"
    assert path.ancestor(6) is None
    assert AssetPath("acme").site is None


def test_a_path_contains_itself_and_what_lies_below_but_not_a_longer_name() -> None:
    site = AssetPath("acme/hk01")
    assert site.contains("acme/hk01")
    assert site.contains("acme/hk01/moulding")
    assert not site.contains("acme/hk011")
    assert not site.contains("acme")


@pytest.mark.parametrize(
    "text",
    ["", "/", "acme/", "/acme", "acme//a", "Acme", "acme/hk 01", "acme/-a", "a/b/c/d/e/f", "acme/..", "a" * 64, "acme\n",
     "acme/ä", "acme/a\0b"],
)  # fmt: skip
def test_what_is_no_path_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_asset(text)


@pytest.mark.parametrize("text", ["status.mode", "a", "barrel.zone_1.temperature", "9.z"])
def test_signal_names(text: str) -> None:
    assert parse_signal(text) == text


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "A", "a-b", "a b", "a\n", ".".join("a" * 9), "_a"]
)
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_signal(text)
