"""A stand-in for Grafana: as much of its HTTP API as pushing needs, behaving as Grafana's documentation says.

There is no Grafana in the registries that tests install from. What this says of permissions, of versions that do not match
(412) and of provenance follows the pages "Dashboard", "Data source", "Folder", "Service account", "Dashboard versions" and
"Alerting provisioning" of Grafana 12's HTTP API reference.
"""

from __future__ import annotations

import copy
import json
import re
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Json = dict[str, Any]
ADMIN, EDITOR, VIEWER = "Admin", "Editor", "Viewer"
_RANK = {VIEWER: 0, EDITOR: 1, ADMIN: 2}


class Refusal(Exception):
    def __init__(self, code: int, message: str, /, **more: object) -> None:
        super().__init__(message)
        self.status = code
        self.body = {"message": message, **more}


@dataclass
class Grafana:
    """What it holds; tests act as its users by the methods."""

    version: str = "12.4.0"
    credentials: dict[str, str] = field(default_factory=lambda: {"Bearer of-admin": ADMIN})
    """Authorization header -> role."""
    database_token: str = "Token right"
    """What the database behind data sources takes."""
    folders: dict[str, Json] = field(default_factory=dict)
    sources: dict[str, Json] = field(default_factory=dict)
    secrets: dict[str, Json] = field(default_factory=dict)
    boards: dict[str, Json] = field(default_factory=dict)
    """uid -> {"dashboard", "folderUid", "provisioned", "saves": [version record], "v2"}."""
    rules: dict[str, Json] = field(default_factory=dict)
    points: list[Json] = field(default_factory=list)
    accounts: list[Json] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of all of them."""
    before: Callable[[str, str], None] = lambda _method, _path: None
    """Called before each request: where tests do something in between."""
    redirect_to: str = ""
    page: bool = False
    """Whether somebody's login page stands before it."""
    url: str = ""

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [one for one in self.requests if one[0] != "GET"]

    def login(self, user: str, password: str, role: str = ADMIN) -> None:
        self.credentials["Basic " + b64encode(f"{user}:{password}".encode()).decode()] = role

    def user_saves(self, uid: str, change: Callable[[Json], None], message: str = "") -> None:
        """Save a dashboard as the page does."""
        board = self.boards[uid]
        dashboard = copy.deepcopy(board["dashboard"])
        change(dashboard)
        self._save(dashboard, board["folderUid"], message, "anna")

    def user_edits_rule(self, uid: str, change: Callable[[Json], None]) -> bool:
        """Edit a rule as the page does; it does not offer that for provisioned ones."""
        if self.rules[uid].get("provenance"):
            return False
        change(self.rules[uid])
        return True

    def answer(self, method: str, url: str, header: str, body: Any, provenance: str) -> tuple[int, Any]:
        path = urlsplit(url).path
        self.before(method, path)
        self.requests.append((method, path))
        if path == "/api/health":
            return 200, {"commit": "none", "database": "ok", "version": self.version}
        role = self.credentials.get(header)
        if role is None:
            raise Refusal(401, "Invalid API key", messageId="api-key.invalid")
        query = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
        for pattern, least, answer in _ROUTES:
            found = re.fullmatch(pattern, f"{method} {path}")
            if not found:
                continue
            if _RANK[role] < _RANK[least]:
                why = "You'll need additional permissions to perform this action."
                raise Refusal(403, why, title="Access denied", accessErrorId="ACE1")
            return answer(self, [unquote(one) for one in found.groups()], body, {**query, "to": provenance})
        raise Refusal(404, "Not found")

    def get_folder(self, names: list[str], _body: Any, _query: Json) -> tuple[int, Any]:
        return 200, _found(self.folders, names[0], "folder not found")

    def post_folder(self, _names: list[str], body: Any, _query: Json) -> tuple[int, Any]:
        if body["uid"] in self.folders:
            raise Refusal(412, "the folder has been changed by someone else", status="version-mismatch")
        self.folders[body["uid"]] = {**body, "id": len(self.folders) + 1, "version": 1}
        return 200, self.folders[body["uid"]]

    def get_source(self, names: list[str], _body: Any, _query: Json) -> tuple[int, Any]:
        source = _found(self.sources, names[0], "Data source not found")
        return 200, {**source, "secureJsonFields": dict.fromkeys(self.secrets[names[0]], True)}

    def post_source(self, _names: list[str], body: Any, _query: Json) -> tuple[int, Any]:
        if any(body["name"] == one["name"] or uid == body["uid"] for uid, one in self.sources.items()):
            raise Refusal(409, "data source with the same name already exists")
        self._put_source(body, {}, 1)
        return 200, {"message": "Datasource added", "name": body["name"]}

    def put_source(self, names: list[str], body: Any, _query: Json) -> tuple[int, Any]:
        there = _found(self.sources, names[0], "Data source not found")
        if there["readOnly"]:
            raise Refusal(403, "Cannot update read-only data source")
        if body.get("version") not in {None, there["version"]}:
            raise Refusal(409, "Datasource has already been updated by someone else")
        self._put_source(body, self.secrets[names[0]], there["version"] + 1)
        return 200, {"message": "Datasource updated"}

    def source_health(self, names: list[str], _body: Any, _query: Json) -> tuple[int, Any]:
        source = _found(self.sources, names[0], "Data source not found")
        sent = self.secrets[names[0]].get("httpHeaderValue1") if source["jsonData"] else None
        if self.database_token and sent != self.database_token:
            return 400, {"status": "ERROR", "message": "error reading InfluxDB: unauthorized access"}
        return 200, {"status": "OK", "message": "datasource is working. 12 measurements found"}

    def get_board(self, names: list[str], _body: Any, _query: Json) -> tuple[int, Any]:
        board = _found(self.boards, names[0], "Dashboard not found")
        if board.get("v2"):
            raise Refusal(406, "dashboard api version not supported, use /apis/dashboard.grafana.app/v2")
        meta = {"folderUid": board["folderUid"], "provisioned": board.get("provisioned", False)}
        return 200, {"dashboard": board["dashboard"], "meta": meta}

    def get_saves(self, names: list[str], _body: Any, query: Json) -> tuple[int, Any]:
        board = _found(self.boards, names[0], "Dashboard not found")
        saves = board["saves"][::-1][: int(query.get("limit", 1000))]
        return 200, saves if self.version < "12" else {"continueToken": "", "versions": saves}

    def post_board(self, _names: list[str], body: Any, _query: Json) -> tuple[int, Any]:
        wanted = body["dashboard"]
        there = self.boards.get(wanted["uid"])
        if body.get("folderUid") and body["folderUid"] not in self.folders:
            raise Refusal(400, "folder not found")
        if there and there.get("provisioned"):
            raise Refusal(400, "Cannot save provisioned dashboard")
        if there and not body.get("overwrite"):
            if wanted.get("id") is None:
                raise Refusal(412, "A dashboard with the same uid already exists", status="name-exists")
            if wanted.get("version") != there["dashboard"]["version"]:
                message = "The dashboard has been changed by someone else"
                raise Refusal(412, message, status="version-mismatch")
        if not 0 < len(wanted["uid"]) <= 40 or not wanted.get("title"):
            raise Refusal(400, "uid too long, max 40 characters, or no title")
        saved = self._save(wanted, body.get("folderUid", ""), body.get("message", ""), "sa-push")
        return 200, {"uid": saved["uid"], "status": "success", "version": saved["version"]}

    def get_rules(self, _names: list[str], _body: Any, _query: Json) -> tuple[int, Any]:
        return 200, list(self.rules.values())

    def post_rule(self, _names: list[str], body: Any, query: Json) -> tuple[int, Any]:
        if body["uid"] in self.rules:
            raise Refusal(409, "conflicting alert rule found: rule UID already exists")
        self._put_rule(body, query["to"])
        return 201, self.rules[body["uid"]]

    def put_rule(self, names: list[str], body: Any, query: Json) -> tuple[int, Any]:
        there = _found(self.rules, names[0], "rule not found").get("provenance", "")
        if there and there != query["to"] and (there, query["to"]) != ("api", ""):
            raise Refusal(409, f"cannot change provenance from '{there}' to '{query['to']}'")
        self._put_rule(body, query["to"])
        return 200, self.rules[names[0]]

    def get_points(self, _names: list[str], _body: Any, _query: Json) -> tuple[int, Any]:
        return 200, self.points

    def post_point(self, _names: list[str], body: Any, query: Json) -> tuple[int, Any]:
        if body["type"] == "email" and not body["settings"].get("addresses"):
            raise Refusal(400, "could not find addresses in settings")
        self.points.append({**body, **({"provenance": query["to"]} if query["to"] else {})})
        return 202, body

    def search_accounts(self, _names: list[str], _body: Any, query: Json) -> tuple[int, Any]:
        found = [one for one in self.accounts if query.get("query", "") in one["name"]]
        return 200, {"totalCount": len(found), "serviceAccounts": found, "page": 1}

    def post_account(self, _names: list[str], body: Any, _query: Json) -> tuple[int, Any]:
        account = {**body, "id": len(self.accounts) + 1}
        self.accounts.append(account)
        return 201, account

    def post_token(self, names: list[str], body: Any, _query: Json) -> tuple[int, Any]:
        account = next(one for one in self.accounts if one["id"] == int(names[0]))
        key = f"glsa_{len(self.tokens)}"
        self.tokens.append(key)
        self.credentials[f"Bearer {key}"] = account["role"]
        return 200, {"id": len(self.tokens), "name": body["name"], "key": key}

    def _put_source(self, body: Json, secrets: Json, version: int) -> None:
        plain = {key: value for key, value in body.items() if key != "secureJsonData"}
        filled = {"readOnly": False, "user": "", "basicAuth": False, "basicAuthUser": "", "jsonData": {}}
        self.sources[body["uid"]] = {**filled, "id": 1, **plain, "version": version}
        self.secrets[body["uid"]] = {**secrets, **body.get("secureJsonData", {})}

    def _save(self, dashboard: Json, folder: str, message: str, by: str) -> Json:
        board = self.boards.setdefault(dashboard["uid"], {"saves": []})
        version = len(board["saves"]) + 1
        board["dashboard"] = {**copy.deepcopy(dashboard), "id": 7, "version": version}
        board["folderUid"] = folder
        created = "2026-11-20T10:11:12Z"
        board["saves"].append({"version": version, "message": message, "createdBy": by, "created": created})
        board["v2"] = False
        return {"uid": dashboard["uid"], "version": version}

    def _put_rule(self, body: Json, provenance: str) -> None:
        if body["folderUID"] not in self.folders:
            raise Refusal(400, "folder does not exist")
        settings = body.get("notification_settings")
        if settings:
            if settings["receiver"] not in {one["name"] for one in self.points}:
                raise Refusal(400, f"invalid alert rule: receiver {settings['receiver']} does not exist")
            if not {"alertname", "grafana_folder"} <= set(settings.get("group_by", [])):
                raise Refusal(400, "group by must contain grafana_folder and alertname")
        names = [one["refId"] for one in body["data"]]
        if body["condition"] not in names or len(set(names)) < len(names):
            raise Refusal(400, "invalid alert rule: condition does not exist, must be one of the refIDs")
        rule = {**copy.deepcopy(body), "updated": "2026-11-19T00:00:00Z"}
        self.rules[body["uid"]] = {**rule, **({"provenance": provenance} if provenance else {})}


def _found(kept: dict[str, Json], uid: str, message: str) -> Json:
    if uid not in kept:
        raise Refusal(404, message)
    return kept[uid]


_PROVISIONING = "/api/v1/provisioning"
_ROUTES: list[tuple[str, str, Callable[[Grafana, list[str], Any, Json], tuple[int, Any]]]] = [
    (r"GET /api/folders/([^/]+)", VIEWER, Grafana.get_folder),
    (r"POST /api/folders", EDITOR, Grafana.post_folder),
    (r"GET /api/datasources/uid/([^/]+)", ADMIN, Grafana.get_source),
    (r"POST /api/datasources", ADMIN, Grafana.post_source),
    (r"PUT /api/datasources/uid/([^/]+)", ADMIN, Grafana.put_source),
    (r"GET /api/datasources/uid/([^/]+)/health", VIEWER, Grafana.source_health),
    (r"GET /api/dashboards/uid/([^/]+)", VIEWER, Grafana.get_board),
    (r"GET /api/dashboards/uid/([^/]+)/versions", EDITOR, Grafana.get_saves),
    (r"POST /api/dashboards/db", EDITOR, Grafana.post_board),
    (rf"GET {_PROVISIONING}/alert-rules", EDITOR, Grafana.get_rules),
    (rf"POST {_PROVISIONING}/alert-rules", EDITOR, Grafana.post_rule),
    (rf"PUT {_PROVISIONING}/alert-rules/([^/]+)", EDITOR, Grafana.put_rule),
    (rf"GET {_PROVISIONING}/contact-points", EDITOR, Grafana.get_points),
    (rf"POST {_PROVISIONING}/contact-points", EDITOR, Grafana.post_point),
    (r"GET /api/serviceaccounts/search", ADMIN, Grafana.search_accounts),
    (r"POST /api/serviceaccounts/", ADMIN, Grafana.post_account),
    (r"POST /api/serviceaccounts/(\d+)/tokens", ADMIN, Grafana.post_token),
]


@contextmanager
def serving(
    grafana: Grafana, below: str = "", certificate: tuple[Path, Path] | None = None
) -> Iterator[Grafana]:
    """Let it answer on a free port of 127.0.0.1, below a path, with a certificate; ``grafana.url`` says where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 2**16  # else head and body travel apart, and wait for one another

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if grafana.redirect_to:
                self.send_response(301)
                self.send_header("Location", grafana.redirect_to)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if grafana.page or not self.path.startswith(below + "/"):
                self.reply(200, b"<html>Please log in</html>", "text/html")
                return
            provenance = "" if self.headers.get("X-Disable-Provenance") == "true" else "api"
            try:
                status, answer = grafana.answer(
                    self.command,
                    self.path.removeprefix(below),
                    self.headers.get("Authorization", ""),
                    json.loads(body) if body else None,
                    provenance,
                )
            except Refusal as refusal:
                status, answer = refusal.status, refusal.body
            self.reply(status, json.dumps(answer).encode(), "application/json; charset=UTF-8")

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the names that http.server calls

        def reply(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        grafana.url = f"http://127.0.0.1:{server.server_port}{below}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            grafana.url = f"https://localhost:{server.server_port}{below}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="grafana")
        thread.start()
        try:
            yield grafana
        finally:
            server.shutdown()
            thread.join()
