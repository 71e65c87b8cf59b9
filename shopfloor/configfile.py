"""One YAML file per process, read into frozen models; every mistake is reported at once, at file:line:column.

::

    agent.yaml:6:38: sources.0.opcua.nodes.0.sacle: unknown key, did you mean scale?
"""

from __future__ import annotations

import difflib
import os
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from shopfloor import plainyaml
from shopfloor.asset import AssetPath, parse_asset
from shopfloor.errors import ConfigError, InvalidName
from shopfloor.signal import parse_signal

_MAX_BYTES: Final = 16 * 2**20
_ENVIRONMENT: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

Location = tuple[str | int, ...]


class ConfigModel(BaseModel):
    """Base of all configuration: frozen, unknown keys refused, documented by the strings under its fields.

    `shopfloor.configdoc` reads those strings; pydantic would parse the source for them whenever a process starts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def _asset(text: object) -> object:
    try:
        return parse_asset(text) if isinstance(text, str) else text
    except InvalidName as error:
        raise PydanticCustomError("asset_path", "{reason}", {"reason": str(error)}) from error


def _signal(text: str) -> str:
    try:
        return parse_signal(text)
    except InvalidName as error:
        raise PydanticCustomError("signal_name", "{reason}", {"reason": str(error)}) from error


def _reveal(reference: object, info: ValidationInfo) -> object:
    if not isinstance(reference, str):
        return reference
    if reference.startswith("file:"):
        path = resolve(reference.removeprefix("file:"), info)
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise PydanticCustomError(
                "secret",
                "can't read the secret's file {path}: {reason}",
                {"path": str(path), "reason": getattr(error, "strerror", None) or str(error)},
            ) from error
    match = _ENVIRONMENT.fullmatch(reference)
    if not match:
        raise PydanticCustomError(
            "secret", "a secret stands here only as ${ENVIRONMENT_VARIABLE} or file:PATH"
        )
    name = match[1]
    if name not in os.environ:
        raise PydanticCustomError("secret", "the environment variable {name} is not set", {"name": name})
    return os.environ[name]


def resolve(path: str, info: ValidationInfo) -> Path:
    """Return a path from a configuration file, relative ones taken from the file's own folder."""
    folder = (info.context or {}).get("folder", Path())
    return Path(folder, Path(path).expanduser())


def _path(text: object, info: ValidationInfo) -> object:
    return resolve(text, info) if isinstance(text, str) else text


Asset = Annotated[str, AfterValidator(_asset)]
"""An asset path; its values are `AssetPath`."""
Signal = Annotated[str, AfterValidator(_signal)]
"""A signal name."""
Secret = Annotated[SecretStr, BeforeValidator(_reveal)]
"""A secret: in the file only as ``${ENVIRONMENT_VARIABLE}`` or ``file:PATH``."""
FilePath = Annotated[Path, BeforeValidator(_path)]
"""A path; relative ones start at the configuration file's folder."""

Model = TypeVar("Model", bound=ConfigModel)
_WRITTEN: Final[dict[frozenset[str], set[str]]] = {}


def compacted(model: Model) -> Model:
    """Return the model itself, at a third of its size: for models that come by the ten thousand; call it when it is valid.

    Its attributes share their keys with those of its class again, and the set of fields that were written is one for all
    models with the same ones; pydantic gives each its own of both.
    """
    written = model.__pydantic_fields_set__
    object.__setattr__(model, "__pydantic_fields_set__", _WRITTEN.setdefault(frozenset(written), written))
    attributes = model.__dict__
    object.__delattr__(model, "__dict__")
    for name, value in attributes.items():
        object.__setattr__(model, name, value)
    return model


def load(path: Path | str, model: type[Model]) -> Model:
    """Read a YAML file into ``model``.

    Raises:
        ConfigError: the file can't be read, is not YAML, or does not fit the model; every mistake is in it.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ConfigError([f"{path}: {size} bytes; a configuration file has at most {_MAX_BYTES}"])
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror or error}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text: {error.reason} at byte {error.start}"]) from error
    return parse(text, model, path)


def parse(text: str, model: type[Model], path: Path) -> Model:
    """Read YAML text as `load` does; ``path`` stands in the messages and anchors relative paths."""
    try:
        data = plainyaml.read(text)
        data = {} if data is None else data
    except plainyaml.Unusual:
        document = _Document(str(path), text)
        data = document.build()
        if document.problems:
            raise ConfigError(document.problems) from None
    try:
        return model.model_validate(data, context={"folder": path.parent})
    except ValidationError as error:
        document = _Document(str(path), text)
        document.build()
        lines = {
            (document.position(found), _describe(found, model)): None
            for found in _genuine(error.errors(include_url=False))
        }
        ordered = sorted(lines, key=lambda line: line[0])
        raise ConfigError([f"{path}:{line}:{column}: {what}" for (line, column), what in ordered]) from None


def locate(path: Path, location: Location) -> tuple[int, int]:
    """Return line and column (from 1) of the value at ``location`` in a file that `load` has read."""
    document = _Document(str(path), path.read_text(encoding="utf-8"))
    document.build()
    return document.find(location)


def _genuine(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out "too short" for a list whose items were refused: nobody wrote too few of them."""
    return [
        error
        for error in errors
        if error["type"] != "too_short"
        or not any(
            other is not error and other["loc"][: len(error["loc"])] == error["loc"] for other in errors
        )
    ]


class _Document:
    """A composed YAML document that remembers where each key and value stands."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.problems: list[str] = []
        self._keys: dict[Location, yaml.Mark] = {}
        self._values: dict[Location, yaml.Mark] = {}
        self._loader = yaml.SafeLoader(text)
        self._open: set[int] = set()
        self._built = 0

    def build(self) -> Any:
        try:
            root = self._loader.get_single_node()
            return {} if root is None else self._build(root, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
            self.problems.append(f"{self.name}{where}: not YAML: {error.problem or error.context}")
        except yaml.YAMLError as error:
            self.problems.append(f"{self.name}: not YAML: {error}")
        finally:
            self._loader.dispose()
        return None

    def position(self, error: ErrorDetails) -> tuple[int, int]:
        """Return line and column (from 1) of the key or value that an error is about."""
        unknown_key = error["type"] == "extra_forbidden"
        return self.find(error["loc"], of_key=unknown_key)

    def find(self, location: Location, *, of_key: bool = False) -> tuple[int, int]:
        """Return line and column (from 1) of a value, or its key, or the nearest thing around it."""
        tables = (self._keys, self._values) if of_key else (self._values, self._keys)
        location = self._written(location)
        while True:
            for table in tables:
                if location in table:
                    mark = table[location]
                    return mark.line + 1, mark.column + 1
            if not location:
                return 1, 1
            location = location[:-1]

    def _written(self, location: Location) -> Location:
        """Leave out the names of kinds that pydantic puts between a key and what stands under it."""
        at: Location = ()
        for place, step in enumerate(location):
            if (*at, step) in self._values or place == len(location) - 1:
                at = (*at, step)
        return at

    def _build(self, node: yaml.Node, at: Location) -> Any:
        self._built += 1
        if id(node) in self._open or self._built > 500_000:
            raise yaml.MarkedYAMLError(
                problem="an alias contains itself, or far too many values", problem_mark=node.start_mark
            )
        self._values[at] = node.start_mark
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, at)
            if isinstance(node, yaml.SequenceNode):
                return [self._build(item, (*at, number)) for number, item in enumerate(node.value)]
            return self._scalar(node)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[Any, Any]:
        self._loader.flatten_mapping(node)
        built: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str | int):
                self._problem(key_node, at, "a key must be plain text")
                continue
            here = (*at, key)
            if key in built:
                first = self._keys[here]
                self._problem(key_node, here, f"duplicate key, first at line {first.line + 1}")
                continue
            self._keys[here] = key_node.start_mark
            built[key] = self._build(value_node, here)
        return built

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node)
        except ValueError as error:
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from error

    def _problem(self, node: yaml.Node, at: Location, what: str) -> None:
        mark = node.start_mark
        self.problems.append(f"{self.name}:{mark.line + 1}:{mark.column + 1}: {_dotted(at)}: {what}")


def _dotted(location: Location) -> str:
    return ".".join(map(str, location)) or "(the whole file)"


def _describe(error: ErrorDetails, model: type[BaseModel]) -> str:
    location: Location = error["loc"]
    kind = error["type"]
    if kind == "extra_forbidden":
        what = "unknown key" + _suggestion(location, model)
    elif kind == "missing":
        what = "required, but missing"
    elif kind == "union_tag_not_found":
        what = f"{error['ctx']['discriminator']} says which kind it is, but is missing"
    elif kind == "union_tag_invalid":
        context = error["ctx"]
        what = f"{context['discriminator']} must be one of {context['expected_tags']} (got {context['tag']!r:.100})"
    else:
        message = error["msg"].removeprefix("Value error, ")
        given = error.get("input")
        shown = isinstance(given, str | int | float | bool) and kind != "secret"
        what = message[:1].lower() + message[1:] + (f" (got {given!r:.100})" if shown else "")
    return f"{_dotted(location)}: {what}"


def _suggestion(location: Location, model: type[BaseModel]) -> str:
    owners: list[type[BaseModel]] = [model]
    for step in location[:-1]:
        if isinstance(step, int):
            continue
        owners = [
            inner
            for owner in owners
            if step in owner.model_fields
            for inner in _models(owner.model_fields[step].annotation)
        ] or owners
    names = [name for owner in owners for name in owner.model_fields]
    close = difflib.get_close_matches(str(location[-1]), names, n=1)
    return f", did you mean {close[0]}?" if close else f"; known here: {', '.join(dict.fromkeys(names))}"


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


__all__ = [
    "Asset",
    "AssetPath",
    "ConfigModel",
    "FilePath",
    "Secret",
    "Signal",
    "compacted",
    "load",
    "locate",
    "parse",
    "resolve",
]
