"""Whether a server is the one that it says it is: its certificate against the folder of those that we trust.

A certificate that lies in ``trusted`` itself has been looked at by a person: its names are reported where they don't
fit. One that is trusted through its issuer has only its names to show that it is this machine's, so there they decide.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_agent.sources.opcua.own import RENEW_BEFORE
from edge_agent.sources.opcua.pki import (
    Kept,
    Pki,
    alternative_names,
    common_name,
    split_chain,
    thumbprint,
)
from edge_agent.sources.opcua.security import KEY_BITS, Policy

_MAX_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """What there is to say about a server's certificate."""

    certificate: x509.Certificate
    trusted: bool
    """It, or an issuer of it, lies in ``trusted``."""
    by: str
    """Through whom it is trusted, empty if it is not."""
    problems: tuple[str, ...]
    """Why it is refused although it may be trusted."""
    notes: tuple[str, ...]
    """What a person should know, without consequence."""
    replaces: str = ""
    """The thumbprint of a trusted certificate of the same application, if this one is not it."""

    @property
    def accepted(self) -> bool:
        """Whether to connect."""
        return self.trusted and not self.problems

    def remark(self, now: datetime) -> str:
        """Say that the certificate ends soon or has ended, empty otherwise."""
        end = self.certificate.not_valid_after_utc
        if now < end - RENEW_BEFORE:
            return ""
        when = f"{'ends' if now < end else 'ended'} on {end:%Y-%m-%d}"
        return f"the server's certificate {when}: the next connection after that is refused"

    def __str__(self) -> str:
        certificate = self.certificate
        uris, hosts = alternative_names(certificate)
        parts = [
            f"CN={common_name(certificate.subject)}",
            f"application URI {', '.join(uris) or 'none'}",
            f"for {', '.join(hosts) or 'no host'}",
            f"valid until {certificate.not_valid_after_utc:%Y-%m-%d}",
            f"thumbprint {thumbprint(certificate)}",
        ]
        return ", ".join(parts)


def judge(
    pki: Pki, blob: bytes, *, host: str, application_uri: str, policy: Policy, now: datetime
) -> Verdict:
    """Check what a server showed (Part 4 §6.1.3); nothing is written.

    Args:
        pki: whom we trust.
        blob: the server's certificate, its issuers behind it.
        host: as our configuration names the server.
        application_uri: as the server names itself in its endpoint.
        policy: the security policy to be used.
        now: the agent's clock.

    Raises:
        ValueError: it is no certificate.
    """
    chain = split_chain(blob)
    leaf = chain[0]
    trusted, problems = pki.read("trusted")
    issuers, more = pki.read("issuers")
    known = {kept.certificate for kept in trusted}
    path = _path(leaf, [*(kept.certificate for kept in (*trusted, *issuers)), *chain[1:]])
    through = next((certificate for certificate in path if certificate in known), None)
    itself = leaf in known
    broken = list(_validity(leaf, now, "it"))
    broken += _strength(leaf, policy)
    notes = [*problems, *more]
    if through is not None and not itself:
        broken += [line for issuer in path[1:] for line in _validity(issuer, now, "its issuer")]
    revoked, remarks = _revocation(pki, path, now)
    broken += revoked
    names = list(_names(leaf, host, application_uri))
    (notes if itself else broken).extend(names)
    notes += remarks
    by = "" if through is None else "itself" if itself else f"its issuer {common_name(through.subject)}"
    before = "" if itself else _predecessor(leaf, trusted)
    return Verdict(leaf, through is not None, by, tuple(broken), tuple(notes), before)


def _path(leaf: x509.Certificate, candidates: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return the certificate and its issuers, as far as they are known and really signed it."""
    path = [leaf]
    while len(path) < _MAX_DEPTH:
        last = path[-1]
        if last.issuer == last.subject:
            break
        issuer = next((each for each in candidates if each not in path and _signed(each, last)), None)
        if issuer is None:
            break
        path.append(issuer)
    return path


def _signed(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        if issuer.subject != certificate.issuer or not _may_issue(issuer):
            return False
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _may_issue(certificate: x509.Certificate) -> bool:
    """Tell a CA from an application whose careless certificate says that it is one, as many self-signed ones do."""
    extensions = certificate.extensions
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
    except x509.ExtensionNotFound:
        return False
    try:
        if not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            return False
    except x509.ExtensionNotFound:
        pass
    uris, _ = alternative_names(certificate)
    return not uris


def _validity(certificate: x509.Certificate, now: datetime, who: str) -> Iterator[str]:
    if now > certificate.not_valid_after_utc:
        yield f"{who} expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if now < certificate.not_valid_before_utc:
        yield f"{who} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on; is a clock wrong?"


def _strength(certificate: x509.Certificate, policy: Policy) -> Iterator[str]:
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey):
        yield "it holds no RSA key"
    elif policy in KEY_BITS and not KEY_BITS[policy][0] <= key.key_size <= KEY_BITS[policy][1]:
        least, greatest = KEY_BITS[policy]
        yield f"its key has {key.key_size} bits; {policy} needs {least} to {greatest}"


def _names(certificate: x509.Certificate, host: str, application_uri: str) -> Iterator[str]:
    uris, hosts = alternative_names(certificate)
    if application_uri not in uris:
        yield f"it is of application {', '.join(uris) or 'nobody'}, but the server calls itself {application_uri}"
    if not any(_same_host(host, each) for each in hosts):
        yield f"it is for {', '.join(hosts) or 'no host'}, not for {host}"
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        yield "it is not meant for servers (extended key usage)"


def _same_host(wanted: str, stated: str) -> bool:
    try:
        return ipaddress.ip_address(wanted) == ipaddress.ip_address(stated)
    except ValueError:
        return wanted.lower().rstrip(".") == stated.lower().rstrip(".")


def _revocation(pki: Pki, path: Sequence[x509.Certificate], now: datetime) -> tuple[list[str], list[str]]:
    """Return who of a path has been revoked, and what about the lists should be known."""
    lists, notes = pki.revocations()
    revoked: list[str] = []
    for certificate, issuer in pairwise(path):
        key = issuer.public_key()
        name = common_name(issuer.subject)
        own = [
            each
            for each in lists
            if each.issuer == issuer.subject
            and isinstance(key, RSAPublicKey)
            and each.is_signature_valid(key)
        ]
        if not own:
            notes.append(f"there is no revocation list of {name}")
        for each in own:
            if each.next_update_utc is not None and now > each.next_update_utc:
                notes.append(
                    f"the revocation list of {name} is out of date since {each.next_update_utc:%Y-%m-%d}"
                )
            if each.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
                revoked.append(f"{common_name(certificate.subject)} has been revoked by {name}")
    return revoked, notes


def _predecessor(leaf: x509.Certificate, trusted: Sequence[Kept]) -> str:
    uris = set(alternative_names(leaf)[0])
    for kept in trusted:
        if uris & set(alternative_names(kept.certificate)[0]):
            return thumbprint(kept.certificate)
    return ""
