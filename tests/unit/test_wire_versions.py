"""Batches of every wire version that was ever released, as files: what they hold stays what it is, for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shopfloor.errors import WireVersionUnsupported
from shopfloor.wire import READABLE_VERSIONS, WIRE_VERSION, decode_batch, encode_batch
from tests.cases.wire.make import batches, content

FILES = sorted(Path(__file__).parent.parent.glob("cases/wire/*.batch"))


def version_of(file: Path) -> int:
    return int(file.name.removeprefix("v").partition("-")[0])


def test_this_version_and_the_one_before_are_read() -> None:
    assert {WIRE_VERSION, max(1, WIRE_VERSION - 1)} <= READABLE_VERSIONS


@pytest.mark.parametrize("version", sorted(READABLE_VERSIONS))
def test_every_version_that_is_read_has_files(version: int) -> None:
    names = {file.stem.partition("-")[2] for file in FILES if version_of(file) == version}
    assert names >= {
        "edges",
        "jitter_floats_and_nulls",
        "nothing",
        "one_constant",
        "regular_decimals",
        "texts",
    }


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_a_file_holds_what_it_always_held(file: Path) -> None:
    message = file.read_bytes()
    assert message[3] == version_of(file)
    if version_of(file) not in READABLE_VERSIONS:
        with pytest.raises(WireVersionUnsupported):
            decode_batch(message)
        return
    expected = json.loads(file.with_suffix(".json").read_text())
    decoded = decode_batch(message)
    assert content(decoded) == expected
    assert content(decode_batch(encode_batch(decoded))) == expected


def test_the_files_of_this_version_hold_what_its_maker_says() -> None:
    for name, batch in batches():
        file = next(file for file in FILES if file.name == f"v{WIRE_VERSION}-{name}.batch")
        assert json.loads(file.with_suffix(".json").read_text()) == content(batch)
