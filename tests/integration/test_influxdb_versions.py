"""What InfluxDB 2.x and 3.x are asked, by their documentation: neither is in Debian, so a server here writes it down."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from pydantic import SecretStr

from ingest_service.store_config import InfluxDBStoreConfig
from ingest_service.stores import TimeSpan
from ingest_service.stores.influxdb import InfluxDB
from shopfloor.asset import parse_asset
from shopfloor.block import make_block
from shopfloor.errors import StoreUnavailable
from shopfloor.signal import SeriesKey

KEY = SeriesKey(parse_asset("acme/hk01"), "job.name")
BLOCK = make_block((KEY,), [0, 0], [10, 20], [11, 21], [1.5, -0.0])
IDS = np.array([1, 1], np.uint32)
ANSWER = {
    "results": [
        {
            "statement_id": 0,
            "series": [
                {
                    "name": "sample",
                    # 3.x leaves tags out that a series lacks, or says null.
                    "tags": {"enterprise": "acme", "site": "hk01", "area": None, "signal": "job.name"},
                    "columns": ["time", "value", "text", "quality", "status", "received"],
                    "values": [[10, 1.5, None, 0, None, 11], [20, None, "x", 1, 7, 21]],
                }
            ],
        }
    ]
}


class Recorder(ThreadingHTTPServer):
    """Answers as it is told and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, dict[str, list[str]], dict[str, str], bytes]] = []
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}


class _Handler(BaseHTTPRequestHandler):
    server: Recorder

    def do_POST(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.asked.append((url.path, parse_qs(url.query), dict(self.headers), body))
        status, headers, answer = self.server.answers.get(url.path, (204, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@pytest.fixture
def server() -> Iterator[Recorder]:
    with Recorder() as recorder:
        thread = threading.Thread(target=recorder.serve_forever, args=(0.01,))
        thread.start()
        yield recorder
        recorder.shutdown()
        thread.join()


def points(server: Recorder, version: Literal[2, 3]) -> InfluxDB:
    return InfluxDB(
        InfluxDBStoreConfig(
            kind="influxdb",
            url=f"http://127.0.0.1:{server.server_address[1]}",
            version=version,
            database="shop floor",
            organisation="acme" if version == 2 else "",
            token=SecretStr("secret"),
        )
    )


@pytest.mark.parametrize("version", [2, 3])
def test_points_are_written_by_the_client_of_2(server: Recorder, version: Literal[2, 3]) -> None:
    store = points(server, version)
    store.check()
    assert len(store.write([KEY], IDS, BLOCK).rows) == 0
    store.close()
    path, query, headers, body = server.asked[-1]
    assert path == "/api/v2/write"
    assert query["bucket"] == ["shop floor"]
    assert query["precision"] == ["ns"]
    assert headers["Authorization"] == "Token secret"
    assert headers["Content-Encoding"] == "gzip"
    assert body.splitlines() == [
        b"sample,enterprise=acme,site=hk01,signal=job.name value=1.5,quality=0i,received=11i 10",
        b"sample,enterprise=acme,site=hk01,signal=job.name value=-0,quality=0i,received=21i 20",
    ]


@pytest.mark.parametrize(("version", "scheme"), [(2, "Token"), (3, "Bearer")])
def test_samples_are_read_by_influxql(server: Recorder, version: Literal[2, 3], scheme: str) -> None:
    server.answers["/query"] = (200, {}, json.dumps(ANSWER).encode())
    store = points(server, version)
    found = store.fetch([KEY], TimeSpan(0, 100), 2)
    store.close()
    path, _, headers, body = server.asked[-1]
    assert path == "/query"
    assert headers["Authorization"] == f"{scheme} secret"
    fields = parse_qs(body.decode())
    assert (fields["db"], fields["epoch"]) == (["shop floor"], ["ns"])
    # A database in front of the measurement, or several statements, are more than 3.x takes.
    assert fields["q"][0].startswith(
        'SELECT "value", "text", "quality", "status", "received" FROM "sample" WHERE'
    )
    assert ";" not in fields["q"][0]
    assert next(tuple(one)[1:] for one in found.block.rows()) == (10, 11, 1.5, 0, 0, None)
    assert [one.text for one in found.block.rows()] == [None, "x"]
    assert found.more == frozenset({0})


def _failing(server: Recorder, answer: tuple[int, dict[str, str], dict[str, Any]]) -> StoreUnavailable:
    server.answers["/api/v2/write"] = (answer[0], answer[1], json.dumps(answer[2]).encode())
    store = points(server, 2)
    with pytest.raises(StoreUnavailable) as told:
        store.write([KEY], IDS, BLOCK)
    store.close()
    return told.value


def test_a_server_that_is_busy_says_when_to_come_again(server: Recorder) -> None:
    error = _failing(
        server, (429, {"Retry-After": "7"}, {"code": "too many requests", "message": "slow down"})
    )
    assert error.retry_after_s == 7
    assert "slow down" in str(error)


def test_a_token_that_does_not_do_costs_no_sample(server: Recorder) -> None:
    error = _failing(server, (401, {}, {"code": "unauthorized", "message": "unauthorized access"}))
    assert "401" in str(error)
    assert "secret" not in str(error)


def test_lines_that_are_refused_are_looked_for(server: Recorder) -> None:
    """A server that refuses everything: each row is turned away alone."""
    server.answers["/api/v2/write"] = (422, {}, json.dumps({"message": "no such field"}).encode())
    store = points(server, 2)
    turned = store.write([KEY], IDS, BLOCK)
    store.close()
    assert turned.rows.tolist() == [0, 1]
    assert turned.reason == "no such field"


def test_a_server_that_is_away_is_unavailable() -> None:
    with Recorder() as gone:
        pass
    store = points(gone, 2)
    with pytest.raises(StoreUnavailable):
        store.write([KEY], IDS, BLOCK)
    with pytest.raises(StoreUnavailable):
        store.check()
    store.close()
