"""Rules make assets and signals of measurements, tags and fields; what none places is kept as it was said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ingest_service.line_protocol.config import LineProtocolConfig, MappingConfig, RuleConfig
from ingest_service.line_protocol.lines import read_key
from ingest_service.line_protocol.mapping import LineMapping, Unplaceable, tidy_asset_name, tidy_signal_name
from ingest_service.line_protocol.placing import Places
from ingest_service.line_protocol.points import TooManySamples, read_slowly
from ingest_service.line_protocol.samples import Built, build, quality_of
from shopfloor.block import (
    STATUS_CLOCK_AHEAD,
    STATUS_NO_SOURCE_TIME,
    STATUS_NOT_A_NUMBER,
    STATUS_NOT_CONVERTIBLE,
    Quality,
    problems,
)
from shopfloor.configfile import parse
from shopfloor.errors import ConfigError

NOW = 1_760_000_000_000_000_000


def rule(**options: Any) -> MappingConfig:
    return MappingConfig.model_validate({"rules": [{"asset": "acme/{site}/{line}/{tag:machine}", **options}]})


def made(body: str, mapping: MappingConfig | None = None, asset: str = "acme") -> Built:
    raw = body.encode()
    places = Places(LineMapping(mapping or MappingConfig()), asset)
    built = build(read_slowly(raw, 1, 10_000), raw, places, NOW)
    assert problems(built.block) == []
    return built


def shown(built: Built) -> list[tuple[Any, ...]]:
    """Return what is to be stored: series, time, value or text, quality, status."""
    rows = enumerate(built.block.rows())
    refused = set(built.refused.rows.tolist())
    return [
        (
            str(one.series),
            one.source_time - NOW,
            one.value if one.text is None else one.text,
            one.quality,
            one.status,
        )
        for row, one in rows
        if row not in refused
    ]


def refused(built: Built) -> list[tuple[str, str | None]]:
    samples = list(built.block.rows())
    return [
        (built.refused.reasons[reason], samples[row].text)
        for row, reason in zip(built.refused.rows.tolist(), built.refused.reason_index.tolist(), strict=True)
    ]


OWN = "sample,enterprise=acme,site=hk01,area=a,line=l,cell=imm-01,signal=s"
SERIES = "acme/hk01/a/l/imm-01:s"


@pytest.mark.parametrize(
    ("fields", "sample"),
    [
        ("value=1.5", (1.5, Quality.GOOD, 0)),
        ("value=1.5,quality=1i,status=1073741824i", (1.5, Quality.UNCERTAIN, 0x4000_0000)),
        ("value=1.5,status=2147483648i", (1.5, Quality.BAD, 0x8000_0000)),
        ("value=1.5,quality=7i", (1.5, Quality.BAD, 0)),
        ('value=0,text="on",quality=0i', ("on", Quality.GOOD, 0)),
        ("value=true", (1.0, Quality.GOOD, 0)),
    ],
)
def test_our_own_layout(fields: str, sample: tuple[Any, ...]) -> None:
    assert shown(made(f"{OWN} {fields} {NOW}")) == [(SERIES, 0, *sample)]


def test_null_and_what_is_no_number() -> None:
    ((_, _, value, quality, status),) = shown(made(f"{OWN} quality=2i,status=0i {NOW}"))
    assert (np.isnan(value), quality, status) == (True, Quality.BAD, 0)
    ((_, _, value, quality, status),) = shown(made(f"{OWN} value=NaN {NOW}"))
    assert (np.isnan(value), quality, status) == (True, Quality.BAD, STATUS_NOT_A_NUMBER)


def test_clocks() -> None:
    body = f"{OWN} value=1\n{OWN} value=2 {NOW + 61 * 10**9}\n{OWN} value=3 {NOW + 59 * 10**9}\n"
    assert shown(made(body)) == [
        (SERIES, 0, 1.0, Quality.GOOD, STATUS_NO_SOURCE_TIME),
        (SERIES, 61 * 10**9, 2.0, Quality.UNCERTAIN, STATUS_CLOCK_AHEAD),
        (SERIES, 59 * 10**9, 3.0, Quality.GOOD, 0),
    ]


def test_a_shorter_asset_path_in_our_own_layout() -> None:
    assert shown(made(f"sample,enterprise=acme,site=hk01,signal=s value=1 {NOW}"))[0][0] == "acme/hk01:s"


def test_each_field_is_a_signal() -> None:
    mapping = rule(measurement="m*", exclude=("x*",), fields=("*_a", "b"), quality="q")
    body = f"mould,site=s,line=l,machine=m B_a=1,b=2,c=3,x_a=4,q=1i {NOW}\nother,site=s f=1 {NOW}"
    built = made(body, mapping)
    assert shown(built) == [
        ("acme/s/l/m:mould.b_a", 0, 1.0, Quality.UNCERTAIN, 0),
        ("acme/s/l/m:mould.b", 0, 2.0, Quality.UNCERTAIN, 0),
    ]
    assert refused(built) == [("line_unmapped", f"other,site=s f=1 {NOW}")]


def test_rules_are_tried_in_order_and_by_their_tags() -> None:
    mapping = MappingConfig(
        rules=(
            RuleConfig(measurement="m", tags={"kind": "press*"}, asset="acme/press"),
            RuleConfig(measurement="m", tags={"kind": "*"}, discard=True),
            RuleConfig(measurement="m", asset="acme/other", signal="{field}"),
        )
    )
    body = "m,kind=press-1 f=1\nm,kind=pump f=2\nm f=3\n"
    assert [(one[0], one[2]) for one in shown(made(body, mapping))] == [
        ("acme/press:m.f", 1.0),
        ("acme/other:f", 3.0),
    ]


def test_what_a_rule_cannot_place_is_kept_as_it_was_said() -> None:
    built = made(f'm,site=s,line=l f=1,g="x y" {NOW}\nrubbish\nm,site=s,line=l,machine=ok f=1 {NOW}', rule())
    assert refused(built) == [
        ("line_unreadable", "rubbish"),
        ("line_unplaceable", f'm,site=s,line=l f=1,g="x y" {NOW}'),
    ]
    assert [one[0] for one in shown(built)] == ["acme/s/l/ok:m.f"]
    last = list(built.block.rows())[-1]
    assert (str(last.series), last.quality, last.status) == (
        "acme:line_protocol",
        Quality.BAD,
        STATUS_NOT_CONVERTIBLE,
    )


def test_a_field_without_a_name_is_kept_as_a_line_of_its_own() -> None:
    built = made(f'm,site=s,line=l,machine=m f=1,!="a \\"b\\"",?=2.5 {NOW}', rule(signal="{field}"))
    assert refused(built) == [
        ("line_unplaceable", f'm,site=s,line=l,machine=m !="a \\"b\\"" {NOW}'),
        ("line_unplaceable", f"m,site=s,line=l,machine=m ?=2.5 {NOW}"),
    ]
    assert len(shown(built)) == 1


def test_series_out_of_reach_are_in_no_table_that_is_shared() -> None:
    raw = b"m,site=a,line=l,machine=m f=1 1\n"
    other = b"m,site=b,line=l,machine=m f=1 1\n"
    places = Places(LineMapping(rule()), "acme/a")

    def of(body: bytes) -> Built:
        return build(read_slowly(body, 1, 100), body, places, NOW)

    first, mixed, again, foreign = of(raw), of(raw + other), of(raw), of(other)
    assert first.block.series is again.block.series
    assert not first.all_foreign
    assert not mixed.all_foreign
    assert foreign.all_foreign
    assert [str(key) for key in mixed.block.series] == ["acme/a/l/m:m.f", "acme/b/l/m:m.f"]


def test_a_body_with_very_many_lines_for_quarantine_is_too_large() -> None:
    body = b"x f=1 1\n" * 20_001
    places = Places(LineMapping(MappingConfig()), "acme")
    with pytest.raises(TooManySamples):
        build(read_slowly(body, 1, 30_000), body, places, NOW)


def test_units_are_told_once() -> None:
    body = b"m,site=a,line=l,machine=m t_temp=1,p=2 1\n"
    places = Places(LineMapping(rule(units={"*_temp": "Cel"})), "acme")
    build(read_slowly(body, 1, 100), body, places, NOW)
    assert {str(key): unit for key, unit in places.undeclared.items()} == {"acme/a/l/m:m.t_temp": "Cel"}


def test_the_text_of_a_line_with_newlines_is_kept_whole() -> None:
    body = f'x f="a\nb",g=1 {NOW}\ny f=1 {NOW}'
    assert refused(made(body)) == [
        ("line_unmapped", f'x f="a\nb",g=1 {NOW}'),
        ("line_unmapped", f"y f=1 {NOW}"),
    ]


@pytest.mark.parametrize(
    ("given", "segment", "signal"),
    [
        ("IMM 01", "imm_01", "imm_01"),
        ("gw-01.local", "gw-01_local", "gw_01.local"),
        ("Barrel.Zone1Temp (C)", "barrel_zone1temp_c_", "barrel.zone1_temp_c"),
        ("../etc/passwd", "etc_passwd", "etc_passwd"),
        ("-_x", "x", "x"),
        ("ü", "", ""),
        ("x" * 80, "x" * 63, "x" * 63),
    ],
)
def test_names_are_made_tidy(given: str, segment: str, signal: str) -> None:
    assert tidy_asset_name(given) == segment
    assert tidy_signal_name(given) == signal


def test_long_signals_keep_eight_levels() -> None:
    mapping = LineMapping(rule(signal="{field}"))
    key = read_key(b"m,site=s,line=l,machine=m")
    found = mapping.rule(key)
    assert found is not None
    assert found.signal(key, "a.b.c.d.e.f.g.h.i.j") == "a.b.c.d.e.f.g.h_i_j"


def test_strict_names_are_not_touched() -> None:
    mapping = LineMapping(rule(names="strict", signal="{field}"))
    key = read_key(b"m,site=S,line=l,machine=m")
    found = mapping.rule(key)
    assert found is not None
    with pytest.raises(Unplaceable, match="site 'S' must be"):
        found.asset(key)
    with pytest.raises(Unplaceable, match="signal 'A' must be"):
        found.signal(key, "A")


@pytest.mark.parametrize(
    ("word", "quality"),
    [
        ("Good", 0),
        ("OK (0x0)", 0),
        ("0", 0),
        ("Uncertain", 1),
        ("1", 1),
        ("Bad", 2),
        ("", 2),
        ("BadNotConnected", 2),
    ],
)
def test_words_of_quality(word: str, quality: int) -> None:
    assert quality_of(word) == quality


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"asset": ""}, "asset is required"),
        ({"asset": "acme/{site"}, "a brace without its counterpart"),
        ({"asset": "acme/{}"}, "unknown placeholder"),
        ({"asset": "acme/{field}"}, "all fields of a line belong to one asset"),
        ({"asset": "/"}, "an asset path is needed"),
        ({"signal": "{tag:}"}, "unknown placeholder"),
    ],
)
def test_rules_that_say_nothing_sensible(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        rule(**options)


def test_the_mapping_may_lie_in_a_file_whose_mistakes_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mapping.yaml"
    file.write_text("rules:\n  - measurement: cpu\n    asset: acme/it\n")
    config = parse("mapping: mapping.yaml\n", LineProtocolConfig, tmp_path / "ingest.yaml")
    assert config.mapping.rules[0].asset == "acme/it"
    file.write_text("rules:\n  - measuremnt: cpu\n    asset: acme/it\n")
    with pytest.raises(
        ConfigError, match=r"mapping\.yaml:2:5: rules\.0\.measuremnt: unknown key, did you mean measurement"
    ):
        parse("mapping: mapping.yaml\n", LineProtocolConfig, tmp_path / "ingest.yaml")
    with pytest.raises(ConfigError, match="nowhere"):
        parse("mapping: nowhere.yaml\n", LineProtocolConfig, tmp_path / "ingest.yaml")


@pytest.mark.parametrize(
    "body", [b"m,h=a " + b"_" * 200_000 + b"=1 1", b"\xff" * 70_000, b"x" + b"\0" * 60_000]
)
def test_a_line_in_quarantine_is_no_longer_than_a_text_may_be(body: bytes) -> None:
    mapping = MappingConfig.model_validate({"rules": [{"measurement": "m", "asset": "acme/{h}"}]})
    points = read_slowly(body, 1, 10_000)
    built = build(points, body, Places(LineMapping(mapping), "acme"), NOW)
    (text,) = built.block.text.values()
    assert 60_000 < len(text.encode()) <= 64 * 1024


@pytest.mark.parametrize("how", ["long keys", "long names", "many names"])
def test_what_is_remembered_of_keys_and_names_is_bounded(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest_service.line_protocol.placing._REMEMBERED_BYTES", 100_000)
    monkeypatch.setattr("ingest_service.line_protocol.placing._REMEMBERED_NAMES", 100)
    mapping = MappingConfig.model_validate(
        {"rules": [{"measurement": "m", "asset": "acme/{h}", "exclude": ["*x"]}]}
    )
    places = Places(LineMapping(mapping), "acme")
    largest = 0
    for number in range(50):
        if how == "long keys":
            body = f"nobody,h=a{number},t={'y' * 10_000} a=1"
        elif how == "long names":
            body = f"m,h=a {number}{'x' * 10_000}=1"
        else:
            body = "m,h=a " + ",".join(f"{number}_{name}x=1" for name in range(10))
        raw = body.encode()
        places.trim()
        build(read_slowly(raw, 1, 10_000), raw, places, NOW)
        largest = max(
            largest,
            sum(map(len, places._keys)),
            sum(len(name) for place in places._keys.values() for name in place.series),
        )
        assert sum(len(place.series) for place in places._keys.values()) <= 110
    assert largest <= 120_000
