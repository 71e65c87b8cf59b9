"""``edge doctor`` against real servers: what it finds, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from asyncua import ua
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.config import Config
from edge_agent.doctor.brokers import look_at_mqtt
from edge_agent.doctor.opcua import look_at_opcua
from edge_agent.doctor.uplink import look_at_uplink
from edge_agent.sources.mqtt.config import MqttConfig
from ingest_service.auth import Role, create_token
from shopfloor.__main__ import main
from shopfloor.findings import Finding, Section, Verdict, as_json, as_lines
from tests.integration.euromap77_servers import URI as MACHINE_URI
from tests.integration.ingest_server import running
from tests.integration.mqtt_brokers import mosquitto, publish
from tests.integration.opcua_plant import URI, Plant, config
from tests.integration.test_opcua_security import agent as secured
from tests.integration.test_opcua_security import serving

ASSET = "acme/hk01/moulding/cell-a/imm-01"


def failures(section: Section) -> list[Finding]:
    return [finding for finding in section.findings if finding.verdict is Verdict.FAILURE]


def figures(findings: Any, key: str) -> Any:
    return next(finding.figures[key] for finding in findings if key in finding.figures)


async def test_each_node_with_what_the_server_grants_and_nothing_stays(tmp_path: Path) -> None:
    plant = Plant(("v0", "v1"))
    await plant.start()
    assert plant.server is not None
    try:
        await plant.tick()
        node = await plant.folder.add_variable(
            ua.NodeId(ua.String("plain"), ua.Int16(plant.index)), f"{plant.index}:plain", True
        )
        await node.write_value(ua.DataValue(ua.Variant(True), ua.StatusCode(ua.UInt32(0x8005_0000))))
        await plant.folder.add_variable(
            ua.NodeId(ua.String("word"), ua.Int16(plant.index)), f"{plant.index}:word", "a"
        )
        wanted: list[dict[str, Any]] = [
            {"node": f"nsu={URI};s={name}", "asset": ASSET, "signal": signal, "group": group}
            for name, signal, group in (
                ("v0", "v0", "live"),
                ("v1", "v1", "slow"),
                ("plain", "plain", "live"),
                ("nowhere", "lost", "live"),
            )
        ]
        word = {"node": f"nsu={URI};s=word", "asset": ASSET, "signal": "word", "deadband": {"absolute": 1.0}}
        wanted.append(word)
        groups = {
            "live": {"mode": "subscribe", "publishing_interval_ms": 50, "queue_size": 7},
            "slow": {"mode": "poll", "interval_s": 10},
        }
        more = {
            "limits": {"read": 20_000},
            "events": [{"asset": ASSET}, {"asset": ASSET, "notifier": "/IMM_1"}],
            "alarms": [{"asset": ASSET, "notifier": "/IMM_2"}],
        }
        settings = config(plant, nodes=wanted, groups=groups, request_timeout_s=30, **more)
        subscriptions = plant.server.iserver.subscription_service.subscriptions
        before = set(subscriptions)
        section = await look_at_opcua(settings, agent_id="gateway", pki=tmp_path / "pki")
        by_signal = {each.figures["signal"]: each for each in section.findings if "signal" in each.figures}
        assert list(by_signal) == ["v0", "v1", "plain", "lost", "word"]
        watched = by_signal["v0"].figures
        assert (watched["status"], watched["type"], watched["value"]) == ("Good", "Double", 1.0)
        assert (watched["queue_size"], watched["history"]) == (7, "yes")
        assert watched["sampling_interval_ms"] >= 0
        assert "queue_size" not in by_signal["v1"].figures
        assert by_signal["plain"].verdict is Verdict.WARNING
        assert by_signal["plain"].figures["remarks"] == ["its status is BadCommunicationError"]
        assert by_signal["plain"].figures["history"] == "no"
        assert (by_signal["word"].figures["remarks"], by_signal["word"].figures["type"]) == ([], "String")
        assert by_signal["lost"].verdict is Verdict.FAILURE
        assert [finding.text for finding in section.findings if "notifier" in finding.figures] == [
            "events of i=2253 (i=2041): reported, without a history: what an interruption hides is lost",
            "events of /IMM_1 (i=2041): this object reports no events",
            "alarms of /IMM_2: there is no 'IMM_2' below /",
        ]
        assert len(failures(section)) == 3
        assert abs(figures(section.findings, "clock_offset_s")) < 60
        assert figures(section.findings, "publishing_interval_ms") == 50
        assert any(
            finding.text.startswith("limits.read: 20,000 is configured") for finding in section.findings
        )
        assert max(map(len, as_lines([section]))) <= 100
        json.dumps(as_json([section]))
        assert not plant.server.iserver._external_sessions
        assert set(subscriptions) == before
        assert not (tmp_path / "pki").exists()
    finally:
        await plant.stop()


async def test_a_server_that_nobody_has_accepted_yet_can_be_accepted_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as server:
        settings = secured(server.endpoint, tmp_path)
        section = await look_at_opcua(settings, agent_id="gateway", pki=tmp_path / "unused")
        (failed,) = failures(section)
        assert (failed.figures["trusted"], failed.figures["thumbprint"] in failed.text) == (False, True)
        assert main(["edge", "trust", "accept", str(tmp_path / "pki"), failed.figures["thumbprint"]]) == 0
        section = await look_at_opcua(settings, agent_id="gateway", pki=tmp_path / "unused")
        assert not failures(section)
        assert any("our own certificate" in finding.text for finding in section.findings)
        assert figures(section.findings, "value") == "imm-01"
        zone = "InjectionUnits.InjectionUnit_1.TemperatureZones.TemperatureZone_1.ActualTemperature"
        node = {"node": f"nsu={MACHINE_URI};s=imm-01.{zone}", "asset": "acme/hk01", "signal": "temperature"}
        for told, unit in ((True, "Cel"), (False, "")):  # as the agent stores it
            warm = secured(server.endpoint, tmp_path, nodes=[node], read_metadata=told)
            section = await look_at_opcua(warm, agent_id="gateway", pki=tmp_path / "unused")
            assert figures(section.findings, "unit") == unit
        assert server._server is not None
        assert not server._server.iserver._external_sessions


async def test_a_server_that_is_not_there_is_one_failure(tmp_path: Path) -> None:
    plant = Plant()
    section = await look_at_opcua(config(plant), agent_id="gateway", pki=tmp_path)
    (found,) = section.findings
    assert (found.verdict, plant.endpoint in found.text, bool(found.advice)) == (Verdict.FAILURE, True, True)


def agent(tmp_path: Path, url: str, token: str, asset: str = "acme/hk01", **uplink: Any) -> Config:
    (tmp_path / "token").write_text(token)
    topics = [{"topic": "a/b", "asset": f"{asset}/a/l/c", "signals": "all"}]
    return Config.model_validate(
        {
            "agent": {"id": "gateway", "asset": asset},
            "uplink": {"url": url, "token": f"file:{tmp_path / 'token'}", **uplink},
            "sources": [
                {"mqtt": {"name": "m", "broker": "mqtt://127.0.0.1:1", "client_id": "x", "topics": topics}}
            ],
        }
    )


async def test_what_the_token_is_good_for(tmp_path: Path) -> None:
    async with running(tmp_path) as plant:
        url = str(plant.client.base_url)
        right = plant.agent["Authorization"].removeprefix("Bearer ")
        findings = await look_at_uplink(agent(tmp_path, url, right))
        assert {finding.verdict for finding in findings} == {Verdict.OK}
        assert figures(findings, "asset") == "acme/hk01"
        assert abs(figures(findings, "clock_offset_s")) < 60
        other = create_token(plant.service.plant.engine, Role.AGENT, "acme/dg01", "other")
        looks = create_token(plant.service.plant.engine, Role.VIEWER, "acme", "looks")
        for token, said in (
            (other, "the token reaches acme/dg01, not acme/hk01"),
            (looks, "the token's role is viewer: it does not write"),
            ("sf_nobody", "does not know the token"),
        ):
            findings = await look_at_uplink(agent(tmp_path, url, token))
            (failed,) = [finding for finding in findings if finding.verdict is Verdict.FAILURE]
            assert said in failed.text
            assert token not in failed.text + failed.advice
        assert (await plant.get("/v1/agents"))["agents"] == []


async def test_a_portal_is_not_taken_for_the_service(tmp_path: Path) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nLogin")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        (found,) = await look_at_uplink(agent(tmp_path, url, "t"))
        assert (found.verdict, "Login" in found.text) == (Verdict.FAILURE, True)
        for address in ("http://127.0.0.1:1", "https://127.0.0.1:1"):
            findings = await look_at_uplink(agent(tmp_path, address, "t"))
            assert {finding.verdict for finding in findings} == {Verdict.FAILURE}
    finally:
        server.close()
        await server.wait_closed()


def mqtt(port: int, **changes: Any) -> MqttConfig:
    topics = [{"topic": "m/{cell}", "asset": "acme/hk01/a/l/{cell}", "signals": "all"}]
    return MqttConfig.model_validate(
        {
            "name": "m",
            "broker": f"mqtt://127.0.0.1:{port}",
            "client_id": "gateway",
            "topics": topics,
            **changes,
        }
    )


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
async def test_a_broker_beside_the_agent_that_is_connected_to_it(tmp_path: Path, protocol: str) -> None:
    async with mosquitto(tmp_path, "max_inflight_messages 33") as broker:
        await publish(broker.port, "m/m1", '{"n": 1}', retain=True)
        agent_itself = paho.Client(CallbackAPIVersion.VERSION2, client_id="gateway", clean_session=False)
        dropped: list[Any] = []
        agent_itself.on_disconnect = lambda *words: dropped.append(words)
        agent_itself.connect("127.0.0.1", broker.port)
        agent_itself.loop_start()
        try:
            section = await look_at_mqtt(mqtt(broker.port, protocol=protocol), listen_s=0.5)
        finally:
            stayed = not dropped
            agent_itself.disconnect()
            agent_itself.loop_stop()
    assert stayed
    assert not failures(section)
    assert "acme/hk01/a/l/m1:n = 1" in " ".join(finding.text for finding in section.findings)
    welcome = figures(section.findings, "connack")
    assert welcome.get("ReceiveMaximum", 33) == 33
    assert bool(welcome) == (protocol == "5")
    assert figures(section.findings, "granted_qos") == {"m/+": 1}
