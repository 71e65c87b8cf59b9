"""The folder of certificates: whose we are (``own``), whom we trust, whom we were shown, who issues.

::

    pki/own/certificate.der, private_key.pem    made once; the plant's own CA may replace both
    pki/trusted/*.der                           servers' certificates, and CAs all of whose servers are trusted
    pki/rejected/*.der                          certificates that servers showed and nobody has accepted
    pki/issuers/*.der, *.crl                    CAs that only complete a chain, and revocation lists

Files are told apart by what is in them (DER or PEM), not by their names.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, load_pem_private_key
from cryptography.x509.oid import NameOID

from edge_agent.sources.opcua.own import OwnCertificate, new_certificate, new_key
from shopfloor.errors import SourceMisconfigured

Place = Literal["own", "trusted", "rejected", "issuers"]

_MAX_FILES: Final = 1_000
_MAX_REJECTED: Final = 100
_MAX_FILE_BYTES: Final = 64 * 1024
_MAX_CHAIN: Final = 10
_CERTIFICATE: Final = "certificate.der"
_KEY: Final = "private_key.pem"
_PEM: Final = b"-----BEGIN "


@dataclass(frozen=True, slots=True)
class Kept:
    """A certificate in the folder."""

    place: Place
    file: Path
    certificate: x509.Certificate


def thumbprint(certificate: x509.Certificate) -> str:
    """Return the SHA-1 of the DER form in capitals, as OPC UA tools show it (Part 4 §7.2)."""
    return hashlib.sha1(der(certificate), usedforsecurity=False).hexdigest().upper()


def der(certificate: x509.Certificate) -> bytes:
    """Return the DER form."""
    return certificate.public_bytes(Encoding.DER)


def common_name(name: x509.Name) -> str:
    """Return the CN of a name, or all of it where it has none."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def alternative_names(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    """Return the URIs of a certificate, and its host names and addresses."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return [], []
    hosts = [str(host) for host in names.get_values_for_type(x509.DNSName)]
    hosts += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return [str(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)], hosts


def split_chain(blob: bytes) -> list[x509.Certificate]:
    """Return the certificates of a chain as servers send it: DER, one behind the other, the server's own first.

    Raises:
        ValueError: it is no such chain.
    """
    found: list[x509.Certificate] = []
    while blob and len(found) < _MAX_CHAIN:
        if len(blob) < 4 or blob[0] != 0x30:
            raise ValueError("not a DER certificate")
        count = blob[1] & 0x7F if blob[1] & 0x80 else 0
        length = int.from_bytes(blob[2 : 2 + count]) if count else blob[1]
        size = 2 + count + length
        found.append(x509.load_der_x509_certificate(blob[:size]))
        blob = blob[size:]
    if not found:
        raise ValueError("there is no certificate")
    return found


def load_certificate(file: Path) -> x509.Certificate:
    """Read a certificate, DER or PEM; raises OSError or ValueError."""
    data = _read(file)
    return x509.load_pem_x509_certificate(data) if _PEM in data else x509.load_der_x509_certificate(data)


def load_key(file: Path) -> RSAPrivateKey:
    """Read a private RSA key, DER or PEM, without a pass phrase; raises OSError or ValueError."""
    data = _read(file)
    try:
        key = load_pem_private_key(data, None) if _PEM in data else load_der_private_key(data, None)
    except TypeError as error:
        raise ValueError("the key has a pass phrase") from error
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("not an RSA key")  # noqa: TRY004  callers handle what a file holds, not what we pass
    return key


class Pki:
    """One folder of certificates; it is made when something is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def own(self, agent_id: str) -> OwnCertificate:
        """Return our own certificate and key, made now where they are missing.

        Args:
            agent_id: stands in a new certificate; an old one keeps what it says.

        Raises:
            SourceMisconfigured: they can't be read, don't belong together, or can't be written.
        """
        folder = self.folder / "own"
        certificate_file, key_file = folder / _CERTIFICATE, folder / _KEY
        try:
            with self._locked():
                if certificate_file.exists() and not key_file.exists():
                    raise SourceMisconfigured(
                        f"{key_file} is missing: restore it, or remove {certificate_file}"
                    )
                if not key_file.exists():
                    _write(key_file, new_key(), 0o600)
                elif key_file.stat().st_mode & 0o077:
                    key_file.chmod(0o600)
                key = load_key(key_file)
                if not certificate_file.exists():
                    _write(certificate_file, new_certificate(key, agent_id), 0o644)
                certificate = load_certificate(certificate_file)
        except OSError as error:
            raise SourceMisconfigured(f"{error.filename or folder}: {error.strerror or error}") from error
        except ValueError as error:
            raise SourceMisconfigured(f"{folder}: no certificate with its key: {error}") from error
        if key.public_key() != certificate.public_key():
            raise SourceMisconfigured(f"{key_file} is not the key of {certificate_file}")
        uris, _ = alternative_names(certificate)
        if not uris:
            raise SourceMisconfigured(f"{certificate_file} names no application URI (subjectAltName)")
        return OwnCertificate(certificate, key, uris[0], certificate_file)

    def read(self, *places: Place) -> tuple[list[Kept], list[str]]:
        """Return the certificates in some of the folders, and a line for each file that is none."""
        kept: list[Kept] = []
        problems: list[str] = []
        for place in places:
            for file in self._files(place, problems):
                if file.suffix in {".crl", ".pem"} and place == "own":
                    continue
                if file.suffix == ".crl":
                    continue
                try:
                    kept.append(Kept(place, file, load_certificate(file)))
                except (OSError, ValueError) as error:
                    problems.append(f"{file}: not a certificate: {getattr(error, 'strerror', None) or error}")
        return kept, problems

    def revocations(self) -> tuple[list[x509.CertificateRevocationList], list[str]]:
        """Return the revocation lists among issuers and trusted, and a line for each that can't be read."""
        lists: list[x509.CertificateRevocationList] = []
        problems: list[str] = []
        places: tuple[Place, ...] = ("issuers", "trusted")
        for place in places:
            for file in self._files(place, problems):
                if file.suffix != ".crl":
                    continue
                try:
                    data = _read(file, 16 * _MAX_FILE_BYTES)
                    lists.append(
                        x509.load_pem_x509_crl(data) if _PEM in data else x509.load_der_x509_crl(data)
                    )
                except (OSError, ValueError) as error:
                    problems.append(f"{file}: not a revocation list: {error}")
        return lists, problems

    def keep(self, place: Place, certificate: x509.Certificate) -> Path:
        """Write a certificate into a folder; the oldest rejected ones make room. Raises OSError."""
        file = self.folder / place / f"{thumbprint(certificate)}.der"
        with self._locked():
            if not file.exists():
                if place == "rejected":
                    self._make_room()
                _write(file, der(certificate), 0o644)
        return file

    def move(self, found: Kept, place: Place) -> Path:
        """Put a certificate from one folder into another. Raises OSError."""
        file = self.keep(place, found.certificate)
        found.file.unlink(missing_ok=True)
        return file

    def _files(self, place: Place, problems: list[str]) -> list[Path]:
        try:
            files = sorted(file for file in (self.folder / place).iterdir() if file.is_file())
        except FileNotFoundError:
            return []
        except OSError as error:
            problems.append(f"{self.folder / place}: {error.strerror or error}")
            return []
        if len(files) > _MAX_FILES:
            problems.append(
                f"{self.folder / place}: {len(files)} files; only the first {_MAX_FILES} are read"
            )
        return [file for file in files[:_MAX_FILES] if not file.name.startswith(".")]

    def _make_room(self) -> None:
        files = sorted((self.folder / "rejected").glob("*.der"), key=lambda file: file.stat().st_mtime_ns)
        for file in files[: max(0, len(files) - _MAX_REJECTED + 1)]:
            file.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Several sources, and the command, may use one folder."""
        for place in ("own", "trusted", "rejected", "issuers"):
            (self.folder / place).mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _read(file: Path, limit: int = _MAX_FILE_BYTES) -> bytes:
    with file.open("rb") as opened:
        data = opened.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"larger than {limit} bytes")
    return data


def _write(file: Path, data: bytes, mode: int) -> None:
    """Write a file whole or not at all; nobody sees it with another mode."""
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
    part.replace(file)
