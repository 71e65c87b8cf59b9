"""The HTTP surface, fuzzed from its own OpenAPI document: no 500, no answer that the document does not know."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import argon2
import pytest
import requests
import schemathesis
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode, SerializationContext
from schemathesis.checks import CheckContext, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ingest_service.access import passwords
from ingest_service.access.config import AccessConfig
from ingest_service.auth import Role, create_token
from ingest_service.config import IngestConfig
from ingest_service.plant.schema import token as token_table
from ingest_service.server import make_server
from shopfloor.messages import BATCH_MEDIA_TYPE

ENDLESS = {"/v1/live"}
EXAMPLES = int(os.environ.get("SHOPFLOOR_FUZZ_EXAMPLES", "2"))
"""Requests of each kind to each operation; the same ones every time, more of them on request."""
OUT_OF_THE_WAY = 1_999_999_999
"""Number of the token that fuzzes: it must not happen to revoke itself."""


def unexpected(ctx: CheckContext, response: Any, case: Case[Any]) -> bool | None:
    """Nothing from 500 on but what says that a newer agent has to wait."""
    if response.status_code == 503 and b"wire_version" in response.content:
        return None
    return not_a_server_error(ctx, response, case)


@schemathesis.serializer(BATCH_MEDIA_TYPE)
def as_it_is(_context: SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    with pytest.MonkeyPatch.context() as patch:
        quick = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
        patch.setattr(passwords, "_HASHER", quick)
        patch.setattr(passwords, "_NOBODYS", quick.hash("nobody knows"))
        config = IngestConfig(
            listen="127.0.0.1:0",
            data=tmp_path,
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


@pytest.mark.timeout(600)
def test_what_the_document_allows_and_what_it_does_not(address: tuple[str, dict[str, str]]) -> None:
    base_url, headers = address
    with requests.Session() as session:
        schema = schemathesis.openapi.from_dict(session.get(f"{base_url}/openapi.json").json())
        operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
        fuzzed: Counter[GenerationMode] = Counter()
        for operation in operations:
            if operation.path in ENDLESS:
                continue
            for mode in GenerationMode:
                if mode is GenerationMode.NEGATIVE and not (operation.query or operation.body):
                    continue  # no text is a wrong part of a path

                @settings(
                    max_examples=EXAMPLES,
                    derandomize=True,
                    database=None,
                    deadline=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=operation.as_strategy(generation_mode=mode))
                def fuzz(case: Case[Any]) -> None:
                    case.call_and_validate(
                        base_url=base_url,
                        session=session,
                        headers=headers,
                        timeout=60,
                        checks=[
                            unexpected,
                            status_code_conformance,
                            content_type_conformance,
                            response_schema_conformance,
                        ],
                    )

                with suppress(Unsatisfiable):  # where there is nothing to do wrong
                    fuzz()
                    fuzzed[mode] += 1
        assert fuzzed[GenerationMode.POSITIVE] == len(operations) - len(ENDLESS)
        assert fuzzed[GenerationMode.NEGATIVE] > 15
        assert session.get(f"{base_url}/readyz").status_code == 200
