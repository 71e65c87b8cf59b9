"""A whole agent whose configuration changes while it runs, up to what the service has stored in the end."""

import asyncio
import json
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.agent import Agent
from edge_agent.config import Config, SourceConfig
from edge_agent.reload import hash_of
from ingest_service.auth import Role
from shopfloor import configfile
from tests.integration.ingest_server import Running, running
from tests.integration.mqtt_brokers import mosquitto, publish
from tests.ports import free_port
from tests.unit.running_sources import BEGIN, Counting, mqtt

NOBODY = "http://127.0.0.1:1"


class Gateway:
    """An agent, its file, and its status page."""

    def __init__(self, folder: Path, *, counting: bool = True) -> None:
        self.path = folder / "agent.yaml"
        self.port = free_port()
        self.lives: dict[str, list[Counting]] = defaultdict(list)
        self._counting = counting
        self.text: dict[str, Any] = {
            "agent": {"id": "a", "asset": "acme/hk01"},
            "uplink": {"url": NOBODY, "token": "file:token", "heartbeat_s": 0.5},
            "buffer": {"disk_reserve": 0},
            "status": {"listen": f"127.0.0.1:{self.port}"},
        }
        (folder / "token").write_text("not-yet-a-token")
        self.agent: Agent

    def uplink(self, **changes: Any) -> dict[str, Any]:
        return {**self.text["uplink"], **changes}

    def write(self, *sources: dict[str, Any], uplink: dict[str, Any] | None = None, **more: Any) -> None:
        """Write the file, like an editor that exchanges it."""
        self.text |= {**more, "uplink": self.uplink(**(uplink or {}))}
        if sources:
            self.text["sources"] = [{"mqtt": each} for each in sources]
        self.put(yaml.safe_dump(self.text).encode())

    def put(self, content: bytes) -> None:
        other = self.path.with_suffix(".new")
        other.write_bytes(content)
        other.rename(self.path)

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[None]:
        def make(entry: SourceConfig, _config: Config) -> Any:
            if entry.settings.name == "impossible":
                raise ZeroDivisionError("bug")
            return Counting(entry, self.lives)

        given: dict[str, Any] = {"make": make} if self._counting else {}
        config = configfile.load(self.path, Config)
        self.agent = Agent(config, hash_of(self.path.read_bytes()), path=self.path, **given)
        ready = asyncio.Event()
        task = asyncio.create_task(self.agent.run(ready))
        try:
            await ready.wait()
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), task.exception()

    async def status(self) -> dict[str, Any]:
        def ask() -> Any:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status.json", timeout=30) as answer:
                return json.load(answer)

        found: dict[str, Any] = await asyncio.to_thread(ask)
        return found

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for something that the status page says."""
        async with asyncio.timeout(60):
            while not condition(found := await self.status()):
                await asyncio.sleep(0.05)
            return found

    async def reloaded(self, times: int) -> dict[str, Any]:
        return await self.until(lambda status: status["config"]["reloads_total"] == times)

    async def refused(self, times: int) -> dict[str, Any]:
        return await self.until(lambda status: status["config"]["refusals_total"] == times)

    async def said(self, *names: str, more: int = 5) -> None:
        """Wait until the newest life of each source has handed over some more."""
        goals = {name: self.lives[name][-1].said + more for name in names}
        async with asyncio.timeout(60):
            while any(self.lives[name][-1].said < goal for name, goal in goals.items()):
                await asyncio.sleep(0.01)


async def told(plant: Running, **expected: Any) -> dict[str, Any]:
    """Wait until the service has heard something of the agent."""
    async with asyncio.timeout(60):
        while True:
            (agent,) = (await plant.get("/v1/agents"))["agents"] or [{}]
            if agent.items() >= expected.items():
                return dict(agent)
            await asyncio.sleep(0.05)


async def stored(plant: Running) -> dict[str, list[float]]:
    span: dict[str, Any] = {"from": BEGIN // 10**6, "to": BEGIN // 10**6 + 7_200_000}
    answer = await plant.get("/v1/samples", **span)
    assert not answer["truncated"]
    return {each["asset"].rpartition("/")[2]: each["value"] for each in answer["series"]}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.takeover.LOOK_EVERY_S", 0.05)


async def test_config_push_or_reload_must_not_destroy_the_buffer(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.write(mqtt("a"), mqtt("b"), mqtt("c"))
    async with running(tmp_path / "service") as plant:
        (tmp_path / "token").write_text(plant.token(Role.AGENT, "acme/hk01")["Authorization"].split()[1])
        async with gateway.runs():
            await gateway.said("a", "b", "c")
            # All that may change, while nothing can be delivered.
            gateway.write(mqtt("a", qos=0), mqtt("b"), buffer={"disk_reserve": 0, "max_bytes": "64MiB"})
            await gateway.reloaded(1)
            await gateway.said("a", "b")
            gateway.write(
                mqtt("renamed", broker="a", cell="a"), mqtt("b"), mqtt("d"), uplink={"linger_ms": 1}
            )
            await gateway.reloaded(2)
            await gateway.until(lambda status: status["buffer"]["limit_bytes"] == 64 * 2**20)
            await gateway.said("renamed", "b", "d")
            # Nothing could be delivered yet.
            status = await gateway.until(lambda status: status["buffer"]["pending_samples"] >= 8 * 5)
            handed_over = status["buffer"]["pending_samples"]
            gateway.write(uplink={"url": str(plant.client.base_url).rstrip("/")})
            await gateway.until(
                lambda status: status["uplink"]["connected"] and status["buffer"]["delivered_samples_total"] > handed_over
            )  # fmt: skip
            assert len(gateway.lives["b"]) == 1
            lives = {
                "a": gateway.lives["renamed"][-1],
                "b": gateway.lives["b"][-1],
                "d": gateway.lives["d"][-1],
            }
            for life in lives.values():
                life.speaks.clear()
            found = (await gateway.until(lambda status: not status["buffer"]["pending_samples"]))["buffer"]
            assert found["repeats_total"] == found["dropped_samples_total"] == 0
        values = await stored(plant)
    for cell, life in lives.items():
        assert values[cell] == [float(number) for number in range(life.began_at + life.said)], cell
    gone = gateway.lives["c"][-1]
    assert values["c"] == [float(number) for number in range(len(values["c"]))]
    assert gone.said <= len(values["c"]) <= gone.said + 1


async def test_an_invalid_file_is_refused_with_its_errors_while_the_old_one_runs(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.write(mqtt("a"))
    async with running(tmp_path / "service") as plant:
        (tmp_path / "token").write_text(plant.token(Role.AGENT, "acme/hk01")["Authorization"].split()[1])
        gateway.write(uplink={"url": str(plant.client.base_url).rstrip("/")})
        async with gateway.runs():
            good, runs = gateway.path.read_bytes(), (await gateway.status())["config"]["hash"]
            mistakes: list[dict[str, Any]] = [
                {"sources": []},
                {"agent": {"id": "b", "asset": "acme/hk01"}},
                {"status": {"listen": plant.client.base_url.netloc.decode()}},
                {"uplink": gateway.uplink(ca_file="nowhere.pem", url="https://127.0.0.1:1")},
                {"sources": [{"mqtt": mqtt("impossible")}]},
            ]
            # Nested too deeply to be judged at all.
            files = [*(yaml.safe_dump(gateway.text | wrong).encode() for wrong in mistakes), b"[" * 500]
            for number, content in enumerate(files):
                gateway.put(content)
                status = await gateway.refused(number + 1)
                assert not status["config"]["valid"]
                (problem,) = status["config"]["problems"]
                assert problem.startswith(str(gateway.path)), problem
                assert status["config"]["hash"] == runs
                assert f"configuration refused, the earlier one runs: {problem}" in status["problems"]
                if not number:
                    await told(plant, config_message=problem, config_valid=False)
                gateway.put(good)
                await gateway.until(lambda status: status["config"]["valid"])
            await gateway.said("a")
            assert len(gateway.lives["a"]) == 1
            agent = await told(plant, config_message="", config_valid=True)
            assert agent["config_hash"] == runs
            assert agent["source_events"]["a"]["message"] > 0


async def test_a_new_token_in_its_file_is_taken_when_somebody_asks(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    async with running(tmp_path / "service") as plant:
        gateway.write(mqtt("a"), uplink={"url": str(plant.client.base_url).rstrip("/")})
        async with gateway.runs():
            await gateway.until(lambda status: status["uplink"]["unauthorised"])
            (tmp_path / "token").write_text(plant.token(Role.AGENT, "acme/hk01")["Authorization"].split()[1])
            gateway.agent.reload()
            # Long before the lanes, told to come back in half a minute, would have tried again.
            status = await gateway.until(lambda status: status["uplink"]["connected"])
            assert not status["uplink"]["unauthorised"]
            await gateway.said("a")
            gateway.lives["a"][0].speaks.clear()
            await gateway.until(lambda status: not status["buffer"]["pending_samples"])
        values = await stored(plant)
    assert values["a"] == [float(number) for number in range(gateway.lives["a"][0].said)]


async def test_an_mqtt_source_that_begins_anew_loses_and_repeats_nothing(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, counting=False)
    async with mosquitto(tmp_path) as broker, running(tmp_path / "service") as plant:
        (tmp_path / "token").write_text(plant.token(Role.AGENT, "acme/hk01")["Authorization"].split()[1])
        there = {"broker": f"127.0.0.1:{broker.port}", "cell": "a"}
        gateway.write(
            mqtt("m0", **there) | {"broker": f"mqtt://127.0.0.1:{broker.port}"},
            uplink={"url": str(plant.client.base_url).rstrip("/")},
        )
        async with gateway.runs():
            await gateway.until(lambda status: status["sources"][0]["state"] == "running")
            sending = asyncio.create_task(
                publish(broker.port, "m/a", *(f'{{"n": {number}}}' for number in range(1_000)))
            )
            reloads = 0
            while not sending.done() or reloads < 3:
                reloads += 1
                gateway.write(mqtt(f"m{reloads}", **there) | {"broker": f"mqtt://127.0.0.1:{broker.port}"})
                await gateway.reloaded(reloads)
            await sending
            await gateway.until(
                lambda status: (
                    status["buffer"]["appended_samples_total"] >= 1_000
                    and not status["buffer"]["pending_samples"]
                )
            )
        values = await stored(plant)
    assert values["a"] == [float(number) for number in range(1_000)]
