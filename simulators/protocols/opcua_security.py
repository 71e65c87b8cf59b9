"""Who may connect to a site's OPC UA server, and how: security policies, user names, certificates."""

from __future__ import annotations

import hmac
import os
import socket
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto import cert_gen
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.internal_server import InternalServer
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager
from asyncua.ua.status_codes import StatusCodes
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from shopfloor.errors import ConfigError
from simulators.protocols.opcua_security_config import OpcUaSecurity, Policy
from simulators.protocols.opcua_standard import SharingServer

_POLICIES: Final[dict[Policy, ua.SecurityPolicyType]] = {
    "None": ua.SecurityPolicyType.NoSecurity,
    "Basic256Sha256_Sign": ua.SecurityPolicyType.Basic256Sha256_Sign,
    "Basic256Sha256_SignAndEncrypt": ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    "Aes128_Sha256_RsaOaep_Sign": ua.SecurityPolicyType.Aes128Sha256RsaOaep_Sign,
    "Aes128_Sha256_RsaOaep_SignAndEncrypt": ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    "Aes256_Sha256_RsaPss_Sign": ua.SecurityPolicyType.Aes256Sha256RsaPss_Sign,
    "Aes256_Sha256_RsaPss_SignAndEncrypt": ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
}
_VALID_DAYS: Final = 3650
_CERTIFICATE: Final = "server.der"
_KEY: Final = "server.pem"
_MAX_TRUSTED: Final = 1_000
_MAX_CERTIFICATE_BYTES: Final = 64 * 1024


class GuardedServer(SharingServer):
    """An asyncua server that knows its users."""

    def __init__(self, security: OpcUaSecurity) -> None:
        super().__init__(user_manager=_Users(security))
        self._trusted = _trusted(security.user_certificates)

    def verify_x509_token(
        self, isession: Any, token: ua.X509IdentityToken, signature: ua.SignatureData
    ) -> bytes:
        """Check a user's certificate and signature; called by asyncua.

        Raises:
            ServiceError: the certificate is not among the trusted ones.
        """
        certificate = super().verify_x509_token(isession, token, signature)
        if certificate not in self._trusted:
            raise ServiceError(StatusCodes.BadIdentityTokenRejected)
        return certificate


class _Users(UserManager):
    """Asyncua's user manager: decides by name and password. Anonymous sessions come here only where they are allowed."""

    def __init__(self, security: OpcUaSecurity) -> None:
        self._security = security

    def get_user(
        self,
        iserver: InternalServer,  # noqa: ARG002
        username: str | None = None,
        password: str | None = None,
        certificate: Any = None,
    ) -> User | None:
        """Return the user, None to refuse. ``certificate`` is the channel's; empty on the policy None."""
        reader = User(role=UserRole.User, name=username)
        if username is None:
            return reader
        known = self._security.users.get(username)
        if known is None or not isinstance(password, str):
            return None
        if not certificate and username not in self._security.users_without_encryption:
            return None
        same = hmac.compare_digest(known.get_secret_value().encode(), password.encode())
        return reader if same else None


async def secure(server: Server, security: OpcUaSecurity, application_uri: str) -> None:
    """Give a server its policies, certificate and kinds of users; before it starts.

    Raises:
        ConfigError: the certificate in ``pki`` can't be read, or is of another server.
    """
    server.set_security_policy([_POLICIES[policy] for policy in dict.fromkeys(security.policies)])
    tokens: list[type] = []
    if security.anonymous:
        tokens.append(ua.AnonymousIdentityToken)
    if security.users:
        tokens.append(ua.UserNameIdentityToken)
    if security.user_certificates:
        tokens.append(ua.X509IdentityToken)
    server.set_identity_tokens(tokens)
    if security.pki is not None:
        certificate, key = own_certificate(security.pki, application_uri)
        await server.load_certificate(certificate)
        await server.load_private_key(key)


def own_certificate(folder: Path, application_uri: str) -> tuple[Path, Path]:
    """Return the files of the server's certificate and private key in ``folder``, made if neither is there.

    Raises:
        ConfigError: they can't be read or written, or are of another application URI.
    """
    certificate_file, key_file = folder / _CERTIFICATE, folder / _KEY
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not key_file.exists() and not certificate_file.exists():
            _make_certificate(certificate_file, key_file, application_uri)
        certificate = x509.load_der_x509_certificate(certificate_file.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = load_pem_private_key(key_file.read_bytes(), None)
    except OSError as error:
        raise ConfigError([f"{error.filename or folder}: {error.strerror or error}"]) from error
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise ConfigError([f"{folder}: no certificate with its key: {error}"]) from error
    if application_uri not in names.get_values_for_type(x509.UniformResourceIdentifier):
        raise ConfigError([f"{certificate_file}: the certificate is not of {application_uri}"])
    if not isinstance(key, RSAPrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError([f"{key_file}: not the key of {certificate_file}"])
    return certificate_file, key_file


def _make_certificate(certificate_file: Path, key_file: Path, application_uri: str) -> None:
    key = cert_gen.generate_private_key()
    host = socket.gethostname()
    certificate = cert_gen.generate_self_signed_app_certificate(
        key,
        "Shopfloor simulator",
        {"organizationName": "Shopfloor"},
        [x509.UniformResourceIdentifier(application_uri), x509.DNSName(host), x509.DNSName("localhost")],
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        _VALID_DAYS,
    )
    descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(cert_gen.dump_private_key_as_pem(key))
    certificate_file.write_bytes(certificate.public_bytes(Encoding.DER))


def _trusted(folder: Path | None) -> frozenset[bytes]:
    """Return the certificates in a folder, as DER; raises ConfigError that names a file that is none."""
    if folder is None:
        return frozenset()
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix in {".der", ".pem"})
    except OSError as error:
        raise ConfigError([f"{folder}: {error.strerror or error}"]) from error
    if len(files) > _MAX_TRUSTED:
        raise ConfigError([f"{folder}: {len(files)} certificates; at most {_MAX_TRUSTED} are read"])
    found: set[bytes] = set()
    problems: list[str] = []
    for file in files:
        try:
            found.add(_certificate(file))
        except (OSError, ValueError) as error:
            problems.append(f"{file}: no certificate: {error}")
    if problems:
        raise ConfigError(problems)
    return frozenset(found)


def _certificate(file: Path) -> bytes:
    with file.open("rb") as opened:
        data = opened.read(_MAX_CERTIFICATE_BYTES)
    pem = file.suffix == ".pem"
    certificate = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
    return certificate.public_bytes(Encoding.DER)
