"""Requests to InfluxDB 1.x, 2.x and 3.x: what differs between them, and what their answers mean."""

from __future__ import annotations

import gzip
import json
from typing import Any, Final, cast
from urllib.parse import urlencode

import msgspec
import urllib3
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException

from ingest_service.store_config import InfluxDBStoreConfig
from shopfloor.errors import StoreUnavailable

CONNECTIONS: Final = 8
_NANOSECONDS: Final = cast("WritePrecision", WritePrecision.NS)
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
        self._client: InfluxDBClient | None = None
        if config.version > 1:
            self._client = InfluxDBClient(
                config.url,
                config.token.get_secret_value() if config.token else "",
                org=config.organisation,
                timeout=round(config.timeout_s * 1000),
                enable_gzip=True,
                retries=False,
                connection_pool_maxsize=CONNECTIONS,
            )
            self._write_api = self._client.write_api(write_options=SYNCHRONOUS)

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
        if self._client is None:
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
            self._write_api.write(self._config.database, record=bytes(body), write_precision=_NANOSECONDS)
        except ApiException as error:
            retry_after = error.headers.get("Retry-After") if error.headers else None
            raise _refusal(error.status or 0, (error.body or "").encode(), retry_after) from error
        except urllib3.exceptions.HTTPError as error:
            raise _silent(error) from error

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
        if self._client is not None:
            # By itself it leaves its connections to the garbage collector.
            self._client.api_client.rest_client.pool_manager.clear()
            self._client.close()  # type: ignore[no-untyped-call]
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
