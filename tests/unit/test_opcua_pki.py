"""The folder of certificates: our own, made once and kept; others', however they came there."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from edge_agent.sources.opcua.pki import Pki, load_key, split_chain, thumbprint
from shopfloor.errors import SourceMisconfigured
from tests.integration.opcua_certificates import NOW, authority, make, rsa_key


def test_our_certificate_is_made_once_and_says_who_we_are(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    own = pki.own("gateway-7")
    assert own.application_uri == "urn:shopfloor:edge-agent:gateway-7"
    names = own.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [own.application_uri]
    assert names.get_values_for_type(x509.DNSName)
    assert own.certificate.public_key() == own.key.public_key()
    assert own.key.key_size == 2048
    key_file = tmp_path / "pki" / "own" / "private_key.pem"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    again = Pki(tmp_path / "pki").own("renamed")
    assert again.certificate == own.certificate
    assert again.application_uri == own.application_uri
    assert {folder.name for folder in (tmp_path / "pki").iterdir() if folder.is_dir()} == {
        "own", "trusted", "rejected", "issuers",
    }  # fmt: skip


def test_several_sources_that_start_at_once_share_one_certificate(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4, thread_name_prefix="asyncio_") as pool:
        made = list(pool.map(lambda _: Pki(tmp_path).own("a").certificate, range(4)))
    assert len(set(made)) == 1


def test_a_readable_key_is_closed(tmp_path: Path) -> None:
    Pki(tmp_path).own("a")
    key_file = tmp_path / "own" / "private_key.pem"
    key_file.chmod(0o644)
    Pki(tmp_path).own("a")
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


def test_a_new_certificate_for_the_same_key(tmp_path: Path) -> None:
    first = Pki(tmp_path).own("a")
    first.file.unlink()
    second = Pki(tmp_path).own("a")
    assert second.certificate != first.certificate
    assert second.key.private_numbers() == first.key.private_numbers()


def test_the_end_of_our_certificate_is_announced(tmp_path: Path) -> None:
    own = Pki(tmp_path).own("a")
    end = own.certificate.not_valid_after_utc
    assert own.remark(NOW) == ""
    assert own.remark(end - timedelta(days=61)) == ""
    assert f"ends on {end:%Y-%m-%d}" in own.remark(end - timedelta(days=59))
    assert f"ended on {end:%Y-%m-%d}" in own.remark(end + timedelta(seconds=1))
    assert str(own.file) in own.remark(end)


def test_a_certificate_of_the_plants_own_authority_is_used_as_it_is(tmp_path: Path) -> None:
    given = make("agent", uri="urn:plant:agent:7", issuer=authority())
    certificate_file, key_file = given.write(tmp_path, "given")
    (tmp_path / "own").mkdir()
    certificate_file.rename(tmp_path / "own" / "certificate.der")  # PEM inside; what counts is the content
    key_file.rename(tmp_path / "own" / "private_key.pem")
    own = Pki(tmp_path).own("a")
    assert own.certificate == given.certificate
    assert own.application_uri == "urn:plant:agent:7"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda own: (own / "private_key.pem").unlink(), "private_key.pem is missing"),
        (lambda own: (own / "private_key.pem").write_bytes(b"x"), "no certificate with its key"),
        (lambda own: (own / "certificate.der").write_bytes(b"x"), "no certificate with its key"),
        (lambda own: (own / "certificate.der").write_bytes(bytes(70_000)), "larger than 65536 bytes"),
        (lambda own: (own / "certificate.der").write_bytes(make("other").der), "is not the key of"),
    ],
)
def test_what_is_wrong_with_our_certificate_is_said(tmp_path: Path, spoil: object, said: str) -> None:
    Pki(tmp_path).own("a")
    assert callable(spoil)
    spoil(tmp_path / "own")
    with pytest.raises(SourceMisconfigured, match=said) as refused:
        Pki(tmp_path).own("a")
    assert str(tmp_path) in str(refused.value)


def test_a_certificate_without_an_application_uri_is_refused(tmp_path: Path) -> None:
    Pki(tmp_path).own("a")
    bare = authority("bare")
    certificate_file, key_file = bare.write(tmp_path, "bare")
    certificate_file.rename(tmp_path / "own" / "certificate.der")
    key_file.rename(tmp_path / "own" / "private_key.pem")
    with pytest.raises(SourceMisconfigured, match="names no application URI"):
        Pki(tmp_path).own("a")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("a file", encoding="utf-8")
    with pytest.raises(SourceMisconfigured, match="pki"):
        Pki(tmp_path / "pki").own("a")


def test_files_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    one, two = make("a"), make("b")
    pki.keep("trusted", one.certificate)
    two.write(tmp_path / "trusted", "b")
    (tmp_path / "trusted" / "notes.txt").write_text("the new press", encoding="utf-8")
    (tmp_path / "trusted" / ".hidden").write_text("x", encoding="utf-8")
    kept, problems = pki.read("trusted")
    assert {each.certificate for each in kept} == {one.certificate, two.certificate}
    assert sorted(Path(line.partition(":")[0]).name for line in problems) == ["b.key.pem", "notes.txt"]


def test_rejected_certificates_do_not_pile_up(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    for number in range(103):
        file = pki.keep("rejected", make(f"s{number}", key="shared").certificate)
        os.utime(file, ns=(number, number))
    kept, _ = pki.read("rejected")
    names = {each.certificate.subject.rfc4514_string() for each in kept}
    assert len(kept) == 100
    assert names == {f"CN=s{number}" for number in range(3, 103)}


def test_a_certificate_moves_between_folders(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    certificate = make("a").certificate
    pki.keep("rejected", certificate)
    pki.move(pki.read("rejected")[0][0], "trusted")
    assert pki.read("rejected")[0] == []
    [kept] = pki.read("trusted")[0]
    assert (kept.certificate, kept.file.name) == (certificate, f"{thumbprint(certificate)}.der")


def test_chains_are_split() -> None:
    root = authority()
    leaf = make("leaf", issuer=root)
    assert split_chain(leaf.der + root.der) == [leaf.certificate, root.certificate]
    for broken in (b"", b"\x30", b"text", leaf.der[:-1], leaf.der + b"x"):
        with pytest.raises(ValueError):
            split_chain(broken)


def test_a_key_with_a_pass_phrase_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(
        rsa_key("a").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )
    with pytest.raises(ValueError, match="pass phrase"):
        load_key(file)
