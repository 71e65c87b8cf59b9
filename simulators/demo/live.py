"""A page without a browser: subscribes to the live stream and notes when which value arrived."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterable, Iterator
from typing import Final

import httpx
import msgspec
import numpy as np

from shopfloor.asset import parse_asset
from shopfloor.errors import InvalidName
from shopfloor.signal import SeriesKey
from simulators.demo.latency import Arrivals

_SILENCE_S: Final = 6.0
"""The stream pings every 2 s; after this long without a byte it is taken for dead."""
_RECONNECT_S: Final = 0.2


class _Series(msgspec.Struct):
    id: list[int]
    asset: list[str]
    signal: list[str]


class _Values(msgspec.Struct):
    id: list[int]
    t: list[int]


_series_decoder: Final = msgspec.json.Decoder(_Series)
_values_decoder: Final = msgspec.json.Decoder(_Values)


class LiveRecorder:
    """Records arrivals in a thread of its own from `start` to `stop`, over any number of connections."""

    def __init__(self, base_url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._transport = transport
        self._url = f"{base_url}/v1/live"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-recorder", daemon=True)
        self._positions: dict[SeriesKey, int] = {}
        self._index = array("q")
        self._time_ms = array("q")
        self._arrival_ns = array("q")
        self.connections = 0
        self.unreadable = 0
        """Events that were not what the interface promises."""

    def start(self) -> None:
        """Connect and go on recording."""
        self._thread.start()

    def stop(self) -> None:
        """End the recording; returns with the stream's next sign of life, at the latest after its silence."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_SILENCE_S + 2.0)

    def arrivals(self) -> Arrivals:
        """Return what was seen so far."""
        complete = len(self._arrival_ns)  # the thread fills this column last
        return Arrivals(
            tuple(self._positions),
            np.array(self._index[:complete], dtype=np.int64),
            np.array(self._time_ms[:complete], dtype=np.int64),
            np.array(self._arrival_ns[:complete], dtype=np.int64),
        )

    def _run(self) -> None:
        timeout = httpx.Timeout(2.0, read=_SILENCE_S)
        with httpx.Client(timeout=timeout, trust_env=False, transport=self._transport) as client:
            while not self._stopping.is_set():
                try:
                    with client.stream("GET", self._url) as response:
                        response.raise_for_status()
                        self.connections += 1
                        self._follow(response.iter_bytes())
                except httpx.HTTPError:  # the service is away: a browser would come back as well
                    self._stopping.wait(_RECONNECT_S)

    def _follow(self, chunks: Iterable[bytes]) -> None:
        # The ids hold for one connection: after a restart of the service they mean other series.
        known: dict[int, int] = {}
        for event, data in events(chunks):
            arrival_ns = time.time_ns()
            try:
                if event == b"series":
                    self._learn(_series_decoder.decode(data), known)
                elif event == b"values":
                    self._note(_values_decoder.decode(data), known, arrival_ns)
            except (msgspec.MsgspecError, InvalidName, KeyError, ValueError):
                self.unreadable += 1
            if self._stopping.is_set():
                return

    def _learn(self, series: _Series, known: dict[int, int]) -> None:
        for number, asset, signal in zip(series.id, series.asset, series.signal, strict=True):
            key = SeriesKey(parse_asset(asset), signal)
            known[number] = self._positions.setdefault(key, len(self._positions))

    def _note(self, values: _Values, known: dict[int, int], arrival_ns: int) -> None:
        index = [known[number] for number in values.id]
        if len(index) != len(values.t):
            raise ValueError("columns of unequal length")
        self._index.extend(index)
        self._time_ms.extend(values.t)
        self._arrival_ns.extend([arrival_ns] * len(index))


def events(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield (event, data) of a stream of server-sent events (WHATWG HTML §9.2.6), comments left out."""
    rest = b""
    event, data = b"message", list[bytes]()
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            text = line.removesuffix(b"\r")
            if not text:
                if data:
                    yield event, b"\n".join(data)
                event, data = b"message", []
            elif text.startswith(b"data:"):
                data.append(text[5:].removeprefix(b" "))
            elif text.startswith(b"event:"):
                event = text[6:].removeprefix(b" ")
