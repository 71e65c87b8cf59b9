"""The agent's own certificate: what is in it, and when it has to be renewed."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

RENEW_BEFORE: Final = timedelta(days=60)
"""How long before its end our certificate is complained about."""
_VALID: Final = timedelta(days=5 * 365)
_BACKDATED: Final = timedelta(days=1)
"""Machines' clocks go wrong; a certificate of today shall not be one of tomorrow there."""
_KEY_BITS: Final = 2048
_MAX_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """What we prove with who we are."""

    certificate: x509.Certificate
    key: RSAPrivateKey
    application_uri: str
    """As it stands in the certificate; the session must name the same (Part 4 §5.6.2)."""
    file: Path

    def remark(self, now: datetime) -> str:
        """Say that it ends soon or has ended, empty otherwise."""
        end = self.certificate.not_valid_after_utc
        if now < end - RENEW_BEFORE:
            return ""
        when = f"{'ends' if now < end else 'ended'} on {end:%Y-%m-%d}"
        return (
            f"our own certificate {self.file} {when}: remove the file and restart to have a new one made with the "
            "same key, then have the servers trust it"
        )


def new_key() -> bytes:
    """Make a private key, as PEM."""
    key = generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def new_certificate(key: RSAPrivateKey, agent_id: str) -> bytes:
    """Make a self-signed application instance certificate (Part 6 §6.2.2), as DER."""
    now = datetime.now(UTC).replace(microsecond=0)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"Shopfloor agent {agent_id}"[:_MAX_NAME]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Shopfloor"),
        ]
    )
    serial = x509.random_serial_number()
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    host = socket.gethostname()
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_KEY_USAGE, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (identifier, False),
        (x509.AuthorityKeyIdentifier(identifier.digest, [x509.DirectoryName(name)], serial), False),
        (
            x509.SubjectAlternativeName(
                [
                    x509.UniformResourceIdentifier(f"urn:shopfloor:edge-agent:{agent_id}"),
                    x509.DNSName(host if host.isascii() and host else "localhost"),
                ]
            ),
            False,
        ),
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


_KEY_USAGE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=True,
    key_encipherment=True,
    data_encipherment=True,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
"""What Part 6 §6.2.2 asks of RSA application certificates; keyCertSign because it signs itself."""
