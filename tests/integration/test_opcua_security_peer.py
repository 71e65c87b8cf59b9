"""Against an OPC UA server of another stack: encrypted, with a user, killed and frozen while it runs."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from edge_agent.doctor.opcua import look_at_opcua
from edge_agent.sources.opcua import OpcUaSource
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.connect import Applicant, open_session
from edge_agent.sources.opcua.pki import Pki
from shopfloor.errors import SourceMisconfigured, SourceUnavailable
from shopfloor.findings import Verdict
from tests.integration.opcua_plant import MemorySink, running
from tests.integration.test_sparkplug_peers import node_program
from tests.links import Link
from tests.ports import free_port

FOLDER = Path(__file__).parents[1] / "peers" / "node-opcua"
POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
NODE = node_program()
pytestmark = [
    pytest.mark.skipif(NODE is None, reason="Node.js is not installed"),
    pytest.mark.skipif(
        not (FOLDER / "node_modules").is_dir(), reason="npm node-opcua-server is not installed: make peers"
    ),
    pytest.mark.timeout(240),
]


class Peer:
    """One server process; it keeps its certificate over restarts."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.port = free_port()
        self.options = {"folder": str(folder / "node"), "password": "right", **options}
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        assert NODE is not None
        (Path(self.options["folder"])).mkdir(exist_ok=True)
        self.process = await asyncio.create_subprocess_exec(
            NODE,
            str(FOLDER / "server.mjs"),
            json.dumps({**self.options, "port": self.port}),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await self._line("ready")

    async def sessions(self) -> int:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(b"?\n")
        return int((await self._line("sessions"))["sessions"])

    async def until_sessions(self, count: int) -> None:
        """Wait until the server has so many; what was left behind counts until it is closed or its time is up."""
        async with asyncio.timeout(100):
            while await self.sessions() != count:
                await asyncio.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        if self.process is not None:
            process, self.process = self.process, None
            if process.returncode is None:
                process.kill()
            # What was in the pipes goes with the transport, which only closes when they end.
            await process.communicate()

    async def _line(self, key: str) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        async with asyncio.timeout(120):
            while line := await self.process.stdout.readline():
                if line.startswith(b"{"):
                    said: dict[str, Any] = json.loads(line)
                    if key in said:
                        return said
        raise AssertionError(f"the server ended with {await self.process.wait()}")


@asynccontextmanager
async def serving(folder: Path, **options: Any) -> AsyncIterator[Peer]:
    peer = Peer(folder, **options)
    try:
        await peer.start()
        yield peer
    finally:
        await peer.kill()


def agent(folder: Path, port: int, **changes: Any) -> OpcUaConfig:
    (folder / "password").write_text("right\n", encoding="utf-8")
    return OpcUaConfig.model_validate(
        {
            "name": "press",
            "endpoint": f"opc.tcp://127.0.0.1:{port}",
            "security": {"policy": "Basic256Sha256", "pki": str(folder / "pki")},
            "user": "edge",
            "password": f"file:{folder / 'password'}",
            "request_timeout_s": 5,
            "keepalive_s": 0.5,
            "groups": {"live": {"mode": "subscribe", "publishing_interval_ms": 100}},
            "nodes": [{"node": "/Press/Counter", "asset": "acme/hk01", "signal": "counter"}],
            **changes,
        }
    )


async def trust(config: OpcUaConfig) -> None:
    """Meet the server once, and accept what it showed."""
    with pytest.raises(SourceMisconfigured, match="is not trusted"):
        async with open_session(config, applicant=Applicant("a1")):
            pass
    assert config.security.pki is not None
    pki = Pki(config.security.pki)
    [kept] = pki.read("rejected")[0]
    pki.move(kept, "trusted")


def expect_all_since_the_first(sink: MemorySink) -> None:
    """The counter counts up by one: nothing is missing, nothing came twice, and no gap was recorded."""
    values = [value for _, value in sink.series("counter")]
    assert values == [values[0] + place for place in range(len(values))]
    assert sink.gaps == []


async def test_it_goes_on_after_the_server_was_killed_and_frozen(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        config = agent(tmp_path, peer.port)
        await trust(config)
        sink = MemorySink()
        async with running(OpcUaSource(config, agent_id="a1"), sink, again=True):
            await sink.until(lambda: len(sink.samples) >= 20)
            assert sorted(value for _, value in sink.series("counter")) == [
                value for _, value in sink.series("counter")
            ]

            await peer.kill()
            await sink.until(lambda: not sink.running, 60)
            await peer.start()
            before = len(sink.samples)
            await sink.until(lambda: sink.running and len(sink.samples) >= before + 20, 60)
            assert any("keeps no history" in reason for reason, *_ in sink.gaps)
            await peer.until_sessions(1)

            peer.signal(signal.SIGSTOP)
            said = ("fallen silent", "no answer")
            await sink.until(
                lambda: any(words in message for _, message in sink.reports for words in said), 60
            )
            peer.signal(signal.SIGCONT)
            before = len(sink.samples)
            await sink.until(lambda: sink.running and len(sink.samples) >= before + 20, 60)
        await peer.until_sessions(0)


async def test_its_policies_and_users(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        (tmp_path / "wrong").write_text("wrong\n", encoding="utf-8")
        await trust(agent(tmp_path, peer.port))
        for policy, mode in itertools.product(POLICIES, ("Sign", "SignAndEncrypt")):
            security = {"policy": policy, "mode": mode, "pki": str(tmp_path / "pki")}
            config = agent(tmp_path, peer.port, security=security)
            found = (await look_at_opcua(config, agent_id="a1", pki=tmp_path / "unused")).findings
            assert not [finding.text for finding in found if finding.verdict is Verdict.FAILURE]
            assert "takes user names" in found[0].text
            assert [finding.figures["type"] for finding in found if "signal" in finding.figures] == ["Double"]
            with pytest.raises(SourceMisconfigured, match="the server refuses user 'edge'"):
                await OpcUaSource(
                    agent(tmp_path, peer.port, security=security, password=f"file:{tmp_path / 'wrong'}")
                ).run(MemorySink())
        with pytest.raises(SourceMisconfigured, match="refuses anonymous access"):
            await OpcUaSource(agent(tmp_path, peer.port, user=None, password=None)).run(MemorySink())
        await peer.until_sessions(0)


async def test_a_server_that_does_not_trust_us_says_what_to_do(tmp_path: Path) -> None:
    async with serving(tmp_path, trustAll=False) as peer:
        config = agent(tmp_path, peer.port)
        await trust(config)
        own = Pki(tmp_path / "pki").own("a1")
        with pytest.raises(
            SourceMisconfigured, match="the server does not trust us; have it trust"
        ) as refused:
            await OpcUaSource(config, agent_id="a1").run(MemorySink())
        assert str(own.file) in str(refused.value)
        assert own.application_uri in str(refused.value)


async def test_a_network_that_keeps_breaking_does_not_use_up_its_sessions(tmp_path: Path) -> None:
    async with serving(tmp_path, maxSessions=3) as peer:
        link = Link(peer.port)
        await link.start()
        try:
            config = agent(tmp_path, link.port)
            await trust(config)
            sink = MemorySink()
            async with running(OpcUaSource(config, agent_id="a1"), sink, again=True):
                for _ in range(6):
                    before = len(sink.samples)
                    await sink.until(lambda: sink.running and len(sink.samples) > before, 60)  # noqa: B023
                    await peer.until_sessions(1)
                    reports = len(sink.reports)
                    link.reset()
                    await sink.until(lambda: len(sink.reports) > reports)  # noqa: B023
                await sink.until(lambda: sink.running, 60)
                before = len(sink.samples)
                await sink.until(lambda: len(sink.samples) > before, 60)
            assert not [message for _, message in sink.reports if "TooManySessions" in message]
            expect_all_since_the_first(sink)
            await peer.until_sessions(0)
        finally:
            await link.stop()


async def test_subscriptions_move_to_a_new_session_where_the_old_one_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        link = Link(peer.port)
        await link.start()
        try:
            config = agent(tmp_path, link.port)
            await trust(config)
            sink = MemorySink()
            source = OpcUaSource(config, agent_id="a1")
            async with running(source, sink) as task:
                await sink.until(lambda: len(sink.samples) >= 5, 60)
                link.reset()
                with pytest.raises(SourceUnavailable):
                    await asyncio.wait_for(asyncio.shield(task), 60)
            [left] = source._applicant.orphans.left
            left.token = ua.NodeId(ua.ByteString(b"nobody"), ua.Int16(1))
            before = len(sink.samples)
            async with running(source, sink):
                await sink.until(lambda: len(sink.samples) >= before + 20, 60)
            assert sink.counts["notification_republished"] > 0
            expect_all_since_the_first(sink)
        finally:
            await link.stop()
