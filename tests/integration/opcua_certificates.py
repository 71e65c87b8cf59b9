"""Certificates as servers, users and plants' own authorities have them: good ones, and every kind of bad one."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_agent.sources.opcua.pki import thumbprint

NOW = datetime.now(UTC).replace(microsecond=0)
HOSTS = ("127.0.0.1", "localhost")


class Made(NamedTuple):
    certificate: x509.Certificate
    key: RSAPrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def thumbprint(self) -> str:
        return thumbprint(self.certificate)

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write both as PEM; return the certificate's file and the key's."""
        folder.mkdir(parents=True, exist_ok=True)
        files = folder / f"{name}.pem", folder / f"{name}.key.pem"
        files[0].write_bytes(self.certificate.public_bytes(Encoding.PEM))
        files[1].write_bytes(
            self.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        )
        return files


@cache
def rsa_key(name: str, bits: int = 2048) -> RSAPrivateKey:
    """Return the key of somebody; it takes a moment to make one."""
    return generate_private_key(public_exponent=65537, key_size=bits)


def make(
    name: str = "server",
    *,
    uri: str = "urn:test:server",
    hosts: Sequence[str] = HOSTS,
    start: timedelta = timedelta(days=-30),
    end: timedelta = timedelta(days=365),
    bits: int = 2048,
    issuer: Made | None = None,
    careless: bool = False,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    key: str = "",
) -> Made:
    """Return an application's certificate; ``careless`` ones say that they may issue others."""
    own = rsa_key(key or name, bits)
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    builder = _begin(name, own, issuer, NOW + start, NOW + end)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=careless, path_length=None), critical=True)
    return Made(builder.sign(own if issuer is None else issuer.key, hashes.SHA256()), own)


def authority(
    name: str = "Plant CA", issuer: Made | None = None, end: timedelta = timedelta(days=365)
) -> Made:
    """Return a certificate authority."""
    own = rsa_key(name)
    builder = _begin(name, own, issuer, NOW - timedelta(days=400), NOW + end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return Made(builder.sign(own if issuer is None else issuer.key, hashes.SHA256()), own)


def revocations(issuer: Made, *revoked: Made, until: timedelta = timedelta(days=7)) -> bytes:
    """Return an authority's revocation list, DER."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW - timedelta(days=30))
        .next_update(NOW + until)
    )
    for each in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(each.certificate.serial_number)
            .revocation_date(NOW - timedelta(days=2))
            .build()
        )
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def _begin(
    name: str, key: RSAPrivateKey, issuer: Made | None, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
