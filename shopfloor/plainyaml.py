"""YAML that uses nothing special, straight from the parser's events.

A file of ten thousand nodes costs neither seconds nor the memory of a tree of it that way. Whatever is special, or wrong,
is `Unusual`: somebody slower has to look at it.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import yaml

_LOADER: Final[type[Any]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it."""
_PREFIX: Final = "tag:yaml.org,2002:"
_TEXT: Final = f"{_PREFIX}str"
_SCALARS: Final = frozenset(f"{_PREFIX}{kind}" for kind in ("int", "float", "bool", "null", "timestamp"))
_MAX_VALUES: Final = 500_000
_MAX_DEPTH: Final = 100


class Unusual(Exception):
    """Not YAML, or YAML with tags, anchors, merged or repeated keys; or too much of it."""


def read(text: str) -> Any:
    """Return a document's data, None where it is empty.

    Raises:
        Unusual: read it with another parser, which also says what is wrong with it.
    """
    loader = _LOADER(text)
    try:
        loader.get_event()
        if loader.check_event(yaml.StreamEndEvent):
            return None
        loader.get_event()
        data = _Reader(loader).value(loader.get_event(), 0)
        loader.get_event()
        if not loader.check_event(yaml.StreamEndEvent):
            raise Unusual("more than one document")
    except (yaml.YAMLError, ValueError) as error:
        raise Unusual(str(error)) from error
    finally:
        loader.dispose()
    return data


class _Reader:
    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._values = 0

    def value(self, event: Any, depth: int) -> Any:
        """Return what begins with an event, and read on to its end."""
        self._values += 1
        if self._values > _MAX_VALUES or depth > _MAX_DEPTH:
            raise Unusual("too many values, or too deep")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
            raise Unusual("an anchor, an alias or a tag")
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(event := self._loader.get_event(), yaml.SequenceEndEvent):
                items.append(self.value(event, depth + 1))
            return items
        if not isinstance(event, yaml.MappingStartEvent):
            raise Unusual(type(event).__name__)
        built: dict[Any, Any] = {}
        while not isinstance(event := self._loader.get_event(), yaml.MappingEndEvent):
            key = self.value(event, depth + 1)
            if not isinstance(key, str | int) or isinstance(key, bool) or key in built:
                raise Unusual("a key that is no text, or there already")
            if isinstance(key, str):
                key = sys.intern(key)
            built[key] = self.value(self._loader.get_event(), depth + 1)
        return built

    def _scalar(self, event: Any) -> Any:
        if event.anchor is not None or event.tag is not None:
            raise Unusual("an anchor or a tag")
        tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        if tag == _TEXT:
            return event.value
        if tag not in _SCALARS:
            raise Unusual(tag)
        return self._loader.yaml_constructors[tag](
            self._loader, yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        )
