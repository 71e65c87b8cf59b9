"""What certificates hold (RFC 5280): the authority's own, those of services and those of agents. All P-256 with SHA-256."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shopfloor.errors import ShopfloorError

LeafKind = Literal["server", "agent"]
Kind = LeafKind | Literal["authority", "unknown"]

_DNS: Final = re.compile(
    r"(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_CLOCKS: Final = timedelta(days=1)
"""Certificates hold from so long ago: clocks of gateways are wrong."""
_USAGES: Final = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "agent": ExtendedKeyUsageOID.CLIENT_AUTH}


class AuthorityTrouble(ShopfloorError):
    """Something that was asked for can't be done, or must not; it says what to do."""


class Signer(NamedTuple):
    """An authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Span(NamedTuple):
    """From when on and until when a certificate is wanted."""

    now: datetime
    days: int

    @property
    def end(self) -> datetime:
        """When it ends."""
        return self.now + timedelta(days=self.days)


def make_own(name: x509.Name, key: ec.EllipticCurvePrivateKey, span: Span) -> x509.Certificate:
    """Return an authority's own certificate; it signs certificates of services and agents, never other authorities."""
    return (
        _begun(name, name, key.public_key(), key.public_key(), span)
        .not_valid_after(span.end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def make_leaf(
    name: str, kind: LeafKind, hosts: Sequence[str], key: PublicKeyTypes, signer: Signer, span: Span
) -> x509.Certificate:
    """Return a certificate, at most as long valid as its authority's.

    Args:
        name: common name.
        kind: ``server`` is what clients ask of a service, ``agent`` what the service asks of its clients (extended key usage).
        hosts: DNS names and IP addresses for the subject alternative name (RFC 6125: the common name is not looked at).
        key: its public key.
        signer: the authority.
        span: when it holds.

    Raises:
        AuthorityTrouble: a host or the key can't be used.
    """
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise AuthorityTrouble(f"the key of {name} is not one on an elliptic curve")
    names = [_general_name(host) for host in hosts]
    builder = (
        _begun(common_name(name), signer.certificate.subject, key, signer.key.public_key(), span)
        .not_valid_after(min(span.end, signer.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_USAGES[kind]]), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer.key, hashes.SHA256())


def common_name(text: str) -> x509.Name:
    """Return a name that is nothing but a common name; raises AuthorityTrouble."""
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    except ValueError as error:
        raise AuthorityTrouble(f"{text!r} can't be the name of a certificate: {error}") from error


def kind_of(one: x509.Certificate) -> Kind:
    """Return what a certificate is for."""
    try:
        if one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "authority"
        usages = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return "unknown"
    if ExtendedKeyUsageOID.SERVER_AUTH in usages:
        return "server"
    return "agent" if ExtendedKeyUsageOID.CLIENT_AUTH in usages else "unknown"


def hosts_of(one: x509.Certificate) -> tuple[str, ...]:
    """Return the DNS names and addresses that a certificate is for."""
    try:
        names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (
        *names.get_values_for_type(x509.DNSName),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    )


def canonical_hosts(hosts: Sequence[str]) -> tuple[str, ...]:
    """Return DNS names and addresses as certificates spell them, each once; raises AuthorityTrouble."""
    spelled = (str(_general_name(host).value).lower() for host in hosts)
    return tuple(dict.fromkeys(spelled))


def is_dns_name(text: str) -> bool:
    """Tell whether a text can stand as a DNS name."""
    return len(text) <= 253 and _DNS.fullmatch(text) is not None


def same_key(one: PublicKeyTypes, other: PublicKeyTypes) -> bool:
    """Tell whether two public keys are the same."""
    return _bytes_of(one) == _bytes_of(other)


def _bytes_of(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _general_name(host: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        if not is_dns_name(host):
            raise AuthorityTrouble(
                f"{host!r} is neither a DNS name nor an address; no scheme, no port, such as ingest.example or 10.0.0.5"
            ) from None
        return x509.DNSName(host)


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    by: ec.EllipticCurvePublicKey,
    span: Span,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(span.now - _CLOCKS)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by), critical=False)
    )
