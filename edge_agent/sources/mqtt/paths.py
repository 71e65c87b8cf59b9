"""Where a value lies in a decoded payload: plain paths, and JMESPath where they don't suffice. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import jmespath
import jmespath.exceptions
import jmespath.functions

MISSING: Final = object()
"""What a `Finder` returns where a path leads nowhere."""
UNFIT: Final = object()
"""What a `Finder` returns where a query does not fit what it found, such as the sum of a text."""
_DEPTH: Final = 32
"""How deep `leaves` goes into nested objects."""

Finder = Callable[[Any], Any]


def finder(path: str) -> Finder:
    """Return the function that finds what lies at ``path`` in a decoded payload, MISSING where nothing does.

    A path is keys and list indices joined by dots; a key of the outermost object that itself contains dots is
    found as it stands. The empty path is the whole payload.
    """
    if not path:
        return lambda payload: payload
    steps = path.split(".")
    if len(steps) == 1:
        return lambda payload: payload.get(path, MISSING) if type(payload) is dict else _step(payload, path)

    def find(payload: Any) -> Any:
        found = payload
        for step in steps:
            found = found.get(step, MISSING) if type(found) is dict else _step(found, step)
            if found is MISSING:
                return _step(payload, path)
        return found

    return find


def _step(value: Any, step: str) -> Any:
    if type(value) is dict:
        return value.get(step, MISSING)
    if type(value) is list and step.isascii() and step.isdigit() and len(step) < 10:
        index = int(step)
        return value[index] if index < len(value) else MISSING
    return MISSING


def query(expression: str) -> Finder:
    """Return the function that finds what a JMESPath expression selects in a decoded payload.

    JMESPath does not tell null from nothing there: both are MISSING. Where a function of the expression meets what it
    can't take, the result is UNFIT. Expressions of nothing but keys and indices don't pass through JMESPath.

    Raises:
        ValueError: no JMESPath expression; the message says where and why, in one line.
    """
    try:
        compiled = jmespath.compile(expression)
    except jmespath.exceptions.ParseError as error:
        at = min(getattr(error, "lex_position", 0), len(expression))
        raise ValueError(f"not a JMESPath expression: see character {at + 1}") from None
    except (jmespath.exceptions.JMESPathError, RecursionError) as error:
        raise ValueError(f"not a JMESPath expression: {str(error).partition(chr(10))[0]}") from None
    _check_functions(compiled.parsed)
    steps = _plain_steps(compiled.parsed)
    if steps is not None:
        return lambda payload: _walk(payload, steps)

    def find(payload: Any) -> Any:
        try:
            found = compiled.search(payload)
        except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError):
            # JMESPathError is a ValueError; its functions let those of Python through (the ceiling of infinity).
            return UNFIT
        return MISSING if found is None else found

    return find


def _check_functions(node: Any) -> None:
    if node["type"] == "function_expression":
        name = node["value"]
        known = jmespath.functions.Functions.FUNCTION_TABLE.get(name)
        if known is None:
            raise ValueError(f"not a JMESPath expression: there is no function {name}()")
        signature, given = known["signature"], len(node["children"])
        least = len(signature)
        if given < least or (given > least and not any(each.get("variadic") for each in signature)):
            raise ValueError(f"not a JMESPath expression: {name}() takes {least} arguments, not {given}")
    for child in node["children"]:
        _check_functions(child)


def _plain_steps(node: Any) -> tuple[str | int, ...] | None:
    """Return the keys and indices that an expression is made of; None where it is made of more."""
    match node["type"]:
        case "field" | "index":
            return (node["value"],)
        case "current" | "identity":
            return ()
        case "subexpression" | "index_expression":
            parts = [_plain_steps(child) for child in node["children"]]
            return None if None in parts else tuple(step for part in parts for step in part or ())
        case _:
            return None


def _walk(payload: Any, steps: tuple[str | int, ...]) -> Any:
    found = payload
    for step in steps:
        if type(step) is int:
            if type(found) is not list or not -len(found) <= step < len(found):
                return MISSING
            found = found[step]
        else:
            if type(found) is not dict:
                return MISSING
            found = found.get(step)
    return MISSING if found is None else found


def leaves(payload: Any) -> Iterator[tuple[str, Any]]:
    """Yield path and value of every number, boolean, text and null in nested objects, in order; lists are left out.

    Objects nested deeper than anybody means to are values, of which no sample can be made.
    """
    if type(payload) is dict:
        yield from _leaves(payload, "", _DEPTH)


def _leaves(node: dict[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        path = f"{prefix}{key}"
        if type(value) is dict and depth:
            yield from _leaves(value, path + ".", depth - 1)
        elif type(value) is not list:
            yield path, value
