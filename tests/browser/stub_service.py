"""A stand-in for the ingestion service that speaks docs/specs/http-api.md and says whatever a test wants.

It serves the built page, `/v1/live` and `/v1/samples` from threads of its own, under the strictest content
security policy that the page is promised to run under. Being killed closes every connection, as a kill does.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

DIST = Path(__file__).resolve().parents[2] / "dashboards" / "live" / "dist"
CSP = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}

_COOKIE = "a-session-of-the-stub"
History = Callable[[str, str, int, int, int], dict[str, list[Any]] | None]
"""(asset, signal, from ms, to ms, points) -> bucket columns, or None for a series without history."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Plant:
    """What the stub says about itself; a test changes it and then `StubService.push`es."""

    sites: list[dict[str, Any]] = field(default_factory=list)
    machines: list[dict[str, Any]] = field(default_factory=list)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    agents: list[dict[str, Any]] = field(default_factory=list)
    series: list[tuple[str, str, str]] = field(default_factory=list)
    """asset, signal, unit; the position is the id."""
    values: dict[int, tuple[int, Any, int]] = field(default_factory=dict)
    """id -> t, v, q."""

    def snapshot(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the events that begin a connection, in the contract's order."""
        yield "hello", {"now": now_ms(), "ping_s": 2, "version": "0.1.0"}
        assets, signals, units = zip(*self.series, strict=True) if self.series else ((), (), ())
        yield "series", {"id": list(range(len(assets))), "asset": assets, "signal": signals, "unit": units}
        yield "values", _columns(self.values)
        yield "machines", {"machines": self.machines}
        yield "sites", {"sites": self.sites}
        yield "alarms", {"alarms": self.alarms}
        yield "agents", {"agents": self.agents}


def _columns(values: dict[int, tuple[int, Any, int]]) -> dict[str, list[Any]]:
    return {
        "id": list(values),
        "t": [t for t, _, _ in values.values()],
        "v": [v for _, v, _ in values.values()],
        "q": [q for _, _, q in values.values()],
    }


class StubService:
    """One service on one loopback port, which it keeps over `kill` and `start`."""

    def __init__(
        self,
        plant: Plant,
        *,
        token: str | None = None,
        user: tuple[str, str] | None = None,
        history: History | None = None,
    ) -> None:
        self.plant = plant
        self.token = token
        self.user = user
        """Name and password of the only one who may sign in."""
        self.role = "viewer"
        self.signed_in = False
        self.logins: list[dict[str, str]] = []
        self.history: History = history or (lambda *_: None)
        self.silent = False
        """Connections stay open and say nothing more, not even a ping."""
        self.live_requests = 0
        self.sample_queries: list[dict[str, list[str]]] = []
        self._viewers: set[queue.SimpleQueue[bytes | None]] = set()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._port = 0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        service = self

        class Handler(_Handler):
            stub = service

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="stub-service")
        self._thread.start()

    def kill(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        with self._lock:
            for viewer in self._viewers:
                viewer.put(None)
            for connection in self._sockets:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the browser was faster
        self._server.server_close()  # waits for the threads of its connections
        self._thread.join()
        self._server = self._thread = None

    def push(self, event: str, data: dict[str, Any]) -> None:
        """Send one event to every open page."""
        with self._lock:
            for viewer in self._viewers:
                viewer.put(_frame(event, data))

    def push_values(self, values: dict[int, tuple[int, Any, int]]) -> None:
        self.plant.values.update(values)
        self.push("values", _columns(values))

    def viewers(self) -> int:
        with self._lock:
            return len(self._viewers)


class _Handler(BaseHTTPRequestHandler):
    stub: ClassVar[StubService]
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        with self.stub._lock:
            self.stub._sockets.add(self.connection)

    def finish(self) -> None:
        with self.stub._lock:
            self.stub._sockets.discard(self.connection)
        super().finish()

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Say nothing: a test's output is its own."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if not url.path.startswith("/v1/"):
            self._page(url.path)
        elif not self._is_known():
            self._answer(401, "application/json", b"{}")
        elif url.path == "/v1/live":
            self._live()
        elif url.path == "/v1/session":
            self._answer(200, "application/json", json.dumps(self._session()).encode())
        elif url.path == "/v1/samples":
            self._samples(parse_qs(url.query))
        else:
            self._answer(404, "application/json", b"{}")

    def do_POST(self) -> None:
        if self.path.startswith("/v1/alarms/"):
            self._acknowledge(self.path.split("/")[3])
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.stub.logins.append(body)
        if self.headers.get("X-Shopfloor-Request") is None or self.path != "/v1/session":
            self._answer(403, "application/json", b"{}")
        elif (body["user"], body["password"]) != self.stub.user:
            self._answer(401, "application/json", b"{}")
        else:
            self.stub.signed_in = True
            cookie = {"Set-Cookie": f"shopfloor={_COOKIE}; HttpOnly; SameSite=strict; Path=/"}
            self._answer(200, "application/json", json.dumps(self._session()).encode(), cookie)

    def _acknowledge(self, alarm_id: str) -> None:
        operates = self._has_session() and self.stub.role == "operator"
        found = next((one for one in self.stub.plant.alarms if one["id"] == alarm_id), None)
        if not operates or self.headers.get("X-Shopfloor-Request") is None:
            self._answer(403, "application/json", b"{}")
        elif found is None:
            self._answer(404, "application/json", b"{}")
        else:
            found.update(acknowledged_at=now_ms(), acknowledged_by=f"user {self._session()['user']}")
            self._answer(200, "application/json", json.dumps(found).encode())

    def do_DELETE(self) -> None:
        self.stub.signed_in = False
        self._answer(204, "application/json", b"")

    def _is_known(self) -> bool:
        if self.stub.token is None and self.stub.user is None:
            return True
        if self.stub.token is not None and self.headers.get("Authorization") == f"Bearer {self.stub.token}":
            return True
        return self._has_session()

    def _has_session(self) -> bool:
        return self.stub.signed_in and f"shopfloor={_COOKIE}" in self.headers.get("Cookie", "")

    def _session(self) -> dict[str, Any]:
        name = self.stub.user[0] if self.stub.user and self.stub.signed_in else ""
        return {"user": name, "role": self.stub.role, "asset": "", "ends_at": None}

    def _page(self, path: str) -> None:
        file = (DIST / (path.lstrip("/") or "index.html")).resolve()
        if not file.is_relative_to(DIST) or not file.is_file():
            self._answer(404, "text/plain", b"not found")
            return
        self._answer(200, _TYPES[file.suffix], file.read_bytes(), {"Content-Security-Policy": CSP})

    def _samples(self, query: dict[str, list[str]]) -> None:
        self.stub.sample_queries.append(query)
        asset = query["asset"][0]
        span = int(query["from"][0]), int(query["to"][0]), int(query["points"][0])
        units = {signal: unit for owner, signal, unit in self.stub.plant.series if owner == asset}
        found = []
        for signal in query["signal"]:
            columns = self.stub.history(asset, signal, *span)
            if columns is not None:
                found.append({"id": 0, "asset": asset, "signal": signal, "unit": units[signal], **columns})
        body = json.dumps({"series": found, "truncated": False}).encode()
        self._answer(200, "application/json", body)

    def _live(self) -> None:
        viewer: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        with self.stub._lock:
            self.stub.live_requests += 1
            for event, data in self.stub.plant.snapshot():
                viewer.put(_frame(event, data))
            self.stub._viewers.add(viewer)
        try:
            swallowed = False
            while (frame := self._next(viewer)) is not None:
                if self.stub.silent:
                    swallowed = True
                    continue
                if swallowed:
                    return  # what the silence swallowed may have been the snapshot: the viewer must come again
                self.wfile.write(frame)
                self.wfile.flush()
        finally:
            with self.stub._lock:
                self.stub._viewers.discard(viewer)

    def _next(self, viewer: queue.SimpleQueue[bytes | None]) -> bytes | None:
        try:
            return viewer.get(timeout=1)
        except queue.Empty:
            return _frame("ping", {"now": now_ms()})

    def _answer(self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _frame(event: str, data: dict[str, Any]) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()
