"""The configuration reference, written from the models themselves."""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from shopfloor.asset import AssetPath


def describe(model: type[BaseModel], heading: str, level: int = 2) -> str:
    """Return Markdown with a table for the model and each model that it holds, in the order of first use."""
    parts = []
    for title, section in _sections(model, heading, set()):
        lines = [f"{'#' * level} {title}", "", (section.__doc__ or "").strip().partition("\n")[0], ""]
        lines += ["| option | type | default | meaning |", "|---|---|---|---|"]
        said = meanings(section)
        for name, field in section.model_fields.items():
            meaning = " ".join(said.get(name, "").split()).replace("|", "\\|")
            lines.append(f"| `{name}` | {_kind(field.annotation)} | {_default(field)} | {meaning} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def undocumented(model: type[BaseModel]) -> list[str]:
    """Name every option, however deep, that says nothing about itself."""
    return [
        f"{title}: {name}"
        for title, section in _sections(model, model.__name__, set())
        for name in section.model_fields
        if not meanings(section).get(name, "").strip()
    ]


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return what the strings under the model's fields, its own and those of its bases, say: by the field's name."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if issubclass(owner, BaseModel) and owner is not BaseModel:
            found |= _own_meanings(owner)
    return {name: words for name, words in found.items() if words}


@functools.cache
def _own_meanings(owner: type[BaseModel]) -> dict[str, str]:
    """Return what stands under each field of a class itself, or nothing; Python reads its whole module for that."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in itertools.pairwise(definition.body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(value=ast.Constant(value=str(words))):
                found[name] = words
            case ast.AnnAssign(target=ast.Name(name)), _:
                found[name] = ""
    return found


def _sections(
    model: type[BaseModel], title: str, seen: set[type[BaseModel]]
) -> Iterator[tuple[str, type[BaseModel]]]:
    if model in seen:
        return
    seen.add(model)
    yield title, model
    for name, field in model.model_fields.items():
        for inner, many in _models(field.annotation):
            yield from _sections(inner, f"{title}.{name}{many}", seen)


def _models(annotation: Any, many: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, many
    origin = typing.get_origin(annotation)
    inside = many + ("[]" if origin in {list, tuple} else ".NAME" if origin is dict else "")
    for argument in typing.get_args(annotation):
        yield from _models(argument, inside)


_NAMES = {
    SecretStr: "secret", Path: "path", AssetPath: "asset path", str: "text", int: "integer", float: "number",
    bool: "true / false", type(None): "null",
}  # fmt: skip


def _kind(annotation: Any) -> str:
    if annotation in _NAMES:
        return _NAMES[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_kind(argument) for argument in arguments if argument is not type(None))
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin is typing.Literal:
        return " / ".join(f"`{argument}`" for argument in arguments)
    if origin in {list, tuple}:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"map of name to {_kind(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " / ".join(f"`{member.value}`" for member in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return getattr(annotation, "__name__", str(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined or isinstance(default, BaseModel):
        return ""
    if isinstance(default, enum.Enum):
        default = default.value
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, list | tuple | dict) and not default:
        return "empty"
    if isinstance(default, BaseModel | dict):
        return ""
    return f"`{default}`"
