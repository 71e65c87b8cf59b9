"""The first token: somebody has to be able to give the others."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from ingest_service.auth import Role, make_token, new_token
from ingest_service.plant.access_schema import account
from ingest_service.plant.schema import token
from shopfloor.errors import StoreUnavailable

FILE: Final = "first-admin.token"


def ensure_administrator(engine: sa.Engine, folder: Path) -> Path | None:
    """Make an administrator's token for everything where there was never a token or a user; return its file.

    A file that only its owner may read, and no line of the log: logs travel.

    Raises:
        StoreUnavailable: the database does not take it.
        OSError: the folder does not.
    """
    try:
        with engine.connect() as connection:
            known = sum(
                connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
                for table in (token, account)
            )
        if known:
            return None
        text, file = new_token(), folder / FILE
        # First the file: a token that nobody knows would be of no use, and would keep another from being made.
        _write(file, text)
        make_token(engine, Role.ADMIN, "", "first administrator", text=text)
    except sa.exc.SQLAlchemyError as error:
        raise StoreUnavailable(f"the plant store failed: {error}") from error
    return file


def _write(file: Path, text: str) -> None:
    fresh = file.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text + "\n")
        opened.flush()
        os.fsync(opened.fileno())
    fresh.replace(file)
