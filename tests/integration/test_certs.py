"""What `shopfloor certs` makes, used end to end: a service that demands certificates, the uplink of an agent, a browser's client."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from edge_agent.uplink import AiohttpExchange, HttpUplink, NotAuthorised, client_context
from ingest_service.access.config import TlsConfig
from ingest_service.auth import Role, create_token
from ingest_service.config import IngestConfig
from ingest_service.server import make_server
from shopfloor.__main__ import main
from shopfloor.errors import UplinkUnavailable
from tests.integration.ingest_server import batch


def certs(folder: Path, *words: str) -> None:
    assert main(["certs", *words, "--folder", str(folder)]) == 0


@asynccontextmanager
async def uplink(url: str, token: str, tls: ssl.SSLContext) -> AsyncIterator[HttpUplink]:
    exchange = AiohttpExchange(url, token, timeout_s=30, tls=tls)
    try:
        yield HttpUplink(exchange)
    finally:
        await exchange.close()


async def test_an_agent_delivers_with_the_certificate_that_was_made_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    certs(folder, "init")
    certs(folder, "server", "ingest", "--host", "localhost", "--host", "127.0.0.1")
    for name in ("gateway-hk01", "gateway-dg01"):
        certs(folder, "agent", name)
    strangers = tmp_path / "strangers"
    certs(strangers, "init")
    certs(strangers, "agent", "gateway-hk01")
    own = folder / "authority.crt"
    server = make_server(
        IngestConfig(
            listen="127.0.0.1:0",
            data=tmp_path / "data",
            tls=TlsConfig(
                certificate=folder / "ingest.crt",
                key=folder / "ingest.key",
                client_ca=own,
                client_certificates="required",
            ),
        )
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done(), serving.exception()
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    engine = server._service.plant.engine
    token = create_token(engine, Role.AGENT, "acme/hk01", "gateway", certificate="gateway-hk01")
    try:
        shown = client_context(own, folder / "gateway-hk01.crt", folder / "gateway-hk01.key")
        for first_seq, host in ((1, "localhost"), (11, "127.0.0.1")):  # by name and by address
            async with uplink(f"https://{host}:{port}", token, shown) as link:
                assert (await link.send(batch(first_seq))).durable_through == first_seq + 9
        # The strictest of checks that Python has (RFC 5280 to the letter) finds nothing to say.
        shown.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        async with uplink(f"https://localhost:{port}", token, shown) as link:
            assert (await link.send(batch(21))).durable_through == 30
        other = client_context(own, folder / "gateway-dg01.crt", folder / "gateway-dg01.key")
        async with uplink(f"https://localhost:{port}", token, other) as link:
            with pytest.raises(NotAuthorised):
                await link.send(batch(31))
        for nobody in (
            client_context(own),
            client_context(own, strangers / "gateway-hk01.crt", strangers / "gateway-hk01.key"),
            # A service's certificate is none of an agent.
            client_context(own, folder / "ingest.crt", folder / "ingest.key"),
            client_context(
                strangers / "authority.crt", folder / "gateway-hk01.crt", folder / "gateway-hk01.key"
            ),
        ):
            async with uplink(f"https://localhost:{port}", token, nobody) as link:
                with pytest.raises(UplinkUnavailable):
                    await link.send(batch(31))
        # Renewed while it runs: the key stays, the service takes the files by itself, nobody is cut off.
        before = (folder / "ingest.key").read_bytes()
        certs(folder, "renew", "ingest", "gateway-hk01", "authority")
        assert (folder / "ingest.key").read_bytes() == before
        shown = client_context(own, folder / "gateway-hk01.crt", folder / "gateway-hk01.key")
        renewed = ssl.PEM_cert_to_DER_cert((folder / "ingest.crt").read_text())
        async with asyncio.timeout(60):
            while True:
                async with httpx.AsyncClient(verify=shown, timeout=30) as client:
                    answer = await client.get(f"https://localhost:{port}/healthz")
                    assert answer.status_code == 200
                    stream = answer.extensions["network_stream"]
                    if stream.get_extra_info("ssl_object").getpeercert(binary_form=True) == renewed:
                        break
                await asyncio.sleep(0.05)
        async with uplink(f"https://localhost:{port}", token, shown) as link:
            assert (await link.send(batch(31))).durable_through == 40
    finally:
        server.should_exit = True
        await serving
