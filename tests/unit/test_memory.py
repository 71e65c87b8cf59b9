"""What the allocator keeps: asked of any C library, and without effect on what is in use."""

import ctypes

import pytest

from shopfloor import memory


def test_what_is_in_use_stays() -> None:
    memory.keep_little()
    kept = [bytes(1000) for _ in range(1000)]
    memory.give_back()
    assert all(each == bytes(1000) for each in kept)


def test_a_c_library_without_these_functions_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def nothing(name: object) -> object:
        asked.append(name)
        return object()

    monkeypatch.setattr(ctypes, "CDLL", nothing)
    memory.keep_little()
    memory.give_back()
    assert asked == [None, None]
