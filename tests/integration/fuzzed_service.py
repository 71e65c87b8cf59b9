"""A service to be fuzzed: no rate stands in the way, and its token can't happen to be revoked by what is tried."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import argon2
import pytest
import sqlalchemy as sa

from ingest_service.access import passwords
from ingest_service.access.config import AccessConfig
from ingest_service.auth import Role, create_token
from ingest_service.config import IngestConfig
from ingest_service.plant.schema import token as token_table
from ingest_service.server import make_server

OUT_OF_THE_WAY = 1_999_999_999
"""Number of the token that fuzzes: it must not happen to revoke itself."""


@contextmanager
def fuzzed(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Run a service that nothing is too much for; yield its address and the headers of an administrator."""
    with pytest.MonkeyPatch.context() as patch:
        quick = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
        patch.setattr(passwords, "_HASHER", quick)
        patch.setattr(passwords, "_NOBODYS", quick.hash("nobody knows"))
        config = IngestConfig(
            listen="127.0.0.1:0",
            data=folder,
            access=AccessConfig(login_failures=1000, address_requests_per_s=1e6, token_requests_per_s=1e6),
        )
        server = make_server(config)
        engine = server._service.plant.engine
        text = create_token(engine, Role.ADMIN, "", "fuzzer")
        with engine.begin() as connection:
            last = connection.scalar(sa.select(sa.func.max(token_table.c.token_id)))
            connection.execute(
                token_table.update().where(token_table.c.token_id == last).values(token_id=OUT_OF_THE_WAY)
            )
        thread = threading.Thread(target=lambda: asyncio.run(server.serve()), name="fuzzed-service")
        thread.start()
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        try:
            port = server.servers[0].sockets[0].getsockname()[1]
            yield f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {text}"}
        finally:
            server.should_exit = True
            thread.join()
