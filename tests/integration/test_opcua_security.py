"""The agent's own way through every security policy, and all the ways in which it must not go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge_agent.doctor.opcua import look_at_opcua
from edge_agent.sources.opcua import OpcUaSource, connect
from edge_agent.sources.opcua.config import OpcUaConfig
from edge_agent.sources.opcua.connect import Applicant, open_session
from edge_agent.sources.opcua.pki import Pki
from shopfloor.__main__ import main
from shopfloor.errors import SourceMisconfigured, SourceUnavailable
from shopfloor.findings import Finding, Verdict
from simulators.protocols.opcua import PlantServer
from simulators.protocols.opcua_security_config import OpcUaSecurity
from simulators.protocols.opcua_standard import SharingServer
from tests.integration.euromap77_servers import URI, site
from tests.integration.opcua_certificates import Made, make
from tests.integration.opcua_plant import MemorySink, running
from tests.ports import free_port

MACHINE = "cell: imm-01, zones: 3"
POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
ALL = [f"{policy}_{mode}" for policy in POLICIES for mode in ("Sign", "SignAndEncrypt")]
ENCRYPTED = {"policy": "Basic256Sha256"}


@asynccontextmanager
async def serving(
    folder: Path, port: int | None = None, certificate: Made | None = None, **security: Any
) -> AsyncIterator[PlantServer]:
    """Serve one machine; with a ``certificate`` the server shows that one instead of its own."""
    pki = folder / "server-pki"
    if certificate is not None:
        pki.mkdir(exist_ok=True)
        (pki / "server.der").write_bytes(certificate.der)
        (pki / "server.pem").write_bytes(
            certificate.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
    given = {"policies": ["None", *ALL], "pki": str(pki), **security}
    server = PlantServer(site(MACHINE, port=port), "127.0.0.1", security=OpcUaSecurity.model_validate(given))
    await server.start()
    try:
        yield server
    finally:
        assert server._server is not None
        for session in list(server._server.iserver._external_sessions.values()):
            await session.close_session(True)
        await server.stop()


def passwords(folder: Path, **users: str) -> dict[str, str]:
    for name, password in users.items():
        (folder / name).write_text(password, encoding="utf-8")
    return {name: f"file:{folder / name}" for name in users}


def agent(endpoint: str, folder: Path, **changes: Any) -> OpcUaConfig:
    node = {
        "node": f"nsu={URI};s=imm-01.MachineInformation.SerialNumber",
        "asset": "acme/hk01",
        "signal": "serial",
    }
    given: dict[str, Any] = {
        "name": "imm",
        "endpoint": endpoint,
        "nodes": [node],
        "request_timeout_s": 10,
        "security": ENCRYPTED,
        **changes,
    }
    if "policy" in given["security"] and given["security"]["policy"] != "None":
        given["security"] = {"pki": str(folder / "pki"), **given["security"]}
    return OpcUaConfig.model_validate(given)


async def serial(config: OpcUaConfig, applicant: Applicant | None = None) -> str:
    """Connect as configured; return what is read of the machine."""
    async with open_session(config, applicant=applicant or Applicant("a1")) as session:
        node = ua.NodeId(
            ua.String("imm-01.MachineInformation.SerialNumber"), ua.Int16(session.namespaces[URI])
        )
        [value] = await session.read_attributes([node], AttributeIds.Value)
        assert value.Value is not None
        return str(value.Value.Value)


async def doctor(config: OpcUaConfig) -> list[Finding]:
    """Look at the server; a configuration without a policy needs no folder of certificates."""
    section = await look_at_opcua(config, agent_id="a1", pki=config.security.pki or Path("unused"))
    return list(section.findings)


def accept(folder: Path) -> None:
    """Do what the message says."""
    pki = Pki(folder / "pki")
    [kept] = pki.read("rejected")[0]
    assert main(["edge", "trust", "accept", str(pki.folder), kept.file.stem]) == 0


async def test_every_policy_and_mode(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        with pytest.raises(SourceMisconfigured, match="is not trusted"):
            await serial(agent(server.endpoint, tmp_path))
        accept(tmp_path)
        assert await serial(agent(server.endpoint, tmp_path, security={"policy": "None"})) == "imm-01"
        for name in ALL:
            policy, _, mode = name.rpartition("_")
            config = agent(server.endpoint, tmp_path, security={"policy": policy, "mode": mode})
            assert await serial(config) == "imm-01", name
        own = Pki(tmp_path / "pki").own("a1")
        assert own.application_uri == "urn:shopfloor:edge-agent:a1"
        assert len(list((tmp_path / "pki" / "own").iterdir())) == 2
        assert server._server is not None
        assert len(server._server.iserver._external_sessions) == 0


async def test_an_unknown_server_waits_until_a_person_accepts_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(tmp_path) as server:
        config = agent(server.endpoint, tmp_path)
        source = OpcUaSource(config, agent_id="a1")
        with pytest.raises(SourceMisconfigured) as refused:
            await source.run(MemorySink())
        [waiting] = Pki(tmp_path / "pki").read("rejected")[0]
        assert f"shopfloor edge trust accept AGENT_YAML {waiting.file.stem}" in str(refused.value)
        assert "application URI urn:shopfloor:simulator:acme:hk01" in str(refused.value)

        offered, verdict, own = await doctor(config)
        assert [each.verdict is Verdict.FAILURE for each in (offered, verdict, own)] == [False, True, False]
        assert "Basic256Sha256 with SignAndEncrypt is used, it takes anonymous access" in offered.text
        accept(tmp_path)
        assert "trusted: Shopfloor simulator" in capsys.readouterr().out

        found = await doctor(config)
        assert Verdict.FAILURE not in {finding.verdict for finding in found}
        assert "is trusted through itself" in found[1].text
        assert "it is for " in found[1].text  # the simulator's certificate does not name 127.0.0.1
        assert "our own certificate" in found[2].text
        assert "session timeout 60 s" in found[3].text
        sink = MemorySink()
        async with running(source, sink):
            await sink.until(lambda: [sample.text for sample in sink.samples] == ["imm-01"])
        assert sink.reports[-1][1] == ""


async def test_a_changed_certificate_is_refused(tmp_path: Path) -> None:
    first, second = make(uri=URI), make(uri=URI, key="second")
    port = free_port()
    config = agent(f"opc.tcp://127.0.0.1:{port}", tmp_path)
    Pki(tmp_path / "pki").keep("trusted", first.certificate)
    async with serving(tmp_path, port, first):
        assert await serial(config) == "imm-01"
    async with serving(tmp_path, port, second):
        with pytest.raises(SourceMisconfigured, match=f"it has changed; trusted is {first.thumbprint}"):
            await serial(config)
        [waiting] = Pki(tmp_path / "pki").read("rejected")[0]
        assert waiting.certificate == second.certificate
        accept(tmp_path)
        assert await serial(config) == "imm-01"


async def test_an_expired_certificate_is_refused_although_it_is_trusted(tmp_path: Path) -> None:
    expired = make(uri=URI, end=timedelta(days=-1))
    Pki(tmp_path / "pki").keep("trusted", expired.certificate)
    async with serving(tmp_path, certificate=expired) as server:
        with pytest.raises(SourceMisconfigured, match="refused: it expired on "):
            await serial(agent(server.endpoint, tmp_path))


async def test_users_and_their_passwords(tmp_path: Path) -> None:
    known, stranger = make("operator", uri="urn:o"), make("stranger", uri="urn:s")
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "operator.der").write_bytes(known.der)
    people = {
        name: dict(zip(("user_certificate", "user_key"), map(str, made.write(tmp_path, name)), strict=True))
        for name, made in (("known", known), ("stranger", stranger))
    }
    secrets = passwords(tmp_path, mes="right", wrong="wrong")
    async with serving(
        tmp_path,
        anonymous=False,
        users={"mes": secrets["mes"]},
        users_without_encryption=["mes"],
        user_certificates=str(tmp_path / "users"),
    ) as server:

        def configured(**changes: Any) -> OpcUaConfig:
            return agent(server.endpoint, tmp_path, **changes)

        right = {"user": "mes", "password": secrets["mes"]}
        with pytest.raises(SourceMisconfigured, match="not trusted"):
            await serial(configured(**right))
        accept(tmp_path)
        for policy in POLICIES:
            for mode in ("Sign", "SignAndEncrypt"):
                security = {"policy": policy, "mode": mode}
                assert await serial(configured(security=security, **right)) == "imm-01"
        assert await serial(configured(**people["known"])) == "imm-01"
        unencrypted = {"security": {"policy": "None"}, "allow_insecure_user": "mes"}
        assert await serial(configured(**right, **unencrypted)) == "imm-01"
        for changes, said in (
            ({"user": "mes", "password": secrets["wrong"]}, "the server refuses user 'mes'"),
            ({"user": "nobody", "password": secrets["mes"]}, "the server refuses user 'nobody'"),
            (people["stranger"], "the server refuses the user of "),
            ({}, "refuses anonymous access here; it takes user certificates, user names"),
            ({**people["known"], "user_key": people["stranger"]["user_key"]}, "is not the key of"),
            ({**people["known"], "user_key": str(tmp_path / "none")}, "user_key: .*: No such file"),
        ):
            with pytest.raises(SourceMisconfigured, match=said) as refused:
                await serial(configured(**changes))
            assert "wrong" not in str(refused.value)
        assert server._server is not None
        assert len(server._server.iserver._external_sessions) == 0


async def test_a_password_is_not_sent_where_the_server_wants_it_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may say that passwords come in the clear on a channel that is signed only."""
    secrets = passwords(tmp_path, mes="right")
    sent: list[object] = []
    activate = Client._activate_with_credentials

    async def watched(client: Any) -> Any:
        sent.append(client)
        return await activate(client)

    monkeypatch.setattr(Client, "_activate_with_credentials", watched)
    async with serving(tmp_path, anonymous=False, users=secrets) as server:
        assert server._server is not None
        for endpoint in server._server.iserver.endpoints:
            for token in endpoint.UserIdentityTokens:
                token.SecurityPolicyUri = "http://opcfoundation.org/UA/SecurityPolicy#None"
        signed = agent(
            server.endpoint,
            tmp_path,
            security={"policy": "Basic256Sha256", "mode": "Sign"},
            user="mes",
            password=secrets["mes"],
        )
        with pytest.raises(SourceMisconfigured, match="not trusted"):
            await serial(signed)
        accept(tmp_path)
        with pytest.raises(SourceMisconfigured, match="wants the password of 'mes' unencrypted"):
            await serial(signed)
        assert sent == []


@pytest.mark.parametrize(
    ("offered", "wanted", "said"),
    [
        (["None"], ENCRYPTED, "does not offer Basic256Sha256 with SignAndEncrypt; it offers: None"),
        (
            ["None", "Basic256Sha256_Sign"],
            ENCRYPTED,
            "it offers: None, Basic256Sha256 with Sign",
        ),
        (
            ["Aes256_Sha256_RsaPss_SignAndEncrypt"],
            {"policy": "None"},
            "does not offer None; it offers: Aes256_Sha256_RsaPss with SignAndEncrypt",
        ),
    ],
)
async def test_nothing_else_is_used_than_what_is_configured(
    tmp_path: Path, offered: list[str], wanted: dict[str, str], said: str
) -> None:
    async with serving(tmp_path, policies=offered) as server:
        config = agent(server.endpoint, tmp_path, security=wanted)
        with pytest.raises(SourceMisconfigured, match=said):
            await serial(config)
        [finding] = await doctor(config)
        assert finding.verdict is Verdict.FAILURE
        assert f"but not {config.security}" in finding.text


@pytest.mark.parametrize("policy", ["Basic256", "Basic128Rsa15"])
async def test_the_old_policies_of_old_controllers(tmp_path: Path, policy: str) -> None:
    server_certificate = make(uri="urn:old", hosts=("127.0.0.1",))
    certificate_file, key_file = server_certificate.write(tmp_path, "old")
    endpoint = f"opc.tcp://127.0.0.1:{free_port()}"
    server = Server(SharingServer())
    await server.init()
    server.set_endpoint(endpoint)
    await server.set_application_uri("urn:old")
    server.set_security_policy(
        [getattr(ua.SecurityPolicyType, f"{policy}_{mode}") for mode in ("Sign", "SignAndEncrypt")]
    )
    await server.load_certificate(str(certificate_file))
    await server.load_private_key(str(key_file))
    Pki(tmp_path / "pki").keep("trusted", server_certificate.certificate)
    async with server:
        for mode in ("Sign", "SignAndEncrypt"):
            config = agent(endpoint, tmp_path, security={"policy": policy, "mode": mode})
            async with open_session(config, applicant=Applicant("a1")) as session:
                assert "http://opcfoundation.org/UA/" in session.namespaces
        found = await doctor(config)
        assert (found[0].verdict, "this policy is deprecated" in found[0].text) == (Verdict.WARNING, True)


async def test_the_end_of_certificates_is_reported_while_all_goes_on(tmp_path: Path) -> None:
    ending = make(uri=URI, end=timedelta(days=20))
    pki = Pki(tmp_path / "pki")
    pki.keep("trusted", ending.certificate)
    pki.own("a1")
    mine = make("agent", uri="urn:plant:a1", end=timedelta(days=10))
    certificate_file, key_file = mine.write(tmp_path, "mine")
    certificate_file.replace(tmp_path / "pki" / "own" / "certificate.der")
    key_file.replace(tmp_path / "pki" / "own" / "private_key.pem")
    async with serving(tmp_path, certificate=ending) as server:
        sink = MemorySink()
        async with running(OpcUaSource(agent(server.endpoint, tmp_path)), sink):
            await sink.until(lambda: bool(sink.samples) and sink.running)
        message = sink.reports[-1][1]
        assert "own/certificate.der ends on" in message
        assert "the server's certificate ends on" in message


async def test_an_encrypted_channel_is_renewed_while_values_flow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "CHANNEL_LIFETIME_MS", 600)
    renewed = 0
    original: Callable[..., Any] = Client.open_secure_channel

    async def counted(client: Any, renew: bool = False) -> None:
        nonlocal renewed
        await original(client, renew)
        renewed += renew

    monkeypatch.setattr(Client, "open_secure_channel", counted)
    async with serving(tmp_path) as server:
        config = agent(server.endpoint, tmp_path, watchdog_s=0.1)
        with pytest.raises(SourceMisconfigured):
            await serial(config)
        accept(tmp_path)
        sink = MemorySink()
        async with running(OpcUaSource(config), sink) as task:
            await sink.until(lambda: renewed >= 3 or task.done())
            assert not task.done()
            assert sink.running


async def test_without_a_folder_for_certificates(tmp_path: Path) -> None:
    config = agent("opc.tcp://127.0.0.1:1", tmp_path)
    bare = config.model_copy(update={"security": config.security.model_copy(update={"pki": None})})
    with pytest.raises(SourceMisconfigured, match="no folder for certificates"):
        await serial(bare)
    with pytest.raises(SourceUnavailable):
        await serial(bare, Applicant("a1", tmp_path / "default"))
    assert (tmp_path / "default" / "own" / "certificate.der").exists()
