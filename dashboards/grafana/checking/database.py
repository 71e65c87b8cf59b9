"""Asks an InfluxDB or a VictoriaMetrics as Grafana's data sources do, by HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from dashboards.grafana.checking.interpolation import Span
from shopfloor.errors import Permanent, Transient

_TIMEOUT_S: Final = 60.0
_MOST_BYTES: Final = 256 * 2**20
_LABEL_VALUES: Final = re.compile(r"label_values\((.*), (\w+)\)")
_TOO_MANY: Final = 11_000
"""Points of a series beyond which VictoriaMetrics and Prometheus answer nothing."""


class Refused(Exception):
    """A database did not answer a query; what it said."""


class Database(NamedTuple):
    """What asks a database of one language."""

    language: str
    ask: Callable[[str, Span, int, bool], int]
    """Query, span, interval in ms, whether only the newest values are wanted: return how many values came; raises Refused."""
    values: Callable[[str, Span], list[str]]
    """The values that a variable's query finds; raises Refused."""
    probe: Callable[[], None]
    """Raise Permanent or Transient with what to do where the database can't be asked at all."""


class Access(NamedTuple):
    """Address and credentials."""

    url: str
    database: str = ""
    """Database or bucket, of InfluxDB."""
    user: str = ""
    password: str = ""
    token: str = ""


def influxdb(access: Access) -> Database:
    """Return an InfluxDB 1.x, 2.x or 3.x, asked in InfluxQL at ``/query``."""
    headers = _headers(access, "Token")

    def query(text: str) -> list[dict[str, Any]]:
        body = {"q": text, "db": access.database, "epoch": "ms"}
        answer = _fetch(f"{access.url}/query", body, headers)
        results = answer.get("results", [{}])
        problem = answer.get("error") or next((one["error"] for one in results if one.get("error")), "")
        if problem:
            raise Refused(str(problem))
        return [series for one in results for series in one.get("series", [])]

    def ask(text: str, _span: Span, _interval: int, _newest: bool) -> int:  # noqa: FBT001 - as Database says
        return sum(
            value is not None
            for series in query(text)
            for row in series["values"]
            for name, value in zip(series["columns"], row, strict=True)
            if name != "time"
        )

    def values(text: str, _: Span) -> list[str]:
        return sorted({str(row[1]) for series in query(text) for row in series["values"] if row[1]})

    def probe() -> None:
        try:
            # A statement about the database itself would be answered also where there is none of that name.
            query('SELECT last("agents") FROM "service"')
        except Refused as error:
            raise Permanent(f"{access.url}: {error}{_hint(str(error), access)}") from error

    return Database("influxql", ask, values, probe)


def victoriametrics(access: Access) -> Database:
    """Return a VictoriaMetrics, asked in MetricsQL by Prometheus' interface."""
    headers = _headers(access, "Bearer")

    def query(path: str, fields: Mapping[str, object]) -> Any:
        # What a cache kept of an emptier database is no answer.
        answer = _fetch(f"{access.url}/api/v1/{path}", {**fields, "nocache": 1}, headers)
        if answer.get("status") != "success":
            raise Refused(str(answer.get("error", answer)))
        return answer["data"]

    def ask(text: str, span: Span, interval: int, newest: bool) -> int:  # noqa: FBT001 - as Database says
        if newest:
            return len(query("query", {"query": text, "time": span.to_ms / 1000})["result"])
        step = max(interval, (span.to_ms - span.from_ms) // _TOO_MANY + 1)
        # Grafana lays the steps on whole multiples of their length.
        begin = span.from_ms // step * step
        fields = {"query": text, "start": begin / 1000, "end": span.to_ms / 1000, "step": step / 1000}
        return sum(len(one["values"]) for one in query("query_range", fields)["result"])

    def values(text: str, span: Span) -> list[str]:
        found = _LABEL_VALUES.fullmatch(text)
        if not found:
            raise Refused(f"{text!r} is no label_values(metric, label)")
        fields = {"match[]": found[1], "start": span.from_ms / 1000, "end": span.to_ms / 1000}
        return sorted(map(str, query(f"label/{found[2]}/values", fields)))

    def probe() -> None:
        try:
            query("query", {"query": "1"})
        except Refused as error:
            raise Permanent(f"{access.url}: {error}{_hint(str(error), access)}") from error

    return Database("metricsql", ask, values, probe)


def _headers(access: Access, scheme: str) -> dict[str, str]:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if access.token:
        headers["Authorization"] = f"{scheme} {access.token}"
    elif access.user:
        both = base64.b64encode(f"{access.user}:{access.password}".encode()).decode()
        headers["Authorization"] = f"Basic {both}"
    return headers


def _fetch(url: str, fields: Mapping[str, object], headers: Mapping[str, str]) -> dict[str, Any]:
    request = urllib.request.Request(url, urllib.parse.urlencode(fields).encode(), dict(headers))  # noqa: S310 - the operator's
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - see above
            body = answer.read(_MOST_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(2000).decode(errors="replace").strip()
        raise Refused(f"HTTP {error.code}: {text or error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise Transient(f"{url} does not answer: {error}") from error
    try:
        decoded = json.loads(body)
    except ValueError as error:
        raise Refused(f"the answer is no JSON: {body[:200]!r}") from error
    if not isinstance(decoded, dict):
        raise Refused(f"the answer is no object: {body[:200]!r}")
    return decoded


def _hint(problem: str, access: Access) -> str:
    if "401" in problem or "403" in problem:
        what = "token" if access.token else "user and password" if access.user else "(missing) token or user"
        return f"; the {what} may not read it: give one that may"
    if "dbrp" in problem.lower():
        return f"; InfluxDB 2 before 2.4 needs a mapping for InfluxQL: influx v1 dbrp create --db {access.database}"
    if "database not found" in problem:
        return f"; name the database that the service writes (store.database in ingest.yaml), not {access.database!r}"
    return ""
