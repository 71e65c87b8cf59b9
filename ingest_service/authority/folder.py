"""The folder of an authority: ``authority.crt`` and ``.key``, and ``NAME.crt`` and ``.key`` of each certificate.

A key may be taken to where it is used, and should: a certificate is renewed for the public key that it has.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from ingest_service.authority.profile import (
    AuthorityTrouble,
    LeafKind,
    Signer,
    Span,
    canonical_hosts,
    common_name,
    hosts_of,
    is_dns_name,
    kind_of,
    make_leaf,
    make_own,
    same_key,
)
from shopfloor.durable import sync

AUTHORITY: Final = "authority"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class AuthorityFolder:
    """What commands do in the folder, one command at a time (`held`).

    Args:
        folder: where everything lies.
        now: the present moment with its time zone; that of the clock without it.
    """

    def __init__(self, folder: Path, now: datetime | None = None) -> None:
        self.folder = folder
        self.now = now or datetime.now(UTC)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other commands out of the folder, which is made where it is missing; raises AuthorityTrouble, OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise AuthorityTrouble(f"{self.folder}: another command is at work here") from error
            yield

    def file(self, name: str, ending: Literal["crt", "key"] = "crt") -> Path:
        """Return where a certificate or its key lies."""
        return self.folder / f"{name}.{ending}"

    def names(self) -> list[str]:
        """Return the names of all certificates, the authority's first."""
        return sorted(
            (path.stem for path in self.folder.glob("*.crt")), key=lambda one: (one != AUTHORITY, one)
        )

    def establish(self, title: str, days: int) -> bool:
        """Make the authority; False where there is one already, which is left as it is.

        Raises:
            AuthorityTrouble: there is one that has run out, or of which the key does not fit.
        """
        if self.file(AUTHORITY).exists():
            self.signer()
            return False
        # A key without a certificate is what a command leaves that was ended in between; it is as good as a new one.
        self._write_certificate(
            AUTHORITY, make_own(common_name(title), self._key(AUTHORITY), Span(self.now, days))
        )
        return True

    def issue(self, name: str, kind: LeafKind, hosts: Sequence[str], days: int) -> bool:
        """Make a certificate and its key; False where it is there already for the same hosts, and has not run out.

        Args:
            name: its common name, and that of its files. An agent's stands among its DNS names as well, if it can be one.
            kind: what it is for.
            hosts: DNS names and IP addresses.
            days: how long it holds, at most as long as the authority.

        Raises:
            AuthorityTrouble: a name or a host can't be one, there is no authority, or another certificate of that name.
        """
        if not _NAME.fullmatch(name) or name == AUTHORITY:
            raise AuthorityTrouble(
                f"{name!r} can't be the name of a certificate: letters, digits, dots, _ and -, up to 63; not {AUTHORITY!r}"
            )
        wanted = canonical_hosts([*([name] if kind == "agent" and is_dns_name(name) else []), *hosts])
        signer = self.signer()
        if self.file(name).exists():
            there = self.read(name)
            if kind_of(there) != kind or {*canonical_hosts(hosts_of(there))} != {*wanted}:
                raise AuthorityTrouble(
                    f"{self.file(name)} is there already, {kind_of(there)} of {', '.join(hosts_of(there)) or name}: "
                    f"`certs renew {name} --host ...` gives it other names; remove its files to begin anew"
                )
            if there.not_valid_after_utc > self.now:
                return False
        made = make_leaf(name, kind, wanted, self._key(name).public_key(), signer, Span(self.now, days))
        self._write_certificate(name, made)
        return True

    def renew(self, name: str, days: int, *, hosts: Sequence[str] = (), new_key: bool = False) -> None:
        """Sign a certificate again, for the key that it has.

        Args:
            name: the certificate's; `AUTHORITY` for the authority's own, whose key stays in any case.
            days: how long it holds from now on.
            hosts: other DNS names and addresses; empty for those that it has.
            new_key: make a new key; one that is here stays as ``NAME.key.old-SERIAL``.

        Raises:
            AuthorityTrouble: there is no such certificate, or it can't be renewed so.
        """
        old = self.read(name)
        if name == AUTHORITY:
            if new_key or hosts:
                raise AuthorityTrouble(
                    "the authority keeps its key and names no hosts; make another one in another folder"
                )
            self._write_certificate(name, make_own(old.subject, self._private(name), Span(self.now, days)))
            return
        kind = kind_of(old)
        if kind not in {"server", "agent"}:
            raise AuthorityTrouble(f"{self.file(name)} is for neither a service nor an agent")
        signer = self.signer()
        wanted = canonical_hosts(hosts) or hosts_of(old)
        key_file = self.file(name, "key")
        if new_key and key_file.exists():
            key_file.replace(self.folder / f"{key_file.name}.old-{old.serial_number:x}")
        key: PublicKeyTypes = old.public_key()
        if new_key or key_file.exists():
            key = self._key(name).public_key()
        leaf_kind: LeafKind = "server" if kind == "server" else "agent"
        self._write_certificate(name, make_leaf(name, leaf_kind, wanted, key, signer, Span(self.now, days)))

    def read(self, name: str) -> x509.Certificate:
        """Return a certificate; raises AuthorityTrouble."""
        file = self.file(name)
        try:
            return x509.load_pem_x509_certificate(file.read_bytes())
        except FileNotFoundError as error:
            missing = "there is no authority here; `certs init` makes one"
            raise AuthorityTrouble(
                f"{file}: {missing if name == AUTHORITY else 'there is no such certificate'}"
            ) from error
        except (OSError, ValueError) as error:
            raise AuthorityTrouble(f"{file}: no certificate can be read from it: {error}") from error

    def signer(self) -> Signer:
        """Return the authority; raises AuthorityTrouble where it can't sign."""
        own = self.read(AUTHORITY)
        if own.not_valid_after_utc <= self.now:
            raise AuthorityTrouble(
                f"{self.file(AUTHORITY)} has expired: `certs renew {AUTHORITY}`, then bring it to every service and agent"
            )
        key = self._private(AUTHORITY)
        if not same_key(key.public_key(), own.public_key()):
            raise AuthorityTrouble(f"{self.file(AUTHORITY, 'key')} is not the key of {self.file(AUTHORITY)}")
        return Signer(own, key)

    def has_key_of(self, name: str, one: x509.Certificate) -> bool:
        """Tell whether the key that lies here belongs to a certificate; raises AuthorityTrouble for one that can't be read."""
        return same_key(self._private(name).public_key(), one.public_key())

    def _private(self, name: str) -> ec.EllipticCurvePrivateKey:
        file = self.file(name, "key")
        try:
            key = serialization.load_pem_private_key(file.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise AuthorityTrouble(f"{file}: no key can be read from it: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise AuthorityTrouble(f"{file}: a key on an elliptic curve is needed")
        return key

    def _key(self, name: str) -> ec.EllipticCurvePrivateKey:
        """Return the key that is here, or make one: none is ever written over."""
        file = self.file(name, "key")
        if file.exists():
            return self._private(name)
        key = ec.generate_private_key(ec.SECP256R1())
        content = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write(file, content, 0o600)
        return key

    def _write_certificate(self, name: str, one: x509.Certificate) -> None:
        _write(self.file(name), one.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(file: Path, content: bytes, mode: int) -> None:
    """Write a file that is there as a whole or not at all, whenever the power fails."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as out:
            # The umask may have taken rights away from the certificate; it gives none to the key.
            os.fchmod(out.fileno(), mode)
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    sync(file.parent)
