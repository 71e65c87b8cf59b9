"""How many bytes wait, in all and for one token: what comes beyond is turned away, to come again later.

A token may hold as much as is still free (dynamic thresholds, Choudhury and Hahne, IEEE/ACM Transactions on Networking
6(2), 1998): one alone gets up to its limit, ``k`` greedy ones get a ``k + 1``-th each, and a newcomer always finds room.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from shopfloor.block import SampleBlock


class Busy(Exception):
    """Too many bytes wait already."""


class Backpressure:
    """Counts waiting bytes. Belongs to the event loop."""

    def __init__(self, limit_bytes: int, token_limit_bytes: int) -> None:
        self.waiting_bytes = 0
        self._limit_bytes = limit_bytes
        self._token_limit_bytes = token_limit_bytes
        self._by_token: dict[int, int] = {}

    @contextlib.contextmanager
    def reserve(self, token_id: int) -> Iterator[Reservation]:
        """Give room to one request and take it back at its end."""
        reservation = Reservation(self, token_id)
        try:
            yield reservation
        finally:
            self.add(token_id, -reservation.taken_bytes)

    def add(self, token_id: int, number: int) -> None:
        """Count ``number`` bytes; raises Busy where they do not fit."""
        before = self._by_token.get(token_id, 0)
        mine = before + number
        free = self._limit_bytes - self.waiting_bytes
        if number > 0 and (mine > self._token_limit_bytes or number > free or before >= free):
            raise Busy
        self.waiting_bytes += number
        if mine:
            self._by_token[token_id] = mine
        else:
            self._by_token.pop(token_id, None)


class Reservation:
    """The bytes of one request."""

    def __init__(self, owner: Backpressure, token_id: int) -> None:
        self._owner = owner
        self._token_id = token_id
        self.taken_bytes = 0

    def grow(self, number: int) -> None:
        """Take more; raises Busy."""
        self._owner.add(self._token_id, number)
        self.taken_bytes += number


def memory_bytes(block: SampleBlock) -> int:
    """Return about how many bytes a block takes in memory."""
    columns = (
        block.series_index,
        block.source_time,
        block.received_time,
        block.value,
        block.quality,
        block.status,
    )
    text = sum(map(len, block.text.values())) + 100 * len(block.text) if block.text else 0
    return sum(column.nbytes for column in columns) + text
