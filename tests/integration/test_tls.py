"""TLS and mutual TLS: who gets as far as a request, and new certificates without an interruption."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from edge_agent.uplink import AiohttpExchange, client_context
from ingest_service.access import passwords, users
from ingest_service.access.config import TlsConfig
from ingest_service.auth import Role, create_token
from ingest_service.certificates import Certificates
from ingest_service.config import IngestConfig
from ingest_service.server import Server, make_server
from shopfloor.errors import UplinkUnavailable
from tests.integration.tls_files import Authority


class Served:
    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.base_url = f"https://localhost:{port}"
        self.port = port

    def token(self, role: Role, certificate: str = "") -> dict[str, str]:
        engine = self.server._service.plant.engine
        text = create_token(engine, role, "acme", "test", certificate=certificate)
        return {"Authorization": f"Bearer {text}"}

    async def get(self, context: ssl.SSLContext, path: str, headers: dict[str, str]) -> int:
        async with httpx.AsyncClient(base_url=self.base_url, verify=context, timeout=30) as client:
            return (await client.get(path, headers=headers)).status_code


@asynccontextmanager
async def served(authority: Authority, **tls: Any) -> AsyncIterator[Served]:
    certificate, key = authority.certificate("service", server=True)
    server = make_server(
        IngestConfig(
            listen="127.0.0.1:0",
            data=authority.folder / "data",
            tls=TlsConfig(certificate=certificate, key=key, **tls),
        )
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done(), serving.exception()
        await asyncio.sleep(0.01)
    try:
        yield Served(server, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await serving


async def check_a_stolen_token_does_not_write_without_its_certificate(folder: Path) -> None:
    authority = Authority(folder)
    shown = authority.certificate("gateway")
    other = authority.certificate("thief")
    async with served(authority, client_ca=authority.file) as one:
        for name in ("gateway", "gateway.plant"):
            bound = one.token(Role.AGENT, name)
            assert await one.get(authority.client(shown), "/v1/token", bound) == 200
            assert await one.get(authority.client(other), "/v1/token", bound) == 401
            assert await one.get(authority.client(), "/v1/token", bound) == 401
            # Also right after it was used with its certificate, and remembered.
            assert await one.get(authority.client(shown), "/v1/token", bound) == 200
        free = one.token(Role.AGENT)
        assert await one.get(authority.client(), "/v1/token", free) == 200


async def test_a_stolen_token_does_not_write_without_its_certificate(tmp_path: Path) -> None:
    await check_a_stolen_token_does_not_write_without_its_certificate(tmp_path)


def test_uvloop_tells_the_certificate_as_well(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(check_a_stolen_token_does_not_write_without_its_certificate(tmp_path))


async def test_where_certificates_are_required_nobody_else_gets_as_far_as_a_request(tmp_path: Path) -> None:
    authority, strangers = Authority(tmp_path), Authority(tmp_path, "strangers")
    shown, foreign = authority.certificate("gateway"), strangers.certificate("stranger")
    required = {"client_ca": authority.file, "client_certificates": "required"}
    async with served(authority, **required) as one:
        assert await one.get(authority.client(shown), "/healthz", {}) == 200
        for context in (authority.client(), authority.client(foreign)):
            with pytest.raises(httpx.TransportError):
                await one.get(context, "/healthz", {})


async def test_an_agent_shows_its_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.certificate("gateway")
    required = {"client_ca": authority.file, "client_certificates": "required"}
    async with served(authority, **required) as one:
        text = one.token(Role.AGENT, "gateway")["Authorization"].removeprefix("Bearer ")
        for shown, answered in (
            (client_context(authority.file, cert, key), True),
            (client_context(authority.file), False),
        ):
            exchange = AiohttpExchange(one.base_url, text, timeout_s=30, tls=shown)
            try:
                if answered:
                    assert (await exchange("GET", "/v1/token", b"", "application/json")).status == 200
                else:
                    with pytest.raises(UplinkUnavailable):
                        await exchange("GET", "/v1/token", b"", "application/json")
            finally:
                await exchange.close()
    for files in (
        (tmp_path / "gone.pem",),
        (None, key, key),
        (None, cert, authority.certificate("other")[1]),
    ):
        with pytest.raises(OSError, match=r"gone\.pem|gateway\.key|gateway\.crt"):
            client_context(*files)


async def test_new_certificates_hold_for_new_connections_and_cut_no_old_one(tmp_path: Path) -> None:
    authority, later = Authority(tmp_path), Authority(tmp_path, "later")
    async with served(authority) as one:
        async with httpx.AsyncClient(base_url=one.base_url, verify=authority.client()) as kept:
            assert (await kept.get("/healthz")).status_code == 200
            # A half-written pair changes nothing.
            good_key = (tmp_path / "service.key").read_bytes()
            (tmp_path / "service.key").write_text("no key")
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0)
            assert await one.get(authority.client(), "/healthz", {}) == 200
            (tmp_path / "service.key").write_bytes(good_key)
            later.certificate("service", server=True)
            async with asyncio.timeout(60):  # nobody says HUP: the files are looked at by themselves
                while True:
                    try:
                        assert await one.get(later.client(), "/healthz", {}) == 200
                        break
                    except httpx.ConnectError:
                        await asyncio.sleep(0.1)
            with pytest.raises(httpx.ConnectError):
                await one.get(authority.client(), "/healthz", {})
            assert (await kept.get("/healthz")).status_code == 200
            assert len(one.server.server_state.connections) == 1


async def test_an_authority_that_is_taken_out_lets_nobody_in_any_more(tmp_path: Path) -> None:
    authority, old = Authority(tmp_path), Authority(tmp_path, "old")
    shown, leaving = authority.certificate("gateway"), old.certificate("leaving")
    both = tmp_path / "clients.pem"
    both.write_bytes(authority.file.read_bytes() + old.file.read_bytes())
    async with served(authority, client_ca=both, client_certificates="required") as one:
        context = authority.client(leaving)  # keeps what a session could be resumed with
        assert await one.get(context, "/healthz", {}) == 200
        both.write_bytes(authority.file.read_bytes())
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(60):
            while True:
                try:
                    await one.get(context, "/healthz", {})
                except httpx.TransportError:
                    break
                await asyncio.sleep(0.05)
        assert await one.get(authority.client(shown), "/healthz", {}) == 200


async def test_nothing_below_tls_1_2(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with served(authority) as one:
        context = authority.client()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await one.get(context, "/healthz", {}) == 200
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="deprecated"):
            context.minimum_version = ssl.TLSVersion.TLSv1_1
        with pytest.warns(DeprecationWarning, match="deprecated"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.TransportError):
            await one.get(context, "/healthz", {})


async def test_a_session_cookie_is_bound_to_tls_and_to_this_host(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with served(authority) as one:
        users.add_user(
            one.server._service.plant.engine, "anna", passwords.hash_password("x"), Role.VIEWER, "acme"
        )
        async with httpx.AsyncClient(base_url=one.base_url, verify=authority.client(), timeout=30) as client:
            answer = await client.post("/v1/session", json={"user": "anna", "password": "x"})
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith("__Host-shopfloor=")
            assert "Secure" in cookie
            assert "Path=/" in cookie
            assert "Domain" not in cookie
            assert (await client.get("/v1/session")).json()["user"] == "anna"


def test_files_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.certificate("service", server=True)
    _, other = authority.certificate("other", server=True)
    tls = {"certificate": certificate, "key": key}
    cases: list[dict[str, Any]] = [
        {**tls, "key": other},
        {**tls, "certificate": tmp_path / "gone.crt"},
        {**tls, "client_ca": key},
    ]
    for broken in cases:
        config = TlsConfig(**broken)
        with pytest.raises(OSError, match=r"service\.key|other\.key|gone\.crt"):
            Certificates(config)
