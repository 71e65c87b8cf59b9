"""The HTTP surface, fuzzed from its own OpenAPI document: no 500, no answer that the document does not know."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
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

from shopfloor.messages import BATCH_MEDIA_TYPE
from tests.integration.fuzzed_service import fuzzed

ENDLESS = {"/v1/live"}
"""What never ends is fuzzed in `test_fuzz_live.py`."""
EXAMPLES = int(os.environ.get("SHOPFLOOR_FUZZ_EXAMPLES", "2"))
"""Requests of each kind to each operation; the same ones every time, more of them on request."""


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
    with fuzzed(tmp_path) as address:
        yield address


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
