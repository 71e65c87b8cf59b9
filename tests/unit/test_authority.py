"""The authority's folder: what is made, what is never written over, what is said of each certificate."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ingest_service.authority import folder as authority_folder
from ingest_service.authority.findings import Finding, examine
from ingest_service.authority.folder import AUTHORITY, AuthorityFolder
from ingest_service.authority.profile import AuthorityTrouble, hosts_of, same_key
from shopfloor.__main__ import main

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SOON = timedelta(days=60)


def at(folder: Path, days: float) -> AuthorityFolder:
    return AuthorityFolder(folder, NOW + timedelta(days=days))


@pytest.fixture
def made(tmp_path: Path) -> AuthorityFolder:
    one = at(tmp_path / "certs", 0)
    one.folder.mkdir(mode=0o700)
    assert one.establish("Acme shop floor", 3650)
    return one


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def only(found: list[Finding], name: str) -> Finding:
    return next(one for one in found if one.name == name)


def test_certificates_say_what_they_are_for(made: AuthorityFolder) -> None:
    assert made.issue("ingest", "server", ["Ingest.example", "10.0.0.5", "[fd00::5]", "10.0.0.5"], 365)
    assert made.issue("gateway-hk01", "agent", [], 365)
    assert made.issue("gateway_2", "agent", [], 365)
    service, agent = made.read("ingest"), made.read("gateway-hk01")
    assert hosts_of(service) == ("ingest.example", "10.0.0.5", "fd00::5")
    assert hosts_of(agent) == ("gateway-hk01",)
    assert hosts_of(made.read("gateway_2")) == ()
    own = made.read(AUTHORITY)
    constraints = own.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    for one, usage in ((service, "serverAuth"), (agent, "clientAuth")):
        one.verify_directly_issued_by(own)
        usages = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert [each._name for each in usages] == [usage]
        assert not one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert [one.problems for one in examine(made, SOON)] == [()] * 4
    for name in made.names():
        assert stat.S_IMODE(made.file(name, "key").stat().st_mode) == 0o600


def test_the_same_again_changes_nothing(made: AuthorityFolder) -> None:
    made.issue("ingest", "server", ["ingest.example", "10.0.0.5"], 365)
    before = contents(made.folder)
    assert not made.establish("another title", 10)
    assert not made.issue("ingest", "server", ["10.0.0.5", "INGEST.example"], 30)
    for hosts, kind in ((["other.example"], "server"), (["ingest.example", "10.0.0.5"], "agent")):
        with pytest.raises(
            AuthorityTrouble, match=r"ingest\.crt is there already, server of ingest\.example"
        ):
            made.issue("ingest", "server" if kind == "server" else "agent", hosts, 365)
    assert contents(made.folder) == before


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".hidden", "authority", "x" * 64, "a b", "ä"])
def test_names_that_can_be_none(made: AuthorityFolder, name: str) -> None:
    with pytest.raises(AuthorityTrouble, match="can't be the name"):
        made.issue(name, "agent", [], 365)


@pytest.mark.parametrize("host", ["https://a.example", "a.example:8443", "", "a b", "-a", "a_b", "a." * 130])
def test_hosts_that_can_be_none(made: AuthorityFolder, host: str) -> None:
    with pytest.raises(AuthorityTrouble, match="neither a DNS name nor an address"):
        made.issue("ingest", "server", [host], 365)
    assert made.names() == [AUTHORITY]


def test_what_runs_out_is_named_with_what_to_do(made: AuthorityFolder) -> None:
    made.issue("ingest", "server", ["ingest.example"], 365)
    assert only(examine(at(made.folder, 300), SOON), "ingest").problems == ()
    soon = only(examine(at(made.folder, 310), SOON), "ingest")
    assert soon.is_due
    assert soon.problems == (
        "runs out in 55 days: `certs renew ingest`, then bring ingest.crt to where it is used",
    )
    (said,) = only(examine(at(made.folder, 368), SOON), "ingest").problems
    assert said.startswith("EXPIRED 3 days ago: `certs renew ingest`")
    (said,) = only(examine(at(made.folder, -2), SOON), "ingest").problems
    assert "does not hold yet" in said
    # An authority that has run out signs nothing; it is renewed by its own key, and all it signed stays good.
    late = at(made.folder, 3660)
    with pytest.raises(AuthorityTrouble, match="has expired: `certs renew authority`"):
        late.issue("more", "agent", [], 365)
    with pytest.raises(AuthorityTrouble, match="has expired"):
        late.establish("x", 3650)
    late.renew(AUTHORITY, 3650)
    late.renew("ingest", 365)
    assert [one.problems for one in examine(late, SOON)] == [(), ()]


def test_no_certificate_outlives_its_authority(made: AuthorityFolder) -> None:
    made.issue("ingest", "server", ["ingest.example"], 36_500)
    assert made.read("ingest").not_valid_after_utc == made.read(AUTHORITY).not_valid_after_utc


def test_renewing_keeps_the_key_wherever_it_is(made: AuthorityFolder) -> None:
    made.issue("gateway", "agent", ["gateway.plant"], 30)
    first = made.read("gateway")
    key = made.file("gateway", "key").read_bytes()
    made.file("gateway", "key").unlink()  # it was taken to the gateway
    later = at(made.folder, 20)
    later.renew("gateway", 365)
    renewed = later.read("gateway")
    assert same_key(first.public_key(), renewed.public_key())
    assert (hosts_of(renewed), renewed.serial_number != first.serial_number) == (hosts_of(first), True)
    assert not made.file("gateway", "key").exists()
    made.file("gateway", "key").write_bytes(key)
    made.file("gateway", "key").chmod(0o644)
    (said,) = only(examine(later, SOON), "gateway").problems
    assert said.startswith("others may use gateway.key: chmod 600")
    later.renew("gateway", 365, hosts=["10.1.1.1"], new_key=True)
    (kept,) = made.folder.glob("gateway.key.old-*")
    assert kept.read_bytes() == key
    assert not same_key(first.public_key(), later.read("gateway").public_key())
    assert hosts_of(later.read("gateway")) == ("10.1.1.1",)
    assert later.has_key_of("gateway", later.read("gateway"))
    for more in ({"new_key": True}, {"hosts": ["a.example"]}):
        with pytest.raises(AuthorityTrouble, match="keeps its key"):
            later.renew(AUTHORITY, 10, **more)
    with pytest.raises(AuthorityTrouble, match="there is no such certificate"):
        later.renew("nobody", 10)


def test_a_command_that_is_ended_leaves_nothing_half(
    made: AuthorityFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is written first: whoever comes again goes on with it."""
    write = authority_folder._write

    def full(file: Path, content: bytes, mode: int) -> None:
        if file.suffix == ".crt":
            raise OSError("no space left")
        write(file, content, mode)

    monkeypatch.setattr(authority_folder, "_write", full)
    with pytest.raises(OSError, match="no space"):
        made.issue("ingest", "server", ["ingest.example"], 365)
    monkeypatch.undo()
    key = made.file("ingest", "key").read_bytes()
    assert made.names() == [AUTHORITY]
    assert made.issue("ingest", "server", ["ingest.example"], 365)
    assert made.file("ingest", "key").read_bytes() == key
    assert only(examine(made, SOON), "ingest").problems == ()


def test_what_is_broken_is_named(made: AuthorityFolder, tmp_path: Path) -> None:
    made.issue("ingest", "server", ["ingest.example"], 365)
    made.issue("other", "server", ["other.example"], 365)
    made.file("ingest", "key").write_bytes(made.file("other", "key").read_bytes())
    (said,) = only(examine(made, SOON), "ingest").problems
    assert "the key of another certificate" in said
    made.file("ingest").write_text("no certificate")
    (said,) = only(examine(made, SOON), "ingest").problems
    assert "no certificate can be read" in said
    made.file("other", "key").write_text("no key")
    (said,) = only(examine(made, SOON), "other").problems
    assert "no key can be read" in said
    stranger = at(tmp_path / "strangers", 0)
    stranger.folder.mkdir()
    stranger.establish("Acme shop floor", 3650)
    made.file(AUTHORITY).write_bytes(stranger.file(AUTHORITY).read_bytes())
    with pytest.raises(AuthorityTrouble, match=r"authority\.key is not the key of"):
        made.issue("more", "agent", [], 365)
    assert any(
        "another authority has signed it" in one for one in only(examine(made, SOON), "other").problems
    )
    made.file(AUTHORITY, "key").unlink()
    assert any("bring it back" in one for one in only(examine(made, SOON), AUTHORITY).problems)
    assert isinstance(stranger._private(AUTHORITY), ec.EllipticCurvePrivateKey)


class Shell:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys

    def run(self, *words: str, exits: int = 0) -> str:
        code = main(["certs", *words, "--folder", str(self._folder)])
        captured = self._capsys.readouterr()
        assert code == exits, captured
        return captured.out + captured.err


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "certs"
    shell = Shell(folder, capsys)
    assert "there is no authority here; `certs init` makes one" in shell.run("agent", "gateway", exits=1)
    assert "there is no authority here" in shell.run("list", exits=1)
    assert "authority.crt: made" in shell.run("init", "--title", "Acme")
    assert "authority.crt: there already" in shell.run("init")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "ingest.crt: made" in shell.run(
        "server", "ingest", "--host", "ingest.example", "--host", "10.0.0.5"
    )
    assert "--certificate gateway ..." in shell.run("agent", "gateway", "--days", "30")
    assert "gateway.crt: there already" in shell.run("agent", "gateway")
    rows = [json.loads(line) for line in shell.run("list", "--json", exits=1).splitlines()]
    assert [row["name"] for row in rows] == ["authority", "gateway", "ingest"]
    assert [row["is_due"] for row in rows] == [False, True, False]
    assert "runs out in 29 days" in shell.run("list", exits=1)
    assert shell.run("renew").startswith(f"{folder / 'gateway.crt'}: made")
    assert "nothing runs out within 60 days" in shell.run("renew")
    assert "ingest\tserver\tuntil " in shell.run("list")
    assert "about one NAME" in shell.run("renew", "--new-key", exits=2)
    assert "is there already" in shell.run("server", "ingest", "--host", "x.example", exits=1)
    with AuthorityFolder(folder).held():
        assert "another command is at work" in shell.run("renew", "ingest", exits=1)
    with pytest.raises(SystemExit):
        main(["certs", "init", "--days", "0", "--folder", str(folder)])
