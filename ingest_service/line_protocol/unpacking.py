"""Bodies as they travel, unpacked within bounds."""

from __future__ import annotations

import zlib
from typing import Final

_MAX_MEMBERS: Final = 100
"""Of a gzip body: what follows each is copied."""


class BodyTooLarge(Exception):
    """A body holds more bytes than are taken, unpacked."""


class NotGzip(Exception):
    """A body that says so is no gzip, or ends before its end."""


def unpacked(body: bytes, limit: int) -> bytes:
    """Return what a gzip body of one or several members (RFC 1952) holds.

    Raises:
        BodyTooLarge: more than ``limit`` bytes; no more than that is ever unpacked.
        NotGzip: it is none.
    """
    parts: list[bytes] = []
    size = 0
    rest = body
    for _ in range(_MAX_MEMBERS):
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            part = member.decompress(rest, limit - size + 1)
        except zlib.error as error:
            raise NotGzip(str(error)) from error
        parts.append(part)
        size += len(part)
        if size > limit:
            raise BodyTooLarge
        if not member.eof:
            raise NotGzip("it ends before its end")
        rest = member.unused_data.lstrip(b"\0")
        if not rest:
            return b"".join(parts)
    raise NotGzip(f"more than {_MAX_MEMBERS} members")
