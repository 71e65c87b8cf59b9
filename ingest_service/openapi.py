"""The OpenAPI document: bodies that routes decode themselves, described by the types that they are decoded to."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import FastAPI

_PLACE: Final = "#/components/schemas/{name}"
_described: Final[dict[str, Any]] = {}


def json_body(example: object, kind: Any) -> dict[str, Any]:
    """Return what the document says of a JSON body.

    Args:
        example: one that is taken.
        kind: the type that msgspec decodes it to.
    """
    (schema,), components = msgspec.json.schema_components((kind,), ref_template=_PLACE)
    _described.update(components)
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


class DescribedApp(FastAPI):
    """FastAPI, with the types of `json_body` among the document's components."""

    def openapi(self) -> dict[str, Any]:
        """Return the document."""
        document = super().openapi()
        document.setdefault("components", {}).setdefault("schemas", {}).update(_described)
        return document
