"""Everything that a scenario can make go wrong, at once, and every value accounted for all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from simulators.data_faults import KINDS
from simulators.plant import truth_folder
from simulators.truth import read_truth
from tests.e2e.demos import demo, folder, processes_of

__all__ = ["folder"]

pytestmark = pytest.mark.timeout(600)

PAST_S = 72
FOR_S = 32


def at(after_s: float, for_s: float) -> dict[str, float]:
    """When something is on, counted from the simulators' start: the site's life began a little earlier."""
    return {"after_h": (PAST_S + after_s) / 3600, "for_h": for_s / 3600}


def scenario(folder: Path) -> Path:
    """Write a site that speaks four ways; all that goes wrong is over or under way when its machines stop."""
    site = {
        "asset": "acme/dg01",
        "name": "Dongguan",
        "time_zone": "Asia/Shanghai",
        "opcua_port": 4840,
        "sparkplug": {"group": "acme", "primary_host": "shopfloor"},
        "machines": [
            {"cell": "imm-01", "clamp_kn": 800, "meter": "plain"},
            {"cell": "imm-02", "protocol": "gateway", "drive": "hydraulic", "meter": "shelly"},
            {"cell": "imm-03", "protocol": "sparkplug"},
        ],
        "compressors": [{"cell": "air-01"}],
        "data_faults": [
            {"kind": "data.nan", "cell": "imm-01", "signal": "cooling", **at(12, 8)},
            {"kind": "data.stuck", "cell": "imm-01", "signal": "barrel.zone_1", **at(12, 12)},
            {"kind": "data.unit_change", "cell": "imm-01", **at(14, 12)},
            {"kind": "data.clock_behind", "cell": "imm-01", "behind_s": 45, **at(13, 12)},
            {"kind": "data.counter_wrap", "cell": "imm-01", "signal": "cycle.counter", **at(5, 25)},
            {"kind": "data.duplicate", "cell": "imm-02", **at(14, 12)},
            {"kind": "data.duplicate", "cell": "air-01", **at(14, 12)},
            {"kind": "data.counter_reset", "cell": "imm-03", **at(12, 12)},
            {"kind": "data.nan", "cell": "imm-03", **at(25, 3)},
        ],
        "outages": [
            {"kind": "missed_birth", "device": "imm-03", **at(16, 1)},
            {"kind": "wan_cut", **at(17, 3)},
            {"kind": "server_restart", **at(20, 2)},
            {"kind": "device_down", "device": "imm-03", **at(23, 3)},
            {"kind": "doubled_message", **at(27, 1)},
            {"kind": "reordered_seq", **at(28, 1)},
        ],
    }
    path = folder / "chaos.yaml"
    path.write_text(yaml.safe_dump({"history_h": PAST_S / 3600, "sites": [site]}))
    return path


def test_whatever_goes_wrong_is_labelled_and_nothing_is_lost(tmp_path: Path, folder: Path) -> None:
    options = ("--scenario", str(scenario(tmp_path)), "--for", f"{FOR_S}s")
    with demo(folder, "--fresh", "--json", *options) as process:
        out, err = process.communicate()
    # Machines that are stuck, cut off and switched off may say less than a proof wants; that alone makes it 1.
    assert process.returncode in {0, 1}, err
    assert processes_of(folder) == []
    report = json.loads(out)
    assert {name: report[name] for name in ("missing", "duplicated", "wrong", "restarts")} == {
        "missing": 0,
        "duplicated": 0,
        "wrong": 0,
        "restarts": 0,
    }, err
    assert report["stored"] == report["emitted"] > report["live_emitted"] > FOR_S
    assert report["machines"] == 3
    truth = read_truth(truth_folder(folder / "simulators") / "acme_dg01", "faults")
    assert set(truth.column("kind").to_pylist()) == {
        *KINDS,
        "outage.device_down",
        "outage.doubled_message",
        "outage.missed_birth",
        "outage.reordered_seq",
        "outage.server_restart",
        "outage.wan_cut",
    }
    for part in (folder / "logs").iterdir():
        assert "Traceback" not in part.read_text(), part.name
