"""Rates, addresses, origins, passwords, and what the audit log keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import argon2
import pytest
import sqlalchemy as sa

from ingest_service.access import audit, passwords
from ingest_service.access.audit import DONE, REFUSED, Act
from ingest_service.access.gate import _rate_key
from ingest_service.access.origin import (
    certificate_names,
    client_address,
    is_encrypted,
    is_own_page,
    networks,
)
from ingest_service.access.passwords import WeakPassword, check_strength, verify
from ingest_service.access.rates import Buckets
from ingest_service.plant.engine import connect
from shopfloor.asset import parse_asset
from tests.plant_database import empty_plant

LOCAL = networks(["127.0.0.0/8", "::1/128"])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    opened = connect(empty_plant(tmp_path / "plant.sqlite"))
    yield opened
    opened.dispose()


def test_a_bucket_empties_fills_and_forgets() -> None:
    now = 0.0
    buckets = Buckets(2.0, 3.0, keys=2, clock=lambda: now)
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take("b") == 0.0
    now = 0.25
    assert buckets.take("a") == pytest.approx(0.25)
    now = 0.5
    assert buckets.take("a") == 0.0
    buckets.give_back("a")
    assert buckets.take("a") == 0.0
    buckets.take("c")
    assert set(buckets._left) == {"a", "c"}  # the key that was quiet longest is full again
    now = 1e9
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def scope(peer: str, **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"client": (peer, 1), "scheme": "http", "headers": named}


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("127.0.0.1", "10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "6.6.6.6, 10.1.2.3", "10.1.2.3"),  # what the client itself wrote stands in front
        ("127.0.0.1", "10.1.2.3, 127.0.0.2", "10.1.2.3"),
        ("::1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:127.0.0.1", "10.1.2.3", "10.1.2.3"),
        ("10.9.9.9", "10.1.2.3", "10.9.9.9"),  # no proxy of ours
        ("127.0.0.1", "nonsense", "127.0.0.1"),
        ("127.0.0.1", "10.1.2.3, nonsense", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
    ],
)
def test_the_address_behind_a_proxy_that_is_believed(peer: str, forwarded: str, address: str) -> None:
    asked = scope(peer, x_forwarded_for=forwarded)
    assert client_address(asked, LOCAL) == address
    assert client_address(asked, ()) == peer


def test_tls_at_a_proxy_counts_only_where_the_proxy_is_believed() -> None:
    assert is_encrypted(scope("127.0.0.1", x_forwarded_proto="https"), LOCAL)
    assert not is_encrypted(scope("127.0.0.1", x_forwarded_proto="https"), ())
    assert not is_encrypted(scope("10.9.9.9", x_forwarded_proto="https"), LOCAL)
    assert not is_encrypted(scope("127.0.0.1", x_forwarded_proto="https, http"), LOCAL)
    assert is_encrypted({**scope("10.9.9.9"), "scheme": "https"}, ())


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "https://plant:8443", "host": "plant:8443"}, True),
        ({"origin": "https://PLANT:8443", "host": "plant:8443"}, True),
        ({"origin": "https://plant", "host": "plant:8443"}, False),
        ({"origin": "https://plant.evil", "host": "plant"}, False),
        ({"origin": "null", "host": "plant"}, False),
        ({"origin": "null"}, False),
        ({"origin": "https://[", "host": "plant"}, False),
        ({"origin": "https://plant", "host": "plant", "sec-fetch-site": "cross-site"}, False),
    ],
)
def test_our_own_page_is_told_from_others(headers: dict[str, str], own: bool) -> None:
    assert is_own_page(headers) is own


def test_names_of_a_certificate() -> None:
    peer = {
        "subject": ((("countryName", "HK"),), (("commonName", "gateway"),)),
        "subjectAltName": (("DNS", "gateway"), ("URI", "urn:acme:hk01"), ("IP Address", "10.1.2.3")),
    }
    assert certificate_names(peer) == ("gateway", "urn:acme:hk01")
    assert certificate_names({}) == ()


def test_ipv6_networks_are_counted_as_one() -> None:
    assert _rate_key("2001:db8:1:2:3:4:5:6") == _rate_key("2001:db8:1:2::9") != _rate_key("2001:db8:1:3::9")
    assert _rate_key("fe80::1%eth0") == "fe80::/64"
    assert _rate_key("10.1.2.3") == "10.1.2.3"
    assert _rate_key("") == ""


@pytest.mark.parametrize(
    "password", ["short", "x" * 30, "ababababababab", "anna-is-my-name", "y" * 2000 + "abc"]
)
def test_weak_passwords(password: str) -> None:
    with pytest.raises(WeakPassword) as refused:
        check_strength(password, "anna", 12)
    assert password not in str(refused.value)


def test_no_user_costs_the_work_of_a_wrong_password() -> None:
    hasher = passwords._HASHER
    nobodys = argon2.extract_parameters(passwords._NOBODYS)
    assert nobodys == argon2.extract_parameters(hasher.hash("x"))
    # RFC 9106, section 4, second recommended option.
    assert (nobodys.type, nobodys.time_cost, nobodys.memory_cost, nobodys.parallelism) == (
        argon2.Type.ID, 3, 65536, 4,
    )  # fmt: skip
    assert not verify("anything", None)
    assert not verify("anything", "no hash at all")
    assert verify("sürname \ud800", passwords.hash_password("sürname \ud800"))


def test_the_audit_log_is_bounded_and_refusals_wash_nothing_out(engine: sa.Engine) -> None:
    def act(number: int, outcome: str) -> None:
        audit.record(engine, Act("user anna", "10.0.0.1", f"act {number}", "", outcome, "acme/hk01"), number)

    act(1, DONE)
    for number in range(2, 200):
        act(number, REFUSED)
    act(200, DONE)
    assert audit.prune(engine, most=100, oldest=0) == 198 - 25
    kept = audit.entries(engine)
    assert [row.outcome for row in kept].count(REFUSED) == 25
    assert {row.at for row in kept if row.outcome == DONE} == {1, 200}
    for number in range(300, 450):
        act(number, DONE)
    audit.prune(engine, most=100, oldest=0)
    assert [row.at for row in audit.entries(engine)] == list(range(449, 349, -1))
    audit.prune(engine, most=100, oldest=400)
    assert min(row.at for row in audit.entries(engine)) == 400
    page = audit.entries(engine, limit=10)
    assert [row.at for row in audit.entries(engine, limit=1, before=page[-1].audit_id)] == [439]


def test_administrators_see_entries_of_their_reach(engine: sa.Engine) -> None:
    for asset in ("", "acme", "acme/hk01", "acme/hk01/moulding", "acme/hk011", "acme/hk01_%"):
        audit.record(engine, Act("x", "", "act", "", DONE, asset))
    assert {row.asset for row in audit.entries(engine, reach="acme/hk01")} == {
        "acme/hk01",
        "acme/hk01/moulding",
    }
    assert len(audit.entries(engine)) == 6


def test_an_entry_has_a_bounded_size(engine: sa.Engine) -> None:
    audit.record(engine, Act("a" * 999, "b" * 999, "c" * 999, "d" * 999, DONE, "", {"e": "f" * 9999}))
    (row,) = audit.entries(engine)
    assert [len(text) for text in (row.actor, row.address, row.action, row.subject)] == [200, 64, 200, 200]
    assert len(row.detail) <= 2000
    assert json.loads(row.detail)["cut"].startswith('{"e":"fff')
    audit.record(engine, Act("a", "", "c", "", DONE, "", {"asset": parse_asset("acme"), "text": "\0" * 1990}))
    row = audit.entries(engine)[0]
    assert len(row.detail) <= 2000
    assert json.loads(row.detail)["cut"].startswith('{"asset":"acme"')
