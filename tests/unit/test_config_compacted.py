"""Models that come by the ten thousand: smaller, and otherwise the same."""

import pickle
import sys

from shopfloor.configfile import ConfigModel, compacted


class _Node(ConfigModel):
    node: str
    """Its address."""
    unit: str = ""
    """Its unit."""
    scale: float = 1.0
    """Its factor."""
    offset: float = 0.0
    """What is added."""
    text: str | None = None
    """For people."""
    most: int = 64
    """A number."""


def _node(text: str = "a", **more: object) -> _Node:
    return _Node.model_validate({"node": text, "unit": "bar", **more})


def test_a_compacted_model_is_the_same_model() -> None:
    plain, small = _node(), compacted(_node())
    assert small == plain
    assert hash(small) == hash(plain)
    assert repr(small) == repr(plain)
    assert small.model_dump(exclude_unset=True) == {"node": "a", "unit": "bar"}
    assert small.model_copy(update={"unit": "Cel"}).unit == "Cel"
    assert pickle.loads(pickle.dumps(small)) == plain


def test_models_with_the_same_written_fields_share_them_and_others_do_not() -> None:
    first, second, other = compacted(_node()), compacted(_node("b")), compacted(_node(scale=2.0))
    assert first.model_fields_set is second.model_fields_set
    assert other.model_fields_set == {"node", "unit", "scale"}
    assert first.model_fields_set == {"node", "unit"}


def test_its_attributes_take_less_room() -> None:
    assert sys.getsizeof(vars(compacted(_node()))) < sys.getsizeof(vars(_node()))
