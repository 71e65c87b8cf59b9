"""A load balancer in front of several ingestion processes, and agents' impatience: what comes twice comes at once."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import numpy as np

from shopfloor.wire import decode_batch, encode_batch
from tests.links import HttpLink

_BATCH: Final = b"POST /v1/batches "
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"(?i)content-length: *\d+")


class Balancer(HttpLink):
    """Requests go to the processes in turn; one that gives no answer is passed over, also after it took the request.

    Some batches go to two processes at the same moment, and the first answer counts: as if an agent had lost patience
    and asked again just then. Of a part of them one process gets only the beginning, as if more samples had come before the
    agent asked again; then the answer to the whole batch counts.

    Args:
        target_ports: where the processes are reached.
        port: where it listens.
        dice: decides which batches go to two.
        twice: the share of them.
        cut: the share of those of which one gets the beginning.
    """

    def __init__(
        self, target_ports: Sequence[int], port: int, dice: random.Random, twice: float, cut: float = 0.5
    ) -> None:
        super().__init__(target_ports[0], port)
        self._targets = target_ports
        self._turn = 0
        self._dice = dice
        self._twice = twice
        self._cut_share = cut
        self._bodies: dict[bytes, bytes] = {}
        self._asking: set[asyncio.Task[object]] = set()
        self.sent_twice = 0
        """Batches that went to two processes at once."""
        self.answered_twice = 0
        """Those of them that both answered with 200."""
        self.passed_over = 0
        """Requests that a process left without an answer, so that another one got them."""

    @property
    def batches(self) -> list[bytes]:
        """The body of every batch that came by, each once, in order."""
        return list(self._bodies.values())

    async def stop(self) -> None:
        """Close everything, also what nobody waits for any more."""
        await super().stop()
        for task in list(self._asking):
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._target = self._targets[self._turn]
        self._turn = (self._turn + 1) % len(self._targets)
        return await super()._connect()

    async def _ask(self, request: bytes) -> bytes:
        if request.startswith(_BATCH):
            body = request[request.index(_HEAD_END) + len(_HEAD_END) :]
            self._bodies.setdefault(hashlib.sha256(body).digest(), body)
            if self._dice.random() < self._twice:
                return await self._ask_two(request)
        for _ in self._targets[1:]:
            with suppress(OSError, asyncio.IncompleteReadError):
                return await super()._ask(request)
            self.passed_over += 1
        return await super()._ask(request)

    async def _ask_two(self, request: bytes) -> bytes:
        self.sent_twice += 1
        # The one that is not waited for goes on: what it does then is what this is about.
        cut = self._dice.random() < self._cut_share
        copies = [beginning(request), request] if cut else [request, request]
        asked = [asyncio.create_task(self._ask_one(one)) for one in copies]
        for task in (*asked, asyncio.create_task(self._count(asked))):
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        for first in asyncio.as_completed(asked[-1:] if cut else asked):
            if answer := await first:
                return answer
        raise ConnectionResetError("neither process answers")

    async def _ask_one(self, request: bytes) -> bytes:
        with suppress(OSError, asyncio.IncompleteReadError):
            return await super()._ask(request)
        return b""

    async def _count(self, asked: Sequence[asyncio.Task[bytes]]) -> None:
        answers = await asyncio.gather(*asked)
        self.answered_twice += all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)


def beginning(request: bytes) -> bytes:
    """Return a request with the first half of its batch; of a batch of one sample all."""
    head, _, body = request.partition(_HEAD_END)
    batch = decode_batch(body)
    rows = np.arange((len(batch.block) + 1) // 2)
    half = encode_batch(replace(batch, block=batch.block.take(rows)))
    return _LENGTH.sub(b"content-length: %d" % len(half), head) + _HEAD_END + half
