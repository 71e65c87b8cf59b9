"""What is to be done about the certificates of an authority's folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from ingest_service.authority.folder import AUTHORITY, AuthorityFolder
from ingest_service.authority.profile import AuthorityTrouble, Kind, hosts_of, kind_of


@dataclass(frozen=True, slots=True)
class Finding:
    """One certificate, and what is wrong with it."""

    name: str
    kind: Kind
    hosts: tuple[str, ...] = ()
    """DNS names and addresses that it is for."""
    begins: datetime | None = None
    ends: datetime | None = None
    is_due: bool = False
    """Whether it has run out, or does soon."""
    problems: tuple[str, ...] = ()
    """Each with what to do."""


def examine(folder: AuthorityFolder, within: timedelta) -> list[Finding]:
    """Look at every certificate of a folder; those that run out ``within`` so long are named, too."""
    return [_examined(folder, name, within) for name in folder.names()]


def _examined(folder: AuthorityFolder, name: str, within: timedelta) -> Finding:
    try:
        one = folder.read(name)
    except AuthorityTrouble as error:
        return Finding(name, "unknown", problems=(str(error),))
    left = one.not_valid_after_utc - folder.now
    return Finding(
        name,
        kind_of(one),
        hosts_of(one),
        one.not_valid_before_utc,
        one.not_valid_after_utc,
        left <= within,
        (
            *_of_time(folder, name, one, within),
            *_of_key(folder, name, one),
            *_of_signature(folder, name, one),
        ),
    )


def _of_time(folder: AuthorityFolder, name: str, one: x509.Certificate, within: timedelta) -> Iterator[str]:
    to = "every service and agent" if name == AUTHORITY else "where it is used"
    do = f"`certs renew {name}`, then bring {name}.crt to {to}"
    left = one.not_valid_after_utc - folder.now
    if left <= timedelta(0):
        yield f"EXPIRED {_days(-left)} ago: {do}"
    elif left <= within:
        yield f"runs out in {_days(left)}: {do}"
    if one.not_valid_before_utc > folder.now:
        yield "does not hold yet: the clock of this computer is wrong, or that of the one that made it was"


def _of_key(folder: AuthorityFolder, name: str, one: x509.Certificate) -> Iterator[str]:
    file = folder.file(name, "key")
    if not file.exists():
        if name == AUTHORITY:
            yield f"{file.name} is not here, so nothing can be signed: bring it back"
        return
    try:
        if not folder.has_key_of(name, one):
            yield f"{file.name} is the key of another certificate: `certs renew {name}` signs for the one that is here"
    except AuthorityTrouble as error:
        yield str(error)
    if file.stat().st_mode & 0o077:
        yield f"others may use {file.name}: chmod 600 {file}"


def _of_signature(folder: AuthorityFolder, name: str, one: x509.Certificate) -> Iterator[str]:
    if name == AUTHORITY:
        return
    try:
        one.verify_directly_issued_by(folder.read(AUTHORITY))
    except AuthorityTrouble as error:
        yield str(error)
    except (InvalidSignature, ValueError, TypeError):
        yield f"another authority has signed it: `certs renew {name}`, or take it out of this folder"


def _days(span: timedelta) -> str:
    return "1 day" if span.days == 1 else f"{span.days} days"
