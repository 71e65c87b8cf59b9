"""``shopfloor edge browse`` against a EUROMAP 77 server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from shopfloor.__main__ import main
from simulators.protocols.opcua import Written
from tests.integration.euromap77_servers import URI, number, serving


async def run(*arguments: str) -> int:
    return await asyncio.to_thread(main, ["edge", "browse", *arguments])


async def test_a_tree_json_and_lines_to_paste(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async with serving("cell: imm-01, zones: 3") as server:
        await server.write([Written(number(server, "imm-01", "barrel.zone_1.temperature"), 1_000, 221.5)])
        assert await run(server.endpoint, "--path", "/DeviceSet") == 0
        tree = capsys.readouterr().out
        assert tree.startswith("DeviceSet\n└─ IMM_Shopfloor_imm-01\n")
        assert "─ ActualTemperature: Double = 221.5 Cel\n" in tree
        assert "─ MachineMode: MachineModeEnumeration = 0\n" in tree
        assert "EngineeringUnits" not in tree
        assert await run(server.endpoint, "--path", "/DeviceSet", "--depth", "2") == 0
        shallow = capsys.readouterr()
        assert "MachineMode" not in shallow.out
        assert "there may be more" in shallow.err
        assert await run(server.endpoint, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["complete"] is True
        mode = next(each for each in found["variables"] if each["path"].endswith("MachineMode"))
        assert mode["node"] == f"nsu={URI};s=imm-01.MachineStatus.MachineMode"
        config = tmp_path / "agent.yaml"
        config.write_text(
            f"""
agent: {{id: edge-1, asset: acme/hk01}}
uplink: {{url: "http://127.0.0.1:9", token: "file:token"}}
sources:
  - opcua:
      name: imm
      endpoint: {server.endpoint}
      profiles: [{{profile: euromap77, asset: "acme/hk01/{{machine}}"}}]
"""
        )
        (tmp_path / "token").write_text("secret")
        assert await run("--config", str(config), "--yaml", "--asset", "acme/hk01/imm-01") == 0
        lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "nodes:"
    signal = "device_set.imm_shopfloor_imm_01.machine_status.machine_mode"
    node = f"nsu={URI};s=imm-01.MachineStatus.MachineMode"
    assert f'  - {{node: "{node}", asset: "acme/hk01/imm-01", signal: "{signal}"}}' in lines


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "which server?"),
        (["opc.tcp://127.0.0.1:1"], 1, "opc.tcp://127.0.0.1:1"),
        (["http://127.0.0.1:1"], 2, "must look like opc.tcp://host:4840"),
        (["opc.tcp://127.0.0.1:1", "--user", "u"], 2, "would travel unencrypted"),
        (["--config", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["opc.tcp://127.0.0.1:1", "--config", "a.yaml"], 2, "not both"),
    ],
)
def test_what_cannot_be_looked_at(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["edge", "browse", *arguments]) == status
    assert said in capsys.readouterr().err
