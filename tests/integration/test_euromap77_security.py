"""Who gets into a EUROMAP 77 server: every policy, user names, certificates, and the ways to be refused."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto import cert_gen, security_policies
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors._base import UaError, UaStatusCodeError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from shopfloor.errors import ConfigError
from simulators.protocols.opcua import PlantServer
from simulators.protocols.opcua_security_config import OpcUaSecurity
from tests.integration.euromap77_servers import URI, serving

CLIENT_URI = "urn:a:client"
ENCRYPTED = "Basic256Sha256_SignAndEncrypt"
MACHINE = "cell: imm-01, zones: 3"


def identity(folder: Path, name: str) -> tuple[Path, Path]:
    """Return a certificate with its key, as somebody's own, made once."""
    files = folder / f"{name}.der", folder / f"{name}.key.pem"
    if files[0].exists():
        return files
    key = cert_gen.generate_private_key()
    certificate = cert_gen.generate_self_signed_app_certificate(
        key, name, {}, [x509.UniformResourceIdentifier(CLIENT_URI)], [ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    folder.mkdir(exist_ok=True)
    files[0].write_bytes(certificate.public_bytes(Encoding.DER))
    files[1].write_bytes(cert_gen.dump_private_key_as_pem(key))
    return files


def security(pki: Path, **given: Any) -> OpcUaSecurity:
    policies = given.pop("policies", ["None", ENCRYPTED])
    return OpcUaSecurity.model_validate({"policies": policies, "pki": str(pki), **given})


def passwords(folder: Path, **users: str) -> dict[str, str]:
    for name, password in users.items():
        (folder / f"{name}.password").write_text(f"{password}\n", encoding="utf-8")
    return {name: f"file:{folder / name}.password" for name in users}


async def enter(
    server: PlantServer,
    tmp_path: Path,
    policy: str = "None",
    *,
    user: str = "",
    password: str = "",
    who: Any = None,
) -> str:
    """Connect as said; return what the machine's name is read as."""
    client = Client(server.endpoint)
    client.application_uri = CLIENT_URI
    if policy != "None":
        name, _, mode = policy.rpartition("_")
        certificate, key = identity(tmp_path / "client", "application")
        kind = getattr(security_policies, f"SecurityPolicy{name.replace('_', '')}")
        await client.set_security(kind, str(certificate), str(key), mode=ua.MessageSecurityMode[mode])
    if user:
        client.set_user(user)
        client.set_password(password)
    if who is not None:
        await client.load_client_certificate(str(who[0]))
        await client.load_private_key(who[1])
    async with client:
        index = await client.get_namespace_index(URI)
        node = client.get_node(f"ns={index};s=imm-01.MachineInformation.SerialNumber")
        return str(await node.read_value())


async def test_every_policy_lets_a_client_in(tmp_path: Path) -> None:
    policies = [
        f"{name}_{mode}"
        for name in ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
        for mode in ("Sign", "SignAndEncrypt")
    ]
    config = security(tmp_path / "pki", policies=["None", *policies])
    async with serving(MACHINE, security=config) as server:
        offered = await Client(server.endpoint).connect_and_get_server_endpoints()
        assert len(offered) == 7
        for policy in ("None", *policies):
            assert await enter(server, tmp_path, policy) == "imm-01", policy
    only = security(tmp_path / "pki", policies=["Aes256_Sha256_RsaPss_SignAndEncrypt"])
    async with serving(MACHINE, security=only) as server:
        assert await enter(server, tmp_path, "Aes256_Sha256_RsaPss_SignAndEncrypt") == "imm-01"
        for policy in ("None", ENCRYPTED):
            with pytest.raises(UaError):
                await enter(server, tmp_path, policy)


async def test_user_names_need_their_password_and_encryption(tmp_path: Path) -> None:
    users = passwords(tmp_path, mes="right", old_mes="plain")
    config = security(
        tmp_path / "pki",
        policies=["None", "Basic256Sha256_Sign", ENCRYPTED],
        anonymous=False,
        users=users,
        users_without_encryption=["old_mes"],
    )
    async with serving(MACHINE, security=config) as server:
        for policy in ("Basic256Sha256_Sign", ENCRYPTED):
            assert await enter(server, tmp_path, policy, user="mes", password="right") == "imm-01"
        assert await enter(server, tmp_path, user="old_mes", password="plain") == "imm-01"
        for refused in (
            {"policy": ENCRYPTED, "user": "mes", "password": "wrong"},
            {"policy": ENCRYPTED, "user": "mes", "password": "plain"},
            {"policy": ENCRYPTED, "user": "nobody", "password": "right"},
            {"policy": "None", "user": "mes", "password": "right"},
            {"policy": "None", "user": "old_mes", "password": "wrong"},
        ):
            with pytest.raises(UaStatusCodeError) as caught:
                await enter(server, tmp_path, **refused)
            assert caught.value.code == StatusCodes.BadUserAccessDenied, refused
        for policy in ("None", ENCRYPTED):
            with pytest.raises(UaError):
                await enter(server, tmp_path, policy)


@pytest.mark.parametrize("anonymous", [False, True])
async def test_certificates_let_their_owners_in(tmp_path: Path, anonymous: bool) -> None:
    known, stranger = identity(tmp_path / "known", "operator"), identity(tmp_path / "others", "stranger")
    known[1].rename(tmp_path / "operator.pem")
    config = security(tmp_path / "pki", anonymous=anonymous, user_certificates=str(tmp_path / "known"))
    async with serving(MACHINE, security=config) as server:
        who = known[0], tmp_path / "operator.pem"
        assert await enter(server, tmp_path, ENCRYPTED, who=who) == "imm-01"
        with pytest.raises(UaStatusCodeError) as caught:
            await enter(server, tmp_path, ENCRYPTED, who=stranger)
        assert caught.value.code == StatusCodes.BadIdentityTokenRejected


async def test_the_servers_certificate_is_made_once_and_kept(tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    config = security(pki)
    async with serving(MACHINE, security=config):
        key, certificate = (pki / "server.pem").read_bytes(), (pki / "server.der").read_bytes()
        assert stat.S_IMODE((pki / "server.pem").stat().st_mode) == 0o600
        names = x509.load_der_x509_certificate(certificate).extensions
        uris = names.get_extension_for_class(x509.SubjectAlternativeName).value
        assert uris.get_values_for_type(x509.UniformResourceIdentifier) == [URI]
    async with serving(MACHINE, security=config) as server:
        assert ((pki / "server.pem").read_bytes(), (pki / "server.der").read_bytes()) == (key, certificate)
        endpoints = await Client(server.endpoint).connect_and_get_server_endpoints()
        assert {endpoint.ServerCertificate for endpoint in endpoints} == {certificate}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda pki: (pki / "server.der").write_bytes(b"x"), "no certificate with its key"),
        (lambda pki: (pki / "server.pem").unlink(), "server.pem: No such file"),
        (
            lambda pki: (pki / "server.pem").write_bytes(pki.parent.joinpath("x.key.pem").read_bytes()),
            "not the key of",
        ),
        (
            lambda pki: (pki / "server.der").write_bytes(pki.parent.joinpath("x.der").read_bytes()),
            "is not of urn",
        ),
    ],
)
async def test_a_spoilt_certificate_is_said_before_anything_listens(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    identity(tmp_path, "x")
    config = security(tmp_path / "pki")
    async with serving(MACHINE, security=config):
        pass
    spoil(tmp_path / "pki")
    with pytest.raises(ConfigError, match=message):
        async with serving(MACHINE, security=config):
            pass
