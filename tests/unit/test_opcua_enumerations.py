"""Enumerations in structures and arrays: their names in their place, or beside them."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from edge_agent.sources.opcua.nodes import Nodes
from edge_agent.sources.opcua.structures import Field, Form, Structure
from shopfloor.block import Sample
from tests.unit.opcua_elements import (
    T,
    bad,
    nodes,
    read,
)


def drive(mode: int, *more: int) -> ua.Variant:
    body = struct.pack("<di", 1.5, mode) + struct.pack(f"<i{len(more)}i", len(more), *more)
    return ua.Variant(
        ua.ExtensionObject(ua.NodeId(ua.Int32(9), ua.Int16(2)), body),  # type: ignore[arg-type]
        T.ExtensionObject,
    )


def with_drive(enum: str) -> Nodes:
    """Nodes of which the first is a structure with an enumeration, and with an array of it."""
    wanted = nodes("drive", enum=enum)
    types = wanted.expansion.types
    types.enumerations["ns=2;i=60"] = {0: "Off", 1: "Auto"}
    types.by_encoding["ns=2;i=9"] = Structure(
        "drive",
        Form.PLAIN,
        (
            Field("speed", 11),
            Field("mode", 6, enumeration="ns=2;i=60"),
            Field("modes", 6, rank=1, enumeration="ns=2;i=60"),
        ),
    )
    return wanted


def said(samples: dict[str, Sample]) -> dict[str, float | str | None]:
    return {
        signal: sample.text if sample.text is not None else None if math.isnan(sample.value) else sample.value
        for signal, sample in samples.items()
    }


@pytest.mark.parametrize(
    ("enum", "becomes"),
    [
        ("value", {"drive.mode": 1.0, "drive.modes.0": 0.0, "drive.modes.1": 7.0}),
        ("text", {"drive.mode": "Auto", "drive.modes.0": "Off", "drive.modes.1": "7"}),
        (
            "both",
            {
                "drive.mode": 1.0,
                "drive.modes.0": 0.0,
                "drive.modes.1": 7.0,
                "drive.mode.text": "Auto",
                "drive.modes.0.text": "Off",
                "drive.modes.1.text": "7",
            },
        ),
    ],
)
def test_enumerations_in_structures_have_names(enum: str, becomes: dict[str, Any]) -> None:
    wanted = with_drive(enum)
    assert wanted.expansion.types.named == (enum != "value")
    samples, counts = read(wanted, [drive(1, 0, 7)])
    assert said(samples) == {"drive.speed": 1.5, **becomes}
    assert not counts["not_convertible"]
    # What a later value does not have any more, is null under both names.
    samples, _ = read(wanted, [drive(1)])
    assert said(samples) == {
        "drive.speed": 1.5,
        **{signal: None if "modes" in signal else value for signal, value in becomes.items()},
    }
    samples, _ = read(wanted, [bad(StatusCodes.BadNoCommunication)])
    assert set(said(samples)) == {"drive.speed", *becomes}
    assert set(said(samples).values()) == {None}


def test_arrays_of_an_enumeration_have_names() -> None:
    wanted = nodes("plain", "modes", enum="both")
    wanted.wording.name(1, {0: "Off", 1: "Auto"}, beside=True)
    modes = ua.Variant([1, 0, 9], T.Int32, is_array=True)
    samples, _ = read(wanted, [modes, modes])
    assert said(samples) == {
        "plain.0": 1.0,
        "plain.1": 0.0,
        "plain.2": 9.0,
        "modes.0": 1.0,
        "modes.1": 0.0,
        "modes.2": 9.0,
        "modes.0.text": "Auto",
        "modes.1.text": "Off",
        "modes.2.text": "9",
    }


def test_names_of_enumerations_count_as_elements() -> None:
    wanted = nodes("modes", enum="both", max_elements=3)
    wanted.wording.name(0, {0: "Off"}, beside=True)
    samples, counts = read(wanted, [ua.Variant([0, 0], T.Int32, is_array=True)])
    assert list(said(samples)) == ["modes.0", "modes.0.text", "modes.1"]
    assert counts["element_left_out"] == 1


def test_enumerations_in_opc_ua_own_structures_have_names() -> None:
    wanted = nodes("server", enum="text")
    thing = ua.ApplicationDescription(ApplicationType=ua.ApplicationType.DiscoveryServer)
    samples, _ = read(wanted, [ua.Variant(thing, T.ExtensionObject)])
    assert said(samples)["server.application_type"] == "DiscoveryServer"
