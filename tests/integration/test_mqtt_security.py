"""Who may connect and what they may read: client certificates, passwords and access lists of a real broker."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import paho.mqtt.client as paho
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.sources.mqtt import MqttSource
from shopfloor.errors import SourceMisconfigured, SourceUnavailable
from tests.integration.mqtt_brokers import MemorySink, config, mosquitto, publish, running, until

TOPIC = "meters/hk01/c1"
PROTOCOLS = pytest.mark.parametrize("protocol", ["3.1.1", "5"])


class Authority(NamedTuple):
    """A certificate authority of a test."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def issue(self, name: str, folder: Path) -> dict[str, str]:
        """Write certificate and key of somebody called ``name``; returns their files, and the authority's."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = (
            _begun(name, key, self.certificate.subject)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                ),
                critical=False,
            )
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )
        files = {part: str(folder / f"{name}.{part}.pem") for part in ("ca", "cert", "key")}
        pem = serialization.Encoding.PEM
        Path(files["ca"]).write_bytes(self.certificate.public_bytes(pem))
        Path(files["cert"]).write_bytes(made.public_bytes(pem))
        Path(files["key"]).write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return files


def authority(name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = _begun(name, key, subject).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    return Authority(key, made.sign(key, hashes.SHA256()))


def _begun(name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
    )


async def published(
    port: int, *messages: tuple[str, str], tls: dict[str, str] | None = None, **user: Any
) -> None:
    """Publish as a client of its own, and return when the broker has acknowledged."""

    def work() -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2)
        if tls is not None:
            client.tls_set(tls["ca"], tls["cert"], tls["key"])
        if user:
            client.username_pw_set(**user)
        client.connect("127.0.0.1", port)
        client.loop_start()
        try:
            for topic, payload in messages:
                client.publish(topic, payload, qos=1).wait_for_publish(30)
        finally:
            client.disconnect()
            client.loop_stop()

    await asyncio.to_thread(work)


async def refused(settings: Any) -> Exception:
    with pytest.raises((SourceUnavailable, SourceMisconfigured)) as caught:
        await asyncio.wait_for(MqttSource(settings).run(MemorySink()), 30)
    return caught.value


@PROTOCOLS
async def test_a_broker_that_asks_for_certificates(tmp_path: Path, protocol: str) -> None:
    plant, stranger = authority("plant"), authority("stranger")
    own = plant.issue("gateway", tmp_path)
    server = plant.issue("broker", tmp_path)
    lines = [
        *(f"cafile {server['ca']}", f"certfile {server['cert']}", f"keyfile {server['key']}"),
        *("require_certificate true", "use_identity_as_username true"),
        f"acl_file {tmp_path}/acl",
    ]
    # The user is who the certificate names.
    (tmp_path / "acl").write_text("user gateway\ntopic read meters/#\nuser meter\ntopic write meters/#\n")
    (tmp_path / "acl").chmod(0o644)
    async with mosquitto(tmp_path, *lines, anonymous=False, tls=True) as broker:
        options: dict[str, Any] = {"broker": f"mqtts://127.0.0.1:{broker.port}", "protocol": protocol}
        sink = MemorySink()
        async with running(MqttSource(config(broker.port, tls=own, **options)), sink):
            meter = plant.issue("meter", tmp_path)
            await published(broker.port, (TOPIC, '{"ts": 1, "n": 7}'), tls=meter)
            await until(lambda: sink.values == [7], "the message arrived")
        for tls in ({"ca": own["ca"]}, {**stranger.issue("gateway-2", tmp_path), "ca": own["ca"]}):
            error = await refused(config(broker.port, tls=tls, **options))
            assert "127.0.0.1" in str(error)
        # A broker that nobody we trust vouches for is never told who we are.
        error = await refused(config(broker.port, tls=stranger.issue("gateway-3", tmp_path), **options))
        assert isinstance(error, SourceMisconfigured)
        assert "not trusted" in str(error)


@PROTOCOLS
async def test_users_read_what_the_access_list_allows(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed")
    passwords, acl = tmp_path / "passwords", tmp_path / "acl"
    for user, more in (("gateway", ["-c"]), ("meter", [])):
        command = [program, "-b", *more, str(passwords), user, f"{user}-secret"]
        subprocess.run(command, check=True, capture_output=True)
    acl.write_text(
        "user gateway\ntopic read meters/#\nuser meter\ntopic write meters/#\ntopic write recipes/#\n"
    )
    for file in (passwords, acl):
        file.chmod(0o644)
    monkeypatch.setenv("GATEWAY_PASSWORD", "gateway-secret")
    topics = [
        {
            "topic": "{kind}/hk01/{cell}",
            "asset": "acme/hk01",
            "signals": [{"path": "n", "signal": "{kind}.{cell}"}],
        }
    ]
    lines = [f"password_file {passwords}", f"acl_file {acl}"]
    async with mosquitto(tmp_path, *lines, anonymous=False) as broker:
        settings = config(
            broker.port, topics=topics, user="gateway", password="${GATEWAY_PASSWORD}", protocol=protocol
        )
        sink = MemorySink()
        async with running(MqttSource(settings), sink):
            messages = [("recipes/hk01/c1", '{"n": 1}'), ("meters/hk01/c1", '{"n": 2}')]
            await published(broker.port, *messages, username="meter", password="meter-secret")
            # What was published before it and may not be read has not come.
            await until(lambda: sink.values == [2], "what may be read has arrived")
        assert [row.series.signal for row in sink.rows] == ["meters.c1"]
        assert isinstance(
            await refused(config(broker.port, topics=topics, protocol=protocol)), SourceMisconfigured
        )


@PROTOCOLS
async def test_a_session_outlives_a_restart_of_the_broker(tmp_path: Path, protocol: str) -> None:
    async with mosquitto(tmp_path) as broker:
        sink = MemorySink()
        settings = config(broker.port, protocol=protocol)
        async with running(MqttSource(settings), sink):
            pass
        await publish(broker.port, TOPIC, *(f'{{"ts": {n}, "n": {n}}}' for n in range(50)))
        await broker.stop(signal.SIGTERM)
        await broker.start()
        await publish(broker.port, TOPIC, *(f'{{"ts": {n}, "n": {n}}}' for n in range(50, 60)))
        async with running(MqttSource(settings), sink):
            await until(lambda: len(sink.values) >= 60, "all arrived")
        assert sink.values == list(range(60))
        assert sink.counts["session_resumed"] == 1
        assert sink.gaps == []
