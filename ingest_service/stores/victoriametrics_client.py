"""Requests to VictoriaMetrics: what goes to vminsert, vmselect and vmstorage of a cluster goes to one address otherwise."""

from __future__ import annotations

import gzip
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
import numpy as np
import numpy.typing as npt
import urllib3

from ingest_service.store_config import VictoriaMetricsStoreConfig
from shopfloor.errors import StoreUnavailable

CONNECTIONS: Final = 8
_GZIP_LEVEL: Final = 1
_RETRY_AFTER_S: Final = 2.0
MAX_EXPORT_BYTES: Final = 512 * 2**20

Columns = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]
"""Times in ms and values."""


class _Exported(msgspec.Struct):
    metric: dict[str, str]
    values: list[float | None]
    timestamps: list[int]


class _Snapshot(msgspec.Struct):
    status: str = ""
    snapshot: str = ""
    msg: str = ""


_exported: Final = msgspec.json.Decoder(_Exported)


class VictoriaClient:
    """Blocking; any thread may use it."""

    def __init__(self, config: VictoriaMetricsStoreConfig) -> None:
        self._select = config.url
        self._insert = config.insert_url or config.url
        self._storages = config.storage_urls or (config.url,)
        timeout = urllib3.Timeout(connect=min(10.0, config.timeout_s), read=config.timeout_s)
        self._http = urllib3.PoolManager(CONNECTIONS, maxsize=CONNECTIONS, retries=False, timeout=timeout)
        self._headers: dict[str, str] = {}
        if config.token:
            self._headers["Authorization"] = f"Bearer {config.token.get_secret_value()}"
        elif config.user:
            password = config.password.get_secret_value() if config.password else ""
            self._headers.update(urllib3.make_headers(basic_auth=f"{config.user}:{password}"))

    def check(self) -> None:
        """Raise StoreUnavailable where the server does not answer queries."""
        self._request("GET", f"{self._select}/api/v1/query?{urlencode({'query': '1'})}")

    def write(self, body: bytes | memoryview) -> None:
        """Write lines with times in milliseconds."""
        headers = {**self._headers, "Content-Encoding": "gzip", "Content-Type": "text/plain; charset=utf-8"}
        packed = gzip.compress(body, _GZIP_LEVEL)
        self._request("POST", f"{self._insert}/influx/write?precision=ms", packed, headers)

    def make_durable(self) -> None:
        """Return once everything that was taken is on the disks of all storage nodes.

        Only a snapshot says so (``/internal/force_flush`` makes points visible, and no more); it is deleted at once.
        """
        for storage in self._storages:
            answer = self._request("GET", f"{storage}/snapshot/create")
            made = _decoded(answer.data, _Snapshot)
            if made.status != "ok":
                raise StoreUnavailable(
                    f"VictoriaMetrics made no snapshot: {made.msg}", retry_after_s=_RETRY_AFTER_S
                )
            self._request("GET", f"{storage}/snapshot/delete?{urlencode({'snapshot': made.snapshot})}")

    def export(self, selector: str, from_ms: int, to_ms: int) -> list[tuple[dict[str, str], Columns]]:
        """Return the labels and points of the series that a selector means, both ends of the span included."""
        fields = {"match[]": selector, "start": _seconds(from_ms), "end": _seconds(to_ms)}
        headers = {
            **self._headers,
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept-Encoding": "gzip",
        }
        answer = self._request("POST", f"{self._select}/api/v1/export", urlencode(fields).encode(), headers)
        if len(answer.data) > MAX_EXPORT_BYTES:
            raise StoreUnavailable("a span has too many samples to be read at once")
        found = []
        for line in answer.data.splitlines():
            one = _decoded(line, _Exported)
            found.append((one.metric, (np.array(one.timestamps, np.int64), np.array(one.values, np.float64))))
        return found

    def close(self) -> None:
        """Let go of all connections."""
        self._http.clear()

    def _request(
        self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> urllib3.BaseHTTPResponse:
        try:
            answer = self._http.request(
                method, url, body=body, headers=headers or self._headers, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise StoreUnavailable(
                f"VictoriaMetrics does not answer: {error}", retry_after_s=_RETRY_AFTER_S
            ) from error
        if answer.status >= 300:
            reason = answer.data.decode(errors="replace")[:300]
            raise StoreUnavailable(
                f"VictoriaMetrics refuses a request ({answer.status}): {reason}", retry_after_s=_RETRY_AFTER_S
            )
        return answer


def _decoded(data: bytes, kind: Any) -> Any:
    try:
        return _exported.decode(data) if kind is _Exported else msgspec.json.decode(data, type=kind)
    except ValueError as error:
        raise StoreUnavailable(f"VictoriaMetrics' answer is none: {error}") from error


def _seconds(ms: int) -> str:
    return f"{ms // 1000}.{ms % 1000:03d}"
