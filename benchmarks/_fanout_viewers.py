"""Many open live pages in one process: what each was told, and how late. Run by `benchmarks.fanout`.

Values count up by one a second, and a value's own time says when it changed: so a value that was replaced on the way
by a newer one counts as late as that one came.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

_BINS_MS: Final = 60_000
_CONNECT_AT_ONCE: Final = 25


class Told(msgspec.Struct):
    """A ``values`` event."""

    id: list[int]
    t: list[int]
    v: list[float | str | None]


class Shared:
    """What all viewers know alike: the same bytes mean the same, so they are read once."""

    def __init__(self) -> None:
        self.watched: npt.NDArray[np.bool_] = np.zeros(1, np.bool_)
        self.late_ms: npt.NDArray[np.int64] = np.zeros(_BINS_MS, np.int64)
        self.counting = False
        self._events: dict[bytes, tuple[npt.NDArray[np.int64], ...]] = {}
        self._decoder = msgspec.json.Decoder(Told)

    def learn(self, ids: list[int], signals: list[str]) -> None:
        """Take series; those named ``counter`` are what is counted."""
        size = max([len(self.watched) - 1, *ids]) + 1
        grown = np.zeros(size, np.bool_)
        grown[: len(self.watched)] = self.watched
        grown[[number for number, signal in zip(ids, signals, strict=True) if signal == "counter"]] = True
        self.watched = grown

    def values(self, data: bytes) -> tuple[npt.NDArray[np.int64], ...]:
        """Return ids, times in ms and values of the counters in an event."""
        known = self._events.get(data)
        if known is None:
            told = self._decoder.decode(data)
            rows = [row for row, number in enumerate(told.id) if self.watched[number]]
            known = (
                np.array([told.id[row] for row in rows], np.int64),
                np.array([told.t[row] for row in rows], np.int64),
                np.array([told.v[row] for row in rows], np.int64),
            )
            if len(self._events) > 256:
                del self._events[next(iter(self._events))]
            self._events[data] = known
        return known


class Viewer(asyncio.Protocol):
    """One open page."""

    def __init__(self, shared: Shared, request: bytes) -> None:
        self._shared, self._request = shared, request
        self._rest = b""
        self._newest: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.ready = asyncio.get_running_loop().create_future()
        self.values_total = 0
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def connection_lost(self, _error: Exception | None) -> None:
        """Note that it ended."""
        self.lost = True
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the service ended the stream"))

    def data_received(self, data: bytes) -> None:
        """Take what came; an event is one write of the service's, inside one chunk of HTTP."""
        whole = self._rest + data
        *blocks, self._rest = whole.split(b"\n\n")
        for block in blocks:
            at = block.find(b"event: ")
            name, _, text = block[at + 7 :].partition(b"\ndata: ") if at >= 0 else (b"", b"", b"")
            if name == b"values":
                self._take(text)
            elif name == b"series":
                series = json.loads(text)
                self._shared.learn(series["id"], series["signal"])
            elif name == b"agents" and not self.ready.done():
                self.ready.set_result(None)

    def lag(self, newest: int) -> int:
        """Return how many values behind ``newest`` the counter that is furthest behind is."""
        seen = self._newest[self._newest > 0]
        return int(newest - seen.min()) if len(seen) else newest

    def _take(self, text: bytes) -> None:
        shared = self._shared
        ids, times, values = shared.values(text)
        if len(self._newest) < len(shared.watched):
            self._newest = np.concatenate(
                [self._newest, np.zeros(len(shared.watched) - len(self._newest), np.int64)]
            )
        skipped = values - self._newest[ids]
        self._newest[ids] = values
        if not shared.counting:
            return
        self.values_total += len(ids)
        late = int(time.time() * 1000) - times
        for back in range(int(skipped.max(initial=0))):
            behind = late[skipped > back] + 1000 * back
            np.add.at(shared.late_ms, np.clip(behind, 0, _BINS_MS - 1), 1)


async def _watch(port: int, token: str, asset: str, viewers: int, seconds: float) -> dict[str, Any]:
    shared = Shared()
    request = (
        f"GET /v1/live?asset={asset} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    pages: list[Viewer] = []
    while len(pages) < viewers:
        wanted = min(_CONNECT_AT_ONCE, viewers - len(pages))
        opened = await asyncio.gather(
            *(
                loop.create_connection(lambda: Viewer(shared, request), "127.0.0.1", port)
                for _ in range(wanted)
            )
        )
        pages += [page for _, page in opened]
        await asyncio.gather(*(page.ready for page in pages[-wanted:]))
    print("ready", flush=True)
    shared.counting = True
    began_s, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    took_s = time.perf_counter() - began_s
    shared.counting = False
    values = [page.values_total / took_s for page in pages]
    newest = max((int(page._newest.max(initial=0)) for page in pages), default=0)  # noqa: SLF001
    found = np.cumsum(shared.late_ms)

    def quantile(share: float) -> int:
        return int(np.searchsorted(found, share * found[-1])) if found[-1] else -1

    return {
        "viewers": sum(not page.lost for page in pages),
        # One that stopped being told, though its connection lives, is lost as well.
        "lost_viewers": sum(page.lost or page.lag(newest) > 3 for page in pages),
        "p50_ms": quantile(0.5),
        "p99_ms": quantile(0.99),
        "changes_seen": int(found[-1]),
        "values_per_viewer_per_s": round(min(values), 1),
        "viewers_cpu_cores": round((time.process_time() - cpu_s) / took_s, 3),
    }


def main() -> None:
    """Open the pages, say ``ready``, count, print the figures as JSON."""
    parser = argparse.ArgumentParser()
    for name, kind in (("port", int), ("token", str), ("asset", str), ("viewers", int), ("seconds", float)):
        parser.add_argument(name, type=kind)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(_watch(given.port, given.token, given.asset, given.viewers, given.seconds))))


if __name__ == "__main__":
    main()
