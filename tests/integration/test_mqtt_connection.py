"""Connecting, being refused, being cut off and leaving, with real brokers and with impostors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.sources.mqtt import MqttSource
from edge_agent.sources.mqtt.check import check
from shopfloor.errors import SourceMisconfigured, SourceUnavailable
from tests.integration.mqtt_brokers import MemorySink, Publisher, config, mosquitto, nats, publish, running
from tests.ports import free_port

TOPIC = "meters/hk01/c1"


async def outcome(settings: Any, sink: MemorySink | None = None) -> Exception:
    task = asyncio.create_task(MqttSource(settings).run(sink or MemorySink()))
    with pytest.raises((SourceUnavailable, SourceMisconfigured)) as caught:
        await asyncio.wait_for(task, 30)
    return caught.value


async def test_nobody_listens() -> None:
    error = await outcome(config(free_port()))
    assert isinstance(error, SourceUnavailable)
    assert "127.0.0.1:" in str(error)


async def test_a_name_that_does_not_resolve() -> None:
    error = await outcome(config(1, broker="mqtt://no-such-host.invalid:1883", connect_timeout_s=5))
    assert isinstance(error, SourceUnavailable)


@contextlib.asynccontextmanager
async def impostor(*answers: bytes) -> AsyncIterator[int]:
    """A server that answers each thing it is told with the next of ``answers``; b"" hangs up."""

    visitors: list[None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visitors.append(None)
        for answer in answers:
            await reader.read(1_000)
            if not answer:
                break
            writer.write(answer)
        else:
            with contextlib.suppress(OSError):
                while await reader.read(1_000):
                    pass
        writer.close()
        visitors.pop()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        async with asyncio.timeout(10):
            while visitors:
                await asyncio.sleep(0.01)


CONNACK = b"\x20\x02\x00\x00"


@pytest.mark.parametrize(
    ("answers", "kind", "what"),
    [
        ([b""], SourceUnavailable, "does it speak MQTT 3.1.1"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], SourceUnavailable, "not MQTT"),
        ([b"\x20\x02\x00\x03"], SourceUnavailable, "refused the connection by MQTT 3.1.1"),
        ([b"\x20\x02\x00\x04"], SourceMisconfigured, "refused the connection by MQTT 3.1.1"),
        ([b"\x20\x02\x00\x05"], SourceMisconfigured, "refused the connection by MQTT 3.1.1"),
        ([b"\x20\x02\x00\x02"], SourceMisconfigured, "refused the connection by MQTT 3.1.1"),
        ([b"\x20\x00"], SourceUnavailable, "protocol error"),
        ([CONNACK, b""], SourceUnavailable, "another client uses the client id 'gateway-meters'"),
        ([CONNACK, b"\x90\x03\x00\x01\x80"], SourceMisconfigured, "'meters/+/+'"),
        ([CONNACK, b"\x90\x04\x00\x01\x01\x01"], SourceUnavailable, "2 of 1 subscriptions"),
        ([CONNACK, b"\x90\x03\x00\x01\x01\x30\x01\x00"], SourceUnavailable, "not MQTT"),
        ([CONNACK, b"\x90\x03\x00\x01\x01\xf0\x00"], SourceUnavailable, "protocol error"),
    ],
)
async def test_what_brokers_answer(answers: list[bytes], kind: type[Exception], what: str) -> None:
    async with impostor(*answers) as port:
        error = await outcome(config(port, connect_timeout_s=5))
    assert isinstance(error, kind), error
    assert what in str(error)


@pytest.mark.parametrize("answers", [[], [CONNACK]])
async def test_a_silent_broker_is_not_waited_for(answers: list[bytes]) -> None:
    async with impostor(*answers) as port:
        error = await outcome(config(port, connect_timeout_s=0.3))
    assert isinstance(error, SourceUnavailable)
    assert "no answer" in str(error)


async def test_a_broker_that_stops_is_noticed(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        async with running(MqttSource(config(broker.port, keepalive_s=2)), MemorySink()) as task:
            broker.signal(signal.SIGSTOP)
            try:
                with pytest.raises(SourceUnavailable, match="silent for"):
                    await asyncio.wait_for(asyncio.shield(task), 20)
            finally:
                broker.signal(signal.SIGCONT)


async def test_mqtt_5_brokers_say_why_they_end_a_connection() -> None:
    for reason, what in [(b"\x8e", "'gateway-meters' and took the session over"), (b"\x8b", "shutting down")]:
        answers = [b"\x20\x03\x00\x00\x00", b"\x90\x04\x00\x01\x00\x01\xe0\x02" + reason + b"\x00"]
        async with impostor(*answers) as port:
            error = await outcome(config(port, protocol="5"))
        assert isinstance(error, SourceUnavailable)
        assert what in str(error)


async def test_a_second_client_with_our_id_is_named(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        settings = config(broker.port)
        async with running(MqttSource(settings), MemorySink()) as first:
            async with running(MqttSource(settings), MemorySink()):
                with pytest.raises(SourceUnavailable, match="another client uses the client id"):
                    await asyncio.wait_for(asyncio.shield(first), 20)


async def test_mqtt_5_with_a_broker_of_3_1_1_only(tmp_path: Path) -> None:
    async with nats(tmp_path) as broker:
        error = await outcome(config(broker.port, protocol="5", connect_timeout_s=5))
    assert "MQTT 5" in str(error)


async def test_passwords(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed")
    passwords = tmp_path / "passwords"
    subprocess.run(
        [program, "-b", "-c", str(passwords), "gateway", "hunter2"], check=True, capture_output=True
    )
    passwords.chmod(0o644)
    monkeypatch.setenv("RIGHT", "hunter2")
    monkeypatch.setenv("WRONG", "hunter3")
    with caplog.at_level(logging.DEBUG):
        async with mosquitto(
            tmp_path, "allow_anonymous false", f"password_file {passwords}", anonymous=False
        ) as broker:
            for protocol in ("3.1.1", "5"):
                options = {"user": "gateway", "protocol": protocol}
                error = await outcome(config(broker.port, password="${WRONG}", **options))
                assert isinstance(error, SourceMisconfigured)
                assert "hunter3" not in str(error)
                assert isinstance(await outcome(config(broker.port, protocol=protocol)), SourceMisconfigured)
                async with running(
                    MqttSource(config(broker.port, password="${RIGHT}", **options)), MemorySink()
                ) as task:
                    assert not task.done()
    assert "hunter" not in caplog.text


async def test_tls(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    for name in ("broker", "other"):
        subprocess.run(
            [
                *(
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-days",
                    "2",
                    "-subj",
                    "/CN=localhost",
                ),
                *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
                *("-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")),
            ],
            check=True,
            capture_output=True,
        )
    files = [f"certfile {tmp_path}/broker.pem", f"keyfile {tmp_path}/broker.key"]
    async with mosquitto(tmp_path, *files, tls=True) as broker:
        where = f"mqtts://localhost:{broker.port}"
        trusted = config(broker.port, broker=where, tls={"ca": str(tmp_path / "broker.pem")})
        sink = MemorySink()
        async with running(MqttSource(trusted), sink) as task:
            publisher = await asyncio.to_thread(Publisher, broker.port, ca=str(tmp_path / "broker.pem"))
            payloads = [f'{{"ts":{n},"n":{n},"pad":"{"x" * 1_000}"}}' for n in range(500)]
            await asyncio.to_thread(publisher.publish, TOPIC, *payloads)
            await asyncio.to_thread(publisher.close)
            async with asyncio.timeout(30):
                while len(sink.rows) < 500:
                    if task.done():
                        task.result()
                    await asyncio.sleep(0.02)
        assert sink.values == list(range(500))

        untrusted = config(broker.port, broker=where, tls={"ca": str(tmp_path / "other.pem")})
        error = await outcome(untrusted)
        assert isinstance(error, SourceMisconfigured)
        assert "not trusted" in str(error)
        for wrong in ("missing.pem", "broker.key"):
            error = await outcome(config(broker.port, broker=where, tls={"ca": str(tmp_path / wrong)}))
            assert isinstance(error, SourceMisconfigured)
            assert wrong in str(error)
        assert isinstance(await outcome(config(broker.port)), SourceUnavailable)


async def test_leaving_at_any_moment_leaves_nothing_behind(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        for steps in range(60):
            task = asyncio.create_task(MqttSource(config(broker.port)).run(MemorySink()))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            left = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
            assert not left, steps


async def test_subscriptions_that_were_taken_out_of_the_configuration_end(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        sink = MemorySink()
        old = [{"topic": "old/{x}", "asset": "acme/s", "signals": [{"signal": "v"}]}]
        async with running(MqttSource(config(broker.port, topics=old)), sink):
            pass
        async with running(MqttSource(config(broker.port)), sink):
            await publish(broker.port, "old/x", "1")
            await publish(broker.port, TOPIC, '{"n": 1}')
            async with asyncio.timeout(30):
                while not sink.rows:
                    await asyncio.sleep(0.02)
        assert sink.counts["unmatched_topic"] == 0
        assert sink.counts["message"] == 1


async def test_the_check_shows_what_the_configuration_makes_of_a_broker(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker:
        await publish(broker.port, TOPIC, '{"ts": 1763778000123, "n": 7}', retain=True)
        await publish(broker.port, "other/x", "1", retain=True)
        silent = {"topic": "silent/{x}", "asset": "acme/s", "signals": "all"}
        settings = config(broker.port)
        settings = settings.model_copy(
            update={"topics": (*settings.topics, type(settings.topics[0]).model_validate(silent))}
        )
        findings = [str(finding) for finding in await check(settings, listen_s=0.5)]
        assert findings[0].startswith("connected to mqtt://127.0.0.1")
        assert any("acme/hk01/a/l/c1:counter = 7" in line for line in findings)
        assert any("silent/{x}: no message" in line for line in findings)
        assert any("other/x" in line for line in findings)
        # The visit left the agent's own session alone: there is none yet.
        sink = MemorySink()
        async with running(MqttSource(settings), sink):
            assert sink.counts["session_begun"] == 1


async def test_the_check_of_a_broker_that_is_away() -> None:
    (finding,) = await check(config(free_port()), listen_s=0.5)
    assert not finding.sound
