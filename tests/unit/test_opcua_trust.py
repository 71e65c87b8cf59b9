"""Which certificates of servers are accepted, and what is said of those that are not; the command that decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_agent.sources.opcua.connect import explain
from edge_agent.sources.opcua.pki import Pki
from edge_agent.sources.opcua.security import Policy
from edge_agent.sources.opcua.trust import Verdict, judge
from shopfloor.__main__ import main
from tests.integration.opcua_certificates import NOW, Made, authority, make, revocations

URI = "urn:test:server"


def verdict(pki: Pki, server: Made, *chain: Made, policy: Policy = "Basic256Sha256", **given: Any) -> Verdict:
    blob = server.der + b"".join(each.der for each in chain)
    given = {"host": "127.0.0.1", "application_uri": URI, "now": NOW, **given}
    return judge(pki, blob, policy=policy, **given)


def trusting(folder: Path, *trusted: Made, issuers: tuple[Made, ...] = ()) -> Pki:
    pki = Pki(folder)
    for each in trusted:
        pki.keep("trusted", each.certificate)
    for each in issuers:
        pki.keep("issuers", each.certificate)
    return pki


def test_an_unknown_certificate_is_not_trusted(tmp_path: Path) -> None:
    server = make()
    found = verdict(trusting(tmp_path), server)
    assert not found.accepted
    said = explain(found)
    assert "is not trusted: CN=server, application URI urn:test:server, for localhost, 127.0.0.1" in said
    assert f"run: shopfloor edge trust accept AGENT_YAML {server.thumbprint}" in said


def test_a_trusted_one_is(tmp_path: Path) -> None:
    server = make()
    found = verdict(trusting(tmp_path, server), server)
    assert (found.accepted, found.by, found.notes) == (True, "itself", ())
    assert "is trusted through itself: CN=server" in explain(found)


def test_a_changed_certificate_is_refused_and_said_to_have_changed(tmp_path: Path) -> None:
    before, after = make(), make(key="another")
    found = verdict(trusting(tmp_path, before), after)
    assert not found.accepted
    assert f"is not trusted (it has changed; trusted is {before.thumbprint})" in explain(found)


def test_an_issuer_is_trusted_for_all_of_its_servers(tmp_path: Path) -> None:
    root = authority()
    found = verdict(trusting(tmp_path, root), make(issuer=root))
    assert (found.accepted, found.by) == (True, "its issuer Plant CA")
    assert found.notes == ("there is no revocation list of Plant CA",)


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "sent by the server"])
def test_a_chain_is_completed(tmp_path: Path, kept: bool) -> None:
    root = authority()
    middle = authority("Line CA", root)
    server = make(issuer=middle)
    pki = trusting(tmp_path, root, issuers=(middle,) if kept else ())
    assert verdict(pki, server, *(() if kept else (middle,))).accepted
    assert not verdict(trusting(tmp_path / "none", issuers=(root, middle)), server).trusted


def test_an_issuer_among_the_issuers_alone_is_not_trusted(tmp_path: Path) -> None:
    root = authority()
    assert not verdict(trusting(tmp_path, issuers=(root,)), make(issuer=root)).trusted


def test_a_namesake_of_an_issuer_is_not_it(tmp_path: Path) -> None:
    real, fake = authority(), authority("impostor")
    server = make(issuer=Made(real.certificate, fake.key))
    assert not verdict(trusting(tmp_path, real), server).trusted


def test_a_trusted_server_cannot_vouch_for_others(tmp_path: Path) -> None:
    careless = make("careless", careless=True)
    assert not verdict(trusting(tmp_path, careless), make(issuer=careless)).trusted


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"end": timedelta(days=-1)}, "it expired on "),
        ({"start": timedelta(days=1)}, "is a clock wrong?"),
        ({"bits": 1024}, "its key has 1024 bits; Basic256Sha256 needs 2048 to 4096"),
    ],
)
def test_what_is_refused_even_of_a_trusted_server(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    server = make(**changes, key=f"bits {changes.get('bits')}")
    found = verdict(trusting(tmp_path, server), server)
    assert (found.trusted, found.accepted) == (True, False)
    assert said in explain(found)


def test_short_keys_are_for_the_old_policies(tmp_path: Path) -> None:
    server = make(bits=1024, key="short")
    assert verdict(trusting(tmp_path, server), server, policy="Basic128Rsa15").accepted


@pytest.mark.parametrize(
    ("changes", "given", "said"),
    [
        ({}, {"application_uri": "urn:other"}, "it is of application urn:test:server, but the server calls"),
        ({"hosts": ("imm-01.plant",)}, {}, "it is for imm-01.plant, not for 127.0.0.1"),
        ({"usage": ExtendedKeyUsageOID.CLIENT_AUTH}, {}, "it is not meant for servers"),
    ],
)
def test_names_decide_only_where_nobody_has_looked(
    tmp_path: Path, changes: dict[str, Any], given: dict[str, Any], said: str
) -> None:
    root = authority()
    through_issuer = verdict(trusting(tmp_path / "a", root), make(issuer=root, **changes), **given)
    assert (through_issuer.trusted, through_issuer.accepted) == (True, False)
    assert said in explain(through_issuer)
    itself = make(**changes)
    looked_at = verdict(trusting(tmp_path / "b", itself), itself, **given)
    assert looked_at.accepted
    assert said in explain(looked_at)


def test_host_names_ignore_case(tmp_path: Path) -> None:
    root = authority()
    server = make(issuer=root, hosts=("IMM-01.Plant",))
    assert verdict(trusting(tmp_path, root), server, host="imm-01.plant").accepted


@pytest.mark.parametrize("until", [timedelta(days=7), timedelta(days=-3)], ids=["current", "old"])
def test_a_revoked_certificate_is_refused(tmp_path: Path, until: timedelta) -> None:
    root = authority()
    revoked, fine = make(issuer=root), make(issuer=root)
    pki = trusting(tmp_path, root)
    (tmp_path / "issuers" / "plant.crl").write_bytes(revocations(root, revoked, until=until))
    assert "server has been revoked by Plant CA" in explain(verdict(pki, revoked))
    found = verdict(pki, fine)
    assert found.accepted
    assert any("is out of date" in note for note in found.notes) == (until < timedelta())


def test_a_list_that_another_signed_revokes_nothing(tmp_path: Path) -> None:
    root, fake = authority(), authority("impostor")
    server = make(issuer=root)
    (trusting(tmp_path, root).folder / "issuers" / "x.crl").write_bytes(
        revocations(Made(root.certificate, fake.key), server)
    )
    assert verdict(Pki(tmp_path), server).accepted


def test_an_issuer_that_has_expired(tmp_path: Path) -> None:
    root = authority("Old CA", end=timedelta(days=-1))
    assert "its issuer expired on" in explain(verdict(trusting(tmp_path, root), make(issuer=root)))


def test_files_that_are_no_certificates_are_named_and_harm_nobody(tmp_path: Path) -> None:
    server = make()
    pki = trusting(tmp_path, server)
    (tmp_path / "trusted" / "broken.der").write_bytes(b"x")
    found = verdict(pki, server)
    assert found.accepted
    assert "broken.der: not a certificate" in found.notes[0]


def test_the_end_is_announced(tmp_path: Path) -> None:
    server = make(end=timedelta(days=100))
    found = verdict(trusting(tmp_path, server), server)
    assert found.remark(NOW) == ""
    assert "ends on" in found.remark(NOW + timedelta(days=50))
    assert "ended on" in found.remark(NOW + timedelta(days=101))


def test_what_is_no_certificate_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        judge(Pki(tmp_path), b"", host="h", application_uri=URI, policy="Basic256", now=NOW)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        status = main(["edge", "trust", *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("x", encoding="utf-8")
    path = tmp_path / "agent.yaml"
    path.write_text(
        """
agent: {id: a1, asset: acme/hk01}
data: data
uplink: {url: "http://127.0.0.1:1", token: "file:token"}
sources:
  - opcua:
      name: one
      endpoint: opc.tcp://127.0.0.1
      nodes: [{node: "i=2258", asset: acme/hk01, signal: time}]
  - opcua:
      name: two
      endpoint: opc.tcp://127.0.0.2
      security: {policy: Basic256Sha256, pki: other}
      nodes: [{node: "i=2258", asset: acme/hk01, signal: time.two}]
""",
        encoding="utf-8",
    )
    return path


def test_the_command_lists_accepts_and_rejects(agent: Path, run: Run) -> None:
    default, other = Pki(agent.parent / "data" / "pki"), Pki(agent.parent / "other")
    assert run("list", agent) == (
        0,
        f"{default.folder}: no certificates\n{other.folder}: no certificates\n",
        "",
    )
    server = make()
    other.keep("rejected", server.certificate)
    default.own("a1")
    status, out, _ = run("list", agent)
    assert status == 0
    assert f"rejected  {server.thumbprint}" in out
    assert "urn:shopfloor:edge-agent:a1" in out

    colons = ":".join(server.thumbprint[n : n + 2] for n in range(0, 40, 2)).lower()
    status, out, _ = run("accept", agent, colons)
    assert status == 0
    assert out.startswith(f"trusted: server, application {URI}, for localhost, 127.0.0.1, valid until ")
    assert [kept.certificate for kept in other.read("trusted")[0]] == [server.certificate]
    assert other.read("rejected")[0] == []
    assert run("accept", agent, server.thumbprint)[0] == 0

    status, out, _ = run("reject", agent, server.thumbprint[:8])
    assert status == 0
    assert out.startswith("rejected: server")
    assert other.read("trusted")[0] == []


def test_the_command_prints_json(agent: Path, run: Run) -> None:
    server = make()
    Pki(agent.parent / "other").keep("rejected", server.certificate)
    listed = json.loads(run("list", agent, "--json")[1])
    [certificate] = listed["folders"][1]["certificates"]
    assert (certificate["place"], certificate["thumbprint"]) == ("rejected", server.thumbprint)
    assert certificate["application_uris"] == [URI]
    assert len(certificate["sha256"]) == 64
    accepted = json.loads(run("accept", agent, server.thumbprint, "--json")[1])
    assert accepted["certificates"][0]["place"] == "trusted"


def test_the_command_takes_a_folder_and_refuses_what_is_not_clear(tmp_path: Path, run: Run) -> None:
    pki = Pki(tmp_path)
    for name in ("a", "b"):
        pki.keep("rejected", make(name).certificate)
    assert run("accept", tmp_path, "")[0] == 1
    assert run("accept", tmp_path, make("a").thumbprint[:5])[2].endswith("give more of the thumbprint\n")
    status, _, err = run("accept", tmp_path, "00" * 20)
    assert (status, err) == (1, f"{'00' * 20}: no such certificate among the rejected ones\n")
    assert len(pki.read("rejected")[0]) == 2


def test_the_command_says_what_is_wrong_with_the_configuration(tmp_path: Path, run: Run) -> None:
    (tmp_path / "agent.yaml").write_text("agent: {}\n", encoding="utf-8")
    status, _, err = run("list", tmp_path / "agent.yaml")
    assert status == 2
    assert "agent.yaml:1:8: agent.id: required, but missing" in err
