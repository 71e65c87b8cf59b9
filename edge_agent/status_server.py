"""The agent's own web server: ``/`` for people, ``/health`` for probes, ``/status.json``, ``/metrics`` for Prometheus.

It has no authentication and changes nothing. Everything about a request is bounded: its bytes, its time, and how many
there are at once.
"""

from __future__ import annotations

import io
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any, Final, NamedTuple, cast

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from edge_agent.metrics import metrics_text
from edge_agent.status import Condition, Snapshot, condition, full_status, health
from edge_agent.status_page import CONTENT_SECURITY_POLICY, page

_MAX_REQUEST_BYTES: Final = 16 * 1024
_MAX_REQUEST_S: Final = 10.0
"""From the connection to the end of the request's head."""
_MAX_AT_ONCE: Final = 16


class _Answer(NamedTuple):
    status: HTTPStatus
    media_type: str
    body: bytes


class StatusServer:
    """Serves from threads of its own, so that a busy event loop still answers probes."""

    def __init__(
        self, host: str, port: int, snapshot: Callable[[], Snapshot], *, names: Sequence[str] = ()
    ) -> None:
        """Listen.

        Args:
            host: name or address to listen at.
            port: 0 takes any free one.
            snapshot: asked for every answer, from another thread.
            names: what it may be called in a URL beside ``localhost``, ``host`` and any IP address.

        Raises:
            OSError: the port is taken.
        """
        self._snapshot = snapshot
        self._metrics = metrics_text(snapshot)
        self._host = host
        self.call_it(names)
        try:
            self._server = _Server(self, host, port)
        except OSError as error:
            raise OSError(f"status page at {host}:{port}: {error}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.server_port

    def call_it(self, names: Sequence[str]) -> None:
        """Take requests under these names from now on; see the constructor."""
        self._names = frozenset({"localhost", self._host.lower(), *(name.lower() for name in names)})

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str) -> _Answer:
        """Return what stands at a path."""
        if path == "/":
            return _Answer(HTTPStatus.OK, "text/html; charset=utf-8", page(self._snapshot()).encode())
        if path == "/metrics":
            return _Answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, self._metrics())
        if path == "/health":
            now = self._snapshot()
            failing = condition(now) is Condition.FAILING
            return _json(health(now), HTTPStatus.SERVICE_UNAVAILABLE if failing else HTTPStatus.OK)
        if path == "/status.json":
            return _json(full_status(self._snapshot()))
        return _text(HTTPStatus.NOT_FOUND, "/, /health, /status.json or /metrics")

    def is_ours(self, host: str) -> bool:
        """Tell whether a Host header names this server.

        A name of somebody else's that was made to point here (DNS rebinding) would let a foreign page read this one.
        An address can't be made to: a page that a browser got from it is ours.
        """
        name = host.strip().lower()
        name = name[: name.find("]") + 1] if name.startswith("[") else name.partition(":")[0]
        if name.rstrip(".") in self._names:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def _json(body: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> _Answer:
    return _Answer(status, "application/json", json.dumps(body, indent=1).encode())


def _text(status: HTTPStatus, text: str) -> _Answer:
    return _Answer(status, "text/plain; charset=utf-8", f"{text}\n".encode())


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True

    def __init__(self, owner: StatusServer, host: str, port: int) -> None:
        self.owner = owner
        self._free = threading.BoundedSemaphore(_MAX_AT_ONCE)
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would ask the DNS for its own name, which may take long on a gateway.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""


class _Bounded(io.RawIOBase):
    """The bytes of a connection until a deadline, and no more than a request has."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self._left = _MAX_REQUEST_BYTES
        self._until_s = time.monotonic() + _MAX_REQUEST_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0 or self._left <= 0:
            raise TimeoutError("the request takes too long, or too much")
        self._connection.settimeout(left_s)
        number = self._connection.recv_into(buffer, min(len(buffer), self._left))
        self._left -= number
        return number


class _Handler(BaseHTTPRequestHandler):
    timeout = _MAX_REQUEST_S
    server_version = "shopfloor"
    sys_version = ""
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Bounded(self.connection), 4096)

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        owner = cast("_Server", self.server).owner
        hosts = self.headers.get_all("host", [])
        if len(hosts) > 1 or (not hosts and self.request_version >= "HTTP/1.1"):
            answer = _text(HTTPStatus.BAD_REQUEST, "one Host header, please (RFC 9112 §3.2)")
        elif hosts and not owner.is_ours(hosts[0]):
            answer = _text(HTTPStatus.MISDIRECTED_REQUEST, "not a name of this server; see status.names")
        elif self.command not in {"GET", "HEAD"}:
            answer = _text(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD")
        else:
            return True
        self._send(answer)
        return False

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self._send(cast("_Server", self.server).owner.answer(path))

    do_HEAD = do_GET  # noqa: N815  the standard library's name

    def _send(self, answer: _Answer) -> None:
        self.connection.settimeout(_MAX_REQUEST_S)
        self.send_response(answer.status)
        self.send_header("content-type", answer.media_type)
        self.send_header("content-length", str(len(answer.body)))
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def end_headers(self) -> None:
        for name, value in (
            ("content-security-policy", CONTENT_SECURITY_POLICY),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("connection", "close"),
        ):
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the standard library's name
        """Write nothing: probes come every few seconds."""
