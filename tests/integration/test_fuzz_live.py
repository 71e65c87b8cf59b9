"""``/v1/live``, whose answer never ends, fuzzed: read as far as its first event, and left in every way there is."""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from ingest_service import service
from shopfloor.messages import BATCH_MEDIA_TYPE
from shopfloor.wire import encode_batch
from tests.integration.fuzzed_service import fuzzed
from tests.integration.ingest_server import IMM, batch

PATH = "/v1/live"
EXAMPLES = int(os.environ.get("SHOPFLOOR_FUZZ_EXAMPLES", "2"))
LONGEST_S = 60
"""For the first bytes of an answer; no figure, but the bound that a hanging request breaks."""
Header = tuple[bytes, bytes]
NAMES = [
    b"Accept",
    b"Accept-Encoding",
    b"Connection",
    b"Content-Length",
    b"Cookie",
    b"Expect",
    b"If-None-Match",
    b"Range",
    b"Transfer-Encoding",
    b"Upgrade",
    b"X-Forwarded-For",
]
MEANINGFUL = [b"*/*", b"gzip", b"close", b"5", b"100-continue", b"bytes=0-9", b"chunked", b"websocket"]
LATIN = bytes([*range(0x20, 0x7F), *range(0xA0, 0x100)]).decode("latin-1")
# Two lines would be two headers.
ANY = st.binary(max_size=120).map(lambda value: value.translate(None, b"\r\n"))
VALUES = (
    st.sampled_from(MEANINGFUL) | st.text(LATIN, max_size=60).map(lambda one: one.encode("latin-1")) | ANY
)
ODD = "a9_-/*?[]{}.,:;%&=+#\\\"' \x00\t\n\r\x7f\u00e9\u0130\u2028\u5de5\ud800\uffff\U0001f3ed"
"""Letters of paths, and what means something to whoever takes paths, queries, lines or texts apart."""
PATHS = ["", "acme", IMM, f"{IMM}/", "acme/hk01", "acme/*", "acme/../acme"]
ASSETS = st.sampled_from(PATHS) | st.text(ODD, max_size=30)
QUIET = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Answer:
    """The beginning of an answer."""

    status: int
    headers: dict[str, list[str]]
    first: bytes


class Viewers:
    """Asks for the stream over plain sockets: what may stand in a request is not for a client to say here."""

    def __init__(self, base_url: str, headers: dict[str, str]) -> None:
        place = urlsplit(base_url)
        self.base_url = base_url
        self.headers = headers
        self._place = (str(place.hostname), int(place.port or 0))

    @contextmanager
    def connected(self, request: bytes, *, reset: bool = False) -> Iterator[socket.socket]:
        with socket.create_connection(self._place, LONGEST_S) as connection:
            connection.sendall(request)
            yield connection
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def look(self, request: bytes, *, reset: bool) -> Answer:
        """Return how the answer begins, and go."""
        with self.connected(request, reset=reset) as connection:
            return answer_on(connection)

    def head(self, target: str, headers: list[Header]) -> bytes:
        lines = [
            f"GET {target} HTTP/1.1".encode(),
            b"Host: %s:%d" % (self._place[0].encode(), self._place[1]),
        ]
        return b"\r\n".join([*lines, *(b": ".join(one) for one in headers), b"", b""])

    def bearer(self) -> Header:
        return b"Authorization", self.headers["Authorization"].encode()

    def count(self) -> int:
        """Return the service's own count of viewers."""
        metrics = requests.get(f"{self.base_url}/metrics", headers=self.headers, timeout=LONGEST_S).text
        found = re.search(r"^shopfloor_ingest_viewers (\S+)$", metrics, re.MULTILINE)
        assert found is not None
        return int(float(found[1]))


def answer_on(connection: socket.socket) -> Answer:
    with HTTPResponse(connection) as response:
        response.begin()
        headers = {name: response.headers.get_all(name, []) for name in response.headers}
        return Answer(response.status, headers, response.read1(200))


def read_until(connection: socket.socket, found: Callable[[bytes], re.Match[bytes] | None]) -> bytes:
    """Read on until something is found; return its first group."""
    received = b""
    while (match := found(received)) is None:
        piece = connection.recv(65536)
        assert piece, "the stream ended"
        received += piece
    return match[1]


def wait_until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + LONGEST_S
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def viewers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Viewers]:
    # Of who goes without having been sent anything more, the service learns when it says something the second time.
    monkeypatch.setattr(service, "PING_S", 0.2)
    with fuzzed(tmp_path) as (base_url, headers):
        yield Viewers(base_url, headers)


def begins_well(answer: Answer) -> None:
    kind = answer.headers.get("content-type", [""])[0]
    if answer.status == 200:
        assert kind.startswith("text/event-stream"), kind
        assert answer.first.startswith(b"event: hello\ndata: {"), answer.first
    else:
        assert 400 <= answer.status < 500, answer
        assert answer.first, answer


@pytest.mark.timeout(600)
def test_a_stream_begins_or_is_refused_and_nobody_is_left_behind(viewers: Viewers) -> None:
    taken = requests.post(
        f"{viewers.base_url}/v1/batches",
        data=encode_batch(batch()),
        headers=viewers.headers | {"Content-Type": BATCH_MEDIA_TYPE},
        timeout=LONGEST_S,
    )
    assert taken.status_code == 200
    seen: Counter[int] = Counter()
    with viewers.connected(viewers.head(PATH, [viewers.bearer()]), reset=True) as connection:
        mark = read_until(connection, lambda received: re.search(rb"^id: (\S+)$", received, re.MULTILINE))
        wait_until(lambda: viewers.count() == 1)
        from_the_document(viewers, seen)
        beyond_the_document(viewers, mark, seen)
        for reset in (False, True) * 5:  # before its answer is there
            with viewers.connected(viewers.head(PATH, [viewers.bearer()]), reset=reset):
                pass
        # The one that stayed is still served.
        now = time.time_ns() // 1_000_000
        pings = re.compile(rb"^event: ping\ndata: {\"now\":(\d+)}$", re.MULTILINE)
        read_until(
            connection,
            lambda received: next((one for one in pings.finditer(received) if int(one[1]) >= now), None),
        )
    wait_until(lambda: viewers.count() == 0)
    assert seen[200] > 4 * EXAMPLES
    assert seen.keys() >= {200, 401, 422}
    assert requests.get(f"{viewers.base_url}/readyz", timeout=LONGEST_S).status_code == 200


def from_the_document(viewers: Viewers, seen: Counter[int]) -> None:
    """Ask as the OpenAPI document allows, and as it does not."""
    document = requests.get(f"{viewers.base_url}/openapi.json", timeout=LONGEST_S).json()
    operation = schemathesis.openapi.from_dict(document)[PATH]["GET"]
    for mode in GenerationMode:

        @settings(QUIET, max_examples=3 * EXAMPLES, phases=[Phase.generate])
        @given(case=operation.as_strategy(generation_mode=mode), reset=st.booleans())
        def ask(case: Case[Any], reset: bool) -> None:
            kwargs = case.as_transport_kwargs(base_url=viewers.base_url, headers=viewers.headers)
            request = requests.Request(**kwargs).prepare()
            headers = [(_bytes(name), _bytes(value)) for name, value in request.headers.items()]
            answer = viewers.look(viewers.head(request.path_url, headers), reset=reset)
            seen[answer.status] += 1
            begins_well(answer)
            case.validate_response(
                Response(answer.status, answer.headers, answer.first, request, 0.0, verify=False),
                checks=[not_a_server_error, status_code_conformance, content_type_conformance],
            )

        ask()


def beyond_the_document(viewers: Viewers, mark: bytes, seen: Counter[int]) -> None:
    """Ask with what no document describes: ids that are almost ours, any header, any bytes.

    Args:
        viewers: who asks.
        mark: an id of this service.
        seen: status -> how often it was answered.
    """
    process, digest, _ = mark.split(b"-")
    far = b"%s-%s-%d" % (process, digest, 10**14)
    ticks = st.integers(0, 10**16).map(lambda tick: b"%s-%s-%d" % (process, digest, tick))
    marks = st.one_of(st.sampled_from([mark, far, mark[:-1], b"0" * 16 + mark[16:]]), ticks, ANY)
    tokens = st.sampled_from([viewers.bearer()] * 7 + [(b"Authorization", b"Bearer \xff")])

    @settings(QUIET, max_examples=30 * EXAMPLES, phases=[Phase.explicit, Phase.generate])
    @given(
        asked=st.lists(ASSETS, max_size=4),
        ids=st.lists(marks, max_size=2),
        others=st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=2),
        token=tokens,
        reset=st.booleans(),
    )
    @example(["acme"] * 100, [mark], [], viewers.bearer(), False)
    @example(["acme/../acme"], [far], [], viewers.bearer(), False)
    @example(["acme"] * 101, [], [], viewers.bearer(), False)
    @example([], [b"x" * 101], [], viewers.bearer(), False)
    @example([], [], [], (b"Accept", b"*/*"), False)
    def ask(asked: list[str], ids: list[bytes], others: list[Header], token: Header, reset: bool) -> None:
        query = "&".join(f"asset={quote(one, errors='surrogatepass')}" for one in asked)
        headers = [token, *((b"Last-Event-ID", one) for one in ids), *others]
        answer = viewers.look(viewers.head(f"{PATH}?{query}", headers), reset=reset)
        seen[answer.status] += 1
        begins_well(answer)

    ask()


def _bytes(part: str | bytes) -> bytes:
    return part if isinstance(part, bytes) else part.encode("utf-8")
