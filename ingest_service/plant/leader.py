"""Which of several processes does what only one may do: derive facts, save machine states, write rollups."""

from __future__ import annotations

import logging
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ingest_service.plant.engine import is_shared

_LEADING: Final = 0x5F10_0003
"""Number of the advisory lock that the leading process holds."""
_log = logging.getLogger(__name__)


class Leader:
    """Holds an advisory lock of PostgreSQL on a connection of its own: it ends with the process, however that ends.

    On SQLite there is one process, and it leads. Blocking; for one thread at a time.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None
        self.leading = not is_shared(engine)
        """What `leads` returned last."""

    def leads(self) -> bool:
        """Tell whether this process leads, and become the leader where there is none."""
        if not is_shared(self._engine):
            return True
        before = self.leading
        try:
            self.leading = self._holds()
        except SQLAlchemyError as error:
            _log.warning("this process leads no more: %s", error)
            self.leading = False
            self.close()
        if self.leading and not before:
            _log.info("this process derives the facts")
        return self.leading

    def close(self) -> None:
        """Let another process lead."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # Not back to the pool: the lock would go on there.
            connection.invalidate()
            connection.close()

    def _holds(self) -> bool:
        if self._connection is not None:
            self._connection.execute(sa.select(1))
            return True
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._connection = connection
        if connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_LEADING))):
            return True
        self._connection = None
        connection.close()
        return False
