"""``shopfloor edge run`` as its service manager sees it: notifications and signals of a real process."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.integration.systemd_manager import Manager

CONFIG = """\
agent: {id: a, asset: acme/hk01}
uplink: {url: 'http://127.0.0.1:1', token: '${TOKEN}'}
buffer: {disk_reserve: 0}
status: null
sources:
- mqtt:
    name: meters
    broker: mqtt://127.0.0.1:1
    client_id: x
    topics: [{topic: m/a, asset: acme/hk01/a/l/c, signals: all}]
"""


@asynccontextmanager
async def edge_run(folder: Path, manager: Manager) -> AsyncIterator[asyncio.subprocess.Process]:
    path = folder / "agent.yaml"
    path.write_text(CONFIG)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shopfloor", "edge", "run", path, "--log-format", "json",
        env={**os.environ, "TOKEN": "secret-token", "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "500000"},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def hear(manager: Manager, **parts: str) -> None:
    """Wait until each of some notifications has come, with a text in it; whatever comes in between is passed over."""
    async with asyncio.timeout(90):
        while parts:
            for key, text in (await asyncio.to_thread(manager.hear)).items():
                if key in parts and parts[key] in text:
                    del parts[key]


async def test_a_life_under_systemd(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"), timeout_s=30)
    try:
        async with edge_run(tmp_path, manager) as process:
            await hear(
                manager, READY="1", WATCHDOG="1", STATUS="0 of 1 sources running, uplink not connected, 0 samples waiting"
            )  # fmt: skip
            (tmp_path / "agent.yaml").write_text(CONFIG.replace("name: meters", "nme: meters"))
            process.send_signal(signal.SIGHUP)
            await hear(manager, RELOADING="1", STATUS="changed configuration refused", READY="1")
            process.send_signal(signal.SIGTERM)
            await hear(manager, STOPPING="1")
            assert process.stderr is not None
            lines = [json.loads(line) for line in (await process.stderr.read()).splitlines()]
            assert await process.wait() == 0
    finally:
        manager.close()
    said = [line["message"] for line in lines]
    assert [line for line in lines if line.get("source") == "meters"]
    refusals = [message for message in said if "configuration refused" in message]
    assert len(refusals) == 2, "a line a mistake, once"
    assert "sources.0.mqtt.nme: unknown key, did you mean name?" in "".join(refusals)
    assert said[-1] == "stopped; what is not delivered waits on disk"
    assert "secret-token" not in json.dumps(lines)
