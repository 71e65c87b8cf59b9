"""``edge doctor``: a service behind TLS that is older than the agent, and a broker with Sparkplug edge nodes."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from edge_agent.doctor.brokers import look_at_sparkplug
from edge_agent.doctor.uplink import look_at_uplink
from shopfloor.findings import Verdict
from tests.integration.mqtt_brokers import mosquitto
from tests.integration.sparkplug_edge_node import config as sparkplug
from tests.integration.sparkplug_edge_node import edge_node
from tests.integration.test_doctor import agent, failures, figures
from tests.ports import free_port


def write_certificate(folder: Path, *, days: int) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "service")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    file = folder / f"service-{days}.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    return file


@asynccontextmanager
async def old_service(certificate: Path) -> AsyncIterator[str]:
    """Serve what a service without ``/v1/token`` answers."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            status = b"204 No Content" if head.startswith(b"POST /v1/spans ") else b"404 Not Found"
            writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


async def test_the_service_s_certificate(tmp_path: Path) -> None:
    for days, verdict in ((400, Verdict.OK), (20, Verdict.WARNING)):
        certificate = write_certificate(tmp_path, days=days)
        async with old_service(certificate) as url:
            shown, taken = await look_at_uplink(agent(tmp_path, url, "t", ca_file=str(certificate)))
            assert (shown.verdict, shown.figures["tls"][:4]) == (verdict, "TLSv")
            assert (taken.verdict, "too old to tell" in taken.text) == (Verdict.OK, True)
            refused, unreached = await look_at_uplink(agent(tmp_path, url, "t"))
            assert "is not trusted" in refused.text
            assert {refused.verdict, unreached.verdict} == {Verdict.FAILURE}
    nowhere = str(tmp_path / "none.pem")
    (missing,) = await look_at_uplink(agent(tmp_path, "https://127.0.0.1:1", "t", ca_file=nowhere))
    assert (missing.verdict, nowhere in missing.text) == (Verdict.FAILURE, True)


async def test_edge_nodes_are_asked_for_nothing(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, edge_node(broker.port, "p1", {"A/B": "kN"}) as node:
        section = await look_at_sparkplug(sparkplug(broker.port), listen_s=0.3)
        assert node.births == 0
    assert not failures(section)
    assert set(figures(section.findings, "granted_qos")) == set(sparkplug().filters)
    assert any("no host application" in finding.text for finding in section.findings)
    nobody = await look_at_sparkplug(sparkplug(free_port()), listen_s=0.1)
    assert len(failures(nobody)) == len(nobody.findings) == 1
