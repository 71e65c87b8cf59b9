"""Certificates and keys that a configuration names: whether they can be read, belong together, and still hold."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from shopfloor.findings import Finding, failure, ok, warning

SOON: Final = timedelta(days=60)
_MAX_BYTES: Final = 2**20
_PEM: Final = b"-----BEGIN "


def look_at_certificates(what: str, file: Path, now: datetime | None = None) -> Finding:
    """Look at a file of one or more certificates, DER or PEM; the one that ends first speaks for all."""
    try:
        certificates = read_certificates(file)
    except (OSError, ValueError) as error:
        return failure(
            f"{what} {file}: {getattr(error, 'strerror', None) or error}", "name a PEM file that can be read"
        )
    return judge_dates(f"{what} {file}", certificates, now)


def judge_dates(what: str, certificates: Sequence[x509.Certificate], now: datetime | None = None) -> Finding:
    """Say whether certificates hold today and for the next two months."""
    now = now or datetime.now(UTC)
    first = min(certificates, key=lambda each: each.not_valid_after_utc)
    begin, end = max(each.not_valid_before_utc for each in certificates), first.not_valid_after_utc
    figures = {"valid_from": begin.isoformat(), "valid_until": end.isoformat()}
    if now > end:
        return failure(f"{what}: ended on {end:%Y-%m-%d}", "renew it", **figures)
    if now < begin:
        return failure(
            f"{what}: begins on {begin:%Y-%m-%d}", "set this machine's clock, or have it made anew", **figures
        )
    if now > end - SOON:
        return warning(f"{what}: ends on {end:%Y-%m-%d}", "renew it before that day", **figures)
    return ok(f"{what}: valid until {end:%Y-%m-%d}", **figures)


def look_at_pair(what: str, certificate: Path, key: Path) -> Iterator[Finding]:
    """Look at a certificate and its private key."""
    yield look_at_certificates(f"{what} certificate", certificate)
    try:
        loaded = _read(key)
        load = load_pem_private_key if _PEM in loaded else load_der_private_key
        public = load(loaded, None).public_key()
    except (OSError, ValueError, TypeError) as error:
        reason = "it has a pass phrase" if isinstance(error, TypeError) else getattr(error, "strerror", None)
        yield failure(
            f"{what} key {key}: {reason or error}", "name a file with a private key without pass phrase"
        )
        return
    try:
        own = read_certificates(certificate)[0].public_key()
    except (OSError, ValueError):
        return  # already said
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if own.public_bytes(*form) != public.public_bytes(*form):
        yield failure(
            f"{what} key {key} is not the key of {certificate}", "name the two that belong together"
        )
    else:
        yield look_at_privacy(f"{what} key", key)


def look_at_privacy(what: str, file: Path) -> Finding:
    """Say whether others than its owner can read a secret's file."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError as error:
        return failure(f"{what} {file}: {error.strerror or error}", "name a file that can be read")
    if mode & stat.S_IROTH:
        return warning(
            f"{what} {file}: everybody on this machine can read it ({mode:o})",
            f"chmod 640 {file}",
            mode=f"{mode:o}",
        )
    return ok(f"{what} {file}: can be read, mode {mode:o}", mode=f"{mode:o}")


def read_certificates(file: Path) -> list[x509.Certificate]:
    """Read a file of certificates; raises OSError, or ValueError where there is none."""
    data = _read(file)
    return x509.load_pem_x509_certificates(data) if _PEM in data else [x509.load_der_x509_certificate(data)]


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        data = opened.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"larger than {_MAX_BYTES} bytes")
    return data
