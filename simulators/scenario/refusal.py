"""How a scenario is refused: at the very place that is wrong, though only several places together make it wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn, TypeAlias

from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

Place: TypeAlias = tuple[int | str, ...]
"""Keys and positions from the model whose validator refuses."""


def refuse(place: Place, problem: str, **values: object) -> NoReturn:
    """Raise ValidationError for what stands at ``place``; ``{name}`` in ``problem`` is one of ``values``."""
    error = PydanticCustomError("scenario", problem, values)
    raise ValidationError.from_exception_data(
        "scenario", [InitErrorDetails(type=error, loc=place, input=None)]
    )


def refuse_twice(what: str, named: Iterable[tuple[Place, str]]) -> None:
    """Refuse a name that stands there twice, at its second place."""
    seen: set[str] = set()
    for place, name in named:
        if name in seen:
            refuse(place, "{what} {name}", what=what, name=name)
        seen.add(name)


def names_in(key: str, names: Iterable[str], of: str = "name") -> Iterable[tuple[Place, str]]:
    """Yield the names in a list under ``key`` with their places; in each of its entries they stand under ``of``."""
    return (((key, number, of), name) for number, name in enumerate(names))
