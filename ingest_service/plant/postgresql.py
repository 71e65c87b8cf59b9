"""How a PostgreSQL server is reached; loaded only where one is configured."""

from __future__ import annotations

from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg.types.string import StrDumper

_POOL: Final = 12
_CONNECT_TIMEOUT_S: Final = 10


class _WithoutNul(StrDumper):
    """Names and reasons may come with a NUL, which PostgreSQL refuses for ever: an agent's loss record must not."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)


def make_engine(url: sa.URL) -> sa.Engine:
    """Return an engine for ``url``; it connects when it is first used."""
    engine = sa.create_engine(
        url,
        pool_size=_POOL,
        max_overflow=4,
        # A server that was restarted, or a proxy that closed what was idle, costs no request.
        pool_pre_ping=True,
        # What a statement is about, hashes and names, belongs into no log.
        hide_parameters=True,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "application_name": "shopfloor",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        },
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: psycopg.Connection[Any], _record: object) -> None:
        connection.adapters.register_dumper(str, _WithoutNul)

    return engine
