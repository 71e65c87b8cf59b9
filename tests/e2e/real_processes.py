"""The real processes as a user starts them, a proxy that can misbehave between them, and a plant to read from."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

Result = TypeVar("Result")
http = httpx.Client(timeout=10, verify=False, limits=httpx.Limits(max_keepalive_connections=0))
"""One for all: a client reads the system's certificates when it is made, which takes longer than a request."""


def shopfloor(*words: str | Path, timeout_s: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "shopfloor", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def eventually(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    """Wait for something that will happen; the time is only for giving up."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            pytest.fail(f"after {timeout_s} s not yet: {what}")
        time.sleep(0.05)


class Process:
    """One ``shopfloor`` process with its log in a file."""

    def __init__(self, log: Path, *words: str | Path) -> None:
        self._words = words
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "shopfloor", *map(str, self._words)], stdout=log, stderr=log
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def lives(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> tuple[int, float]:
        """Return the exit status and how many seconds it took."""
        assert self._process is not None
        begun_s = time.monotonic()
        self._process.terminate()
        return self._process.wait(30), time.monotonic() - begun_s


class Metrics:
    """The counters of one ``/metrics`` page; a series that is not there yet stands at 0."""

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        self._url = url
        self._headers = headers or {}

    def __getitem__(self, name: str) -> float:
        for line in self.text().splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def text(self) -> str:
        return http.get(self._url, headers=self._headers, timeout=10).raise_for_status().text


class Background:
    """An event loop on a thread of its own, for the servers that the tests themselves provide."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="background")
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Proxy:
    """HTTP between an agent and the service: passes on, answers by itself, or spoils what it passes on."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.answer: bytes | None = None
        """The answer to every request, instead of the service's."""
        self.spoil: Callable[[bytes], bytes] | None = None
        """What becomes of the bytes of a batch on their way to the service; its wish to wait is kept back then."""
        self._target = target_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    head, body = await _message(reader)
                    writer.write(await self._respond(head, body))
                    await writer.drain()
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _respond(self, head: bytes, body: bytes) -> bytes:
        is_batch = head.startswith(b"POST /v1/batches ")
        if self.answer is not None:
            return self.answer
        if is_batch and self.spoil is not None:
            body = self.spoil(body)
            head = re.sub(rb"(?i)(content-length: *)\d+", rb"\g<1>%d" % len(body), head)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            writer.write(head + body)
            head, body = await _message(reader)
            if self.spoil is not None:
                head = re.sub(rb"(?i)retry-after: *\d+", b"retry-after: 0", head)
            return head + body
        finally:
            writer.transport.abort()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return head, await reader.readexactly(int(length[1])) if length else b""
