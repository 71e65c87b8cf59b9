"""The configuration of nginx and mosquitto in deploy/, loaded by both and used for what it is there for."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np

from ingest_service.access.config import AccessConfig
from shopfloor.block import make_block
from shopfloor.messages import BATCH_MEDIA_TYPE, Batch, Lane
from shopfloor.wire import encode_batch
from tests.integration.deployed import DEPLOY, SECRET, adapted, listens, own, place, program, started
from tests.integration.ingest_server import SERIES, running
from tests.integration.tls_files import Authority
from tests.ports import free_port

__all__ = ["place"]


async def test_nginx_ends_tls_and_passes_everything_on(place: tuple[Path, str | None]) -> None:
    program("nginx", "nginx")
    folder, user = place
    authority = Authority(folder)
    certificate, key = authority.certificate("proxy", server=True)
    own(user, certificate, key)
    plain, secure = free_port(), free_port()
    proxied = AccessConfig(proxies=("127.0.0.1",))
    async with running(folder, behind_proxy=True, access=proxied) as plant:
        configuration = adapted(
            "nginx/nginx.conf",
            folder,
            {
                "/tmp/": f"{folder}/",
                "/run/secrets/server_certificate": str(certificate),
                "/run/secrets/server_key": str(key),
                "listen 8080;": f"listen 127.0.0.1:{plain};",
                "listen 8443 ssl;": f"listen 127.0.0.1:{secure} ssl;",
                "http://ingest:8080": str(plant.client.base_url).rstrip("/"),
                "http://grafana:3000": f"http://127.0.0.1:{free_port()}",
            },
        )

        def answers() -> bool:
            # `nginx -t` listens for a moment, too, but answers nothing.
            try:
                return httpx.get(f"http://127.0.0.1:{plain}/healthz", timeout=5).status_code == 200
            except httpx.HTTPError:
                return False

        start = [
            "sh",
            str(DEPLOY / "nginx" / "start.sh"),
            str(configuration),
            str(folder / "resolver.conf"),
        ]
        log = folder / "log"
        with started(start, user, answers, log, signal.SIGQUIT):
            assert (folder / "resolver.conf").read_text().startswith("resolver ")
            async with httpx.AsyncClient(verify=authority.client(), timeout=30) as client:
                assert (await client.get(f"http://127.0.0.1:{plain}/healthz")).text == "ok\n"
                moved = await client.get(f"http://localhost:{plain}/v1/series?x=1")
                assert (moved.status_code, moved.headers["location"]) == (
                    308,
                    "https://localhost/v1/series?x=1",
                )
                url = f"https://localhost:{secure}"
                answer = await client.get(f"{url}/readyz")
                assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
                assert "max-age" in answer.headers["strict-transport-security"]
                assert answer.headers["x-frame-options"] == "DENY"
                # Larger than what nginx takes of itself.
                n, now = 200_000, time.time_ns()
                values = np.random.default_rng(1).random(n)
                block = make_block(SERIES, np.arange(n) % 2, now + np.arange(n) * 1_000_000, now, values)
                large = encode_batch(Batch("gateway", "stream-1", Lane.LIVE, 1, block))
                assert len(large) > 2**20
                taken = await client.post(
                    f"{url}/v1/batches",
                    content=large,
                    headers=plant.agent | {"Content-Type": BATCH_MEDIA_TYPE},
                )
                assert taken.status_code == 200, taken.text
                async with client.stream("GET", f"{url}/v1/live", headers=plant.viewer) as live:
                    assert live.status_code == 200
                    assert live.headers["content-type"].startswith("text/event-stream")
                    assert (await anext(live.aiter_lines())) != ""
                led = await client.get(f"{url}/grafana/live/")
                assert (led.status_code, led.headers["location"]) == (302, f"{url}/")
                moved = await client.get(f"{url}/grafana")
                assert moved.headers["location"] == f"{url}/grafana/"
                away = await client.get(f"{url}/grafana/")
                assert away.status_code == 502
        assert " 502 " in log.read_text()
        assert " 200 " not in log.read_text()


def test_mosquitto_lets_machines_write_below_their_names_only(
    tmp_path: Path, place: tuple[Path, str | None]
) -> None:
    program("mosquitto", "mosquitto")
    folder, user = place
    authority = Authority(folder)
    certificate, key = authority.certificate("broker", server=True)
    data = folder / "data"
    data.mkdir()
    users = folder / "broker_users"
    users.write_text(f"agent:{SECRET}\nimm-01:{SECRET} of imm-01\n")
    own(user, certificate, key, data, users)
    plain, secure = free_port(), free_port()
    acl = adapted("mosquitto/acl.conf", folder, {})
    configuration = adapted(
        "mosquitto/mosquitto.conf",
        folder,
        {
            "/tmp/passwords": f"{folder}/passwords",
            "/mosquitto/config/acl.conf": str(acl),
            "/mosquitto/data/": f"{data}/",
            "/run/secrets/server_certificate": str(certificate),
            "/run/secrets/server_key": str(key),
            "listener 1883": f"listener {plain} 127.0.0.1",
            "listener 8883": f"listener {secure} 127.0.0.1",
        },
    )
    words = [str(DEPLOY / "mosquitto" / "start.sh"), str(users), str(configuration), f"{folder}/passwords"]
    tls = ["-h", "localhost", "-p", str(secure), "--cafile", str(authority.file), "-V", "mqttv5"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    def says(user: str, password: str, topic: str, text: str) -> subprocess.CompletedProcess[str]:
        who = ["-u", user, "-P", password] if user else []
        return run(
            program("mosquitto_pub", "mosquitto-clients"), *tls, *who, "-q", "1", "-t", topic, "-m", text
        )

    with started(["sh", *words], user, lambda: listens(secure), folder / "log", signal.SIGTERM):
        assert SECRET not in (folder / "passwords").read_text()
        agent = ["-h", "127.0.0.1", "-p", str(plain), "-u", "agent", "-P", SECRET]
        with subprocess.Popen(
            [
                program("mosquitto_sub", "mosquitto-clients"),
                *agent,
                "-q",
                "1",
                "-t",
                "#",
                "-v",
                "-C",
                "1",
                "-W",
                "60",
            ],
            stdout=subprocess.PIPE,
            text=True,
        ) as listening:
            mine, other = f"{SECRET} of imm-01", "machines/imm-02/hk01/a/l"
            assert says("", "", "machines/imm-01/hk01/a/l", "0").returncode != 0
            assert says("imm-01", "wrong", "machines/imm-01/hk01/a/l", "1").returncode != 0
            assert "Not authorized" in says("imm-01", mine, other, "2").stderr
            assert "Not authorized" in says("agent", SECRET, other, "3").stderr
            # Nobody says when the agent is there.
            while listening.poll() is None:
                done = says("imm-01", mine, "machines/imm-01/hk01/a/l", "4")
                assert (done.returncode, done.stderr) == (0, "")
            assert listening.communicate(timeout=60)[0] == "machines/imm-01/hk01/a/l 4\n"
    bad = tmp_path / "users"
    bad.write_text("agent:short\n")
    ended = run("sh", words[0], str(bad), str(configuration), f"{tmp_path}/passwords")
    assert (ended.returncode, ended.stdout) == (2, "1\n")
    assert "NAME:PASSWORD with 12 characters or more" in ended.stderr
