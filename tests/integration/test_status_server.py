"""The agent's web server: what it answers, to whom, and that nobody can hold it up."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from edge_agent import status_server
from edge_agent.status import Snapshot
from edge_agent.status_page import CONTENT_SECURITY_POLICY
from edge_agent.status_server import StatusServer
from tests.unit.status_snapshots import TROUBLED, snapshot


class Shown:
    """What the server is told; a test changes it."""

    now: Snapshot
    wait: Callable[[], None]

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.now, self.wait = snapshot(), lambda: None

    def __call__(self) -> Snapshot:
        self.wait()
        return self.now


NAMES = ("Gateway-7.example.com",)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[StatusServer, Shown]]:
    """One server for all tests, since closing one takes half a second."""
    shown = Shown()
    server = StatusServer("127.0.0.1", 0, shown, names=NAMES)
    yield server, shown
    server.close()


@pytest.fixture
def server(served: tuple[StatusServer, Shown]) -> StatusServer:
    served[0].call_it(NAMES)
    served[1].reset()
    return served[0]


@pytest.fixture
def shown(served: tuple[StatusServer, Shown]) -> Shown:
    return served[1]


def ask(
    server: StatusServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()


def raw(server: StatusServer, request: bytes) -> bytes:
    """Send bytes; return all that comes back until the server closes."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=30)) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
        return received


@pytest.mark.parametrize(
    ("path", "media_type", "part"),
    [
        ("/", "text/html; charset=utf-8", b"<!doctype html>"),
        ("/?x=1", "text/html; charset=utf-8", b"hk01-gateway"),
        ("/health", "application/json", b'"status": "ok"'),
        ("/status.json", "application/json", b'"uptime_s": 7200'),
        ("/metrics", CONTENT_TYPE_LATEST, b"shopfloor_config_valid 1.0"),
    ],
)
def test_each_address_has_its_own_answer(
    server: StatusServer, path: str, media_type: str, part: bytes
) -> None:
    status, headers, body = ask(server, path)
    assert (status, headers["content-type"]) == (200, media_type)
    assert part in body
    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    status, head, nothing = ask(server, path, "HEAD")
    assert (status, head["content-length"], nothing) == (200, headers["content-length"], b"")


def test_a_probe_gets_503_only_when_the_agent_itself_does_not_work(
    server: StatusServer, shown: Shown
) -> None:
    shown.now = TROUBLED
    status, _, body = ask(server, "/health")
    assert (status, json.loads(body)["status"]) == (200, "degraded")
    shown.now = snapshot(stuck=("the event loop has not answered for 61 s",))
    status, _, body = ask(server, "/health")
    assert (status, json.loads(body)["status"]) == (503, "failing")
    assert json.loads(body)["problems"] == ["agent: the event loop has not answered for 61 s"]


def test_what_is_not_there_is_404_and_what_would_change_something_405(server: StatusServer) -> None:
    assert ask(server, "/etc/passwd")[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW"):
        status, headers, _ = ask(server, "/health", method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:9101", "127.0.0.1:9101", "[::1]:9101", "192.0.2.7", "gateway-7.example.COM:80", "localhost."],
)  # fmt: skip
def test_our_names_and_any_address_are_answered(server: StatusServer, host: str) -> None:
    assert ask(server, "/health", Host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example.com", "localhost.evil.example.com:9101", "[evil", "", "@127.0.0.1:1"]
)
def test_a_foreign_page_that_points_its_name_here_reads_nothing(server: StatusServer, host: str) -> None:
    status, _, body = ask(server, "/status.json", Host=host)
    assert status == 421
    assert b"hk01" not in body


def test_a_request_without_a_host_or_with_two_is_refused(server: StatusServer) -> None:
    assert raw(server, b"GET /health HTTP/1.1\r\n\r\n").split()[1] == b"400"
    assert raw(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: b\r\n\r\n").split()[1] == b"400"
    assert raw(server, b"GET /health HTTP/1.0\r\n\r\n").split()[1] == b"200", "HTTP/1.0 has none"


@pytest.mark.parametrize(
    "request_bytes",
    [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET / " + b"x" * 70_000, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000],
)  # fmt: skip
def test_rubbish_is_refused_and_the_next_one_served(server: StatusServer, request_bytes: bytes) -> None:
    try:
        answer = raw(server, request_bytes)
    except ConnectionError:
        answer = b""
    assert b" 200 " not in answer.split(b"\r\n")[0]
    assert ask(server, "/health")[0] == 200


def test_a_client_that_dawdles_is_sent_away(server: StatusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_server, "_MAX_REQUEST_S", 0.3)
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=30)) as connection:
        began = time.monotonic()
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        try:
            # Each byte comes in time for a limit of single reads; only their sum does not.
            while time.monotonic() - began < 30:
                connection.sendall(b"A")
                time.sleep(0.05)
        except ConnectionError:
            return
    pytest.fail("still connected after 30 s")


def test_many_at_once_are_turned_away_and_those_before_them_served(
    server: StatusServer, shown: Shown
) -> None:
    go, inside = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        inside.release()
        go.wait(60)

    shown.wait = wait
    answers: list[int] = []
    clients = [
        threading.Thread(target=lambda: answers.append(ask(server, "/health")[0]))
        for _ in range(status_server._MAX_AT_ONCE)
    ]
    for client in clients:
        client.start()
    for _ in clients:
        assert inside.acquire(timeout=30)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(server, "/health")
    go.set()
    for client in clients:
        client.join(30)
    assert answers == [200] * status_server._MAX_AT_ONCE


def test_a_port_that_is_taken_is_named(server: StatusServer) -> None:
    with pytest.raises(OSError, match=f"status page at 127.0.0.1:{server.port}: "):
        StatusServer("127.0.0.1", server.port, snapshot)


def test_it_listens_on_ipv6_and_takes_other_names_while_it_runs(server: StatusServer) -> None:
    assert ask(server, "/health", Host="other.example.com")[0] == 421
    server.call_it(("other.example.com",))
    assert ask(server, "/health", Host="other.example.com")[0] == 200
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    other = StatusServer("::1", 0, snapshot)
    try:
        with closing(http.client.HTTPConnection("::1", other.port, timeout=30)) as connection:
            connection.request("GET", "/health")
            assert connection.getresponse().status == 200
    finally:
        other.close()
