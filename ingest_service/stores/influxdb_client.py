"""Requests to InfluxDB 1.x, 2.x and 3.x: what differs between them, and what their answers mean."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import msgspec
import urllib3

from ingest_service.store_config import InfluxDBStoreConfig
from shopfloor.errors import StoreUnavailable

if TYPE_CHECKING:
    from ingest_service.stores.influxdb_later import LaterWriter

CONNECTIONS: Final = 8
_GZIP_LEVEL: Final = 1
_RETRY_AFTER_S: Final = 2.0
_REFUSED: Final = frozenset({400, 413, 422})
"""The lines themselves are the matter: the same ones would be refused again."""


class PointsRefused(Exception):
    """The server refuses some of the lines for what they are; which, it does not say. Others of them may be there."""


class Series(msgspec.Struct):
    """One series of an answer to InfluxQL."""

    columns: list[str]
    values: list[list[Any]]
    tags: dict[str, str | None] = {}


class _Result(msgspec.Struct):
    series: list[Series] = []
    error: str = ""


class _Answer(msgspec.Struct):
    results: list[_Result] = []
    error: str = ""


_decoder: Final = msgspec.json.Decoder(_Answer)


class InfluxClient:
    """Blocking; any thread may use it. 2.x and 3.x are written to by influxdb-client, 1.x and queries by urllib3."""

    def __init__(self, config: InfluxDBStoreConfig) -> None:
        self._config = config
        self._timeout = urllib3.Timeout(connect=min(10.0, config.timeout_s), read=config.timeout_s)
        # A write is tried again by whoever sent the batch: only then is it known what became of the rest.
        self._http = urllib3.PoolManager(
            CONNECTIONS, maxsize=CONNECTIONS, retries=False, timeout=self._timeout
        )
        self._headers = self._authorization()
        self._later: LaterWriter | None = None
        if config.version > 1:
            # Its many modules would cost whoever has 1.x most of a second at each start.
            from ingest_service.stores.influxdb_later import LaterWriter  # noqa: PLC0415

            self._later = LaterWriter(config, CONNECTIONS)

    def prepare(self) -> None:
        """Make the database where it is missing (1.x; 3.x makes it itself, 2.x has it made by an administrator)."""
        if self._config.version == 1:
            name = self._config.database.replace("\\", "\\\\").replace('"', '\\"')
            self.query(f'CREATE DATABASE "{name}"')
        else:
            self.ping()

    def ping(self) -> None:
        """Raise StoreUnavailable where the server does not answer."""
        self._request("GET", "/ping")

    def write(self, body: bytes | memoryview) -> None:
        """Write lines; raises PointsRefused, StoreUnavailable."""
        if self._later is None:
            fields = {"db": self._config.database, "precision": "ns"}
            headers = {
                **self._headers,
                "Content-Encoding": "gzip",
                "Content-Type": "text/plain; charset=utf-8",
            }
            packed = gzip.compress(body, _GZIP_LEVEL)
            answer = self._request("POST", f"/write?{urlencode(fields)}", body=packed, headers=headers)
            if answer.status >= 300:
                raise _refusal(answer.status, answer.data, answer.headers.get("Retry-After"))
            return
        try:
            refused = self._later.write(bytes(body))
        except urllib3.exceptions.HTTPError as error:
            raise _silent(error) from error
        if refused is not None:
            raise _refusal(*refused)

    def query(self, text: str) -> list[Series]:
        """Return the series of one statement of InfluxQL."""
        fields = {"db": self._config.database, "epoch": "ns", "q": text}
        headers = {**self._headers, "Content-Type": "application/x-www-form-urlencoded"}
        answer = self._request("POST", "/query", body=urlencode(fields).encode(), headers=headers)
        if answer.status >= 300:
            reason = _message(answer.data)
            raise StoreUnavailable(
                f"InfluxDB does not answer a query ({answer.status}): {reason}", retry_after_s=_RETRY_AFTER_S
            )
        try:
            # A negative zero is an integer to the quick decoder.
            decoded = (
                _with_negative_zeros(answer.data) if b",-0," in answer.data else _decoder.decode(answer.data)
            )
        except ValueError as error:
            raise StoreUnavailable(f"InfluxDB's answer is none: {error}") from error
        problem = decoded.error or next((one.error for one in decoded.results if one.error), "")
        if problem:
            raise StoreUnavailable(
                f"InfluxDB does not answer a query: {problem}", retry_after_s=_RETRY_AFTER_S
            )
        return [series for one in decoded.results for series in one.series]

    def close(self) -> None:
        """Let go of all connections."""
        if self._later is not None:
            self._later.close()
        self._http.clear()

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        try:
            return self._http.request(
                method, self._config.url + path, body=body, headers=headers or self._headers, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise _silent(error) from error

    def _authorization(self) -> dict[str, str]:
        config = self._config
        if config.token:
            scheme = "Bearer" if config.version == 3 else "Token"
            return {"Authorization": f"{scheme} {config.token.get_secret_value()}"}
        if config.user:
            password = config.password.get_secret_value() if config.password else ""
            return dict(urllib3.make_headers(basic_auth=f"{config.user}:{password}"))
        return {}


def _with_negative_zeros(data: bytes) -> _Answer:
    def number(text: str) -> int | float:
        return -0.0 if text == "-0" else int(text)

    return msgspec.convert(json.loads(data, parse_int=number), _Answer)


def _refusal(status: int, body: bytes, retry_after: str | None) -> Exception:
    reason = _message(body)
    if status in _REFUSED:
        return PointsRefused(reason)
    wait = float(retry_after) if retry_after and retry_after.isdecimal() else _RETRY_AFTER_S
    return StoreUnavailable(f"InfluxDB does not take points ({status}): {reason}", retry_after_s=wait)


def _message(body: bytes) -> str:
    try:
        decoded = json.loads(body)
        text = decoded.get("error") or decoded.get("message") if isinstance(decoded, dict) else None
    except ValueError:
        text = None
    return str(text or body.decode(errors="replace"))[:300]


def _silent(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"InfluxDB does not answer: {error}", retry_after_s=_RETRY_AFTER_S)
