"""The plants' clock: it waits for the start, hurries without skipping, and never runs ahead."""

from __future__ import annotations

import logging

import pytest

from simulators.run import Clock

S = 10**9
NOW = 1_790_000_000 * S


class Real:
    def __init__(self) -> None:
        self.ns = NOW

    def __call__(self) -> int:
        return self.ns


def test_without_a_past_it_is_the_real_time() -> None:
    real = Real()
    clock = Clock(1.0, 0.0, real)
    real.ns += 7 * S
    assert clock.now_ns() == real.ns


def test_it_stands_until_everything_is_ready() -> None:
    real = Real()
    clock = Clock(60.0, 1.0, real)
    begin = clock.now_ns()
    assert begin == NOW - 3600 * S
    real.ns += 20 * S
    assert clock.now_ns() == begin
    clock.start()
    real.ns += S // 4
    assert clock.now_ns() == begin + 15 * S


def test_a_slow_tick_costs_speed_and_no_time(caplog: pytest.LogCaptureFixture) -> None:
    real = Real()
    clock = Clock(60.0, 24.0, real)
    clock.start()
    before = clock.now_ns()
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            real.ns += 5 * S
            now = clock.now_ns()
            assert 0 < now - before <= 15 * S
            before = now
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_once_caught_up_it_stays_with_the_real_time() -> None:
    real = Real()
    clock = Clock(60.0, 0.01, real)
    clock.start()
    for _ in range(10):
        real.ns += S // 4
        assert clock.now_ns() <= real.ns
    assert clock.now_ns() == real.ns
    real.ns += 3600 * S  # a laptop that slept: the plants are told, and say only where they are now
    assert clock.now_ns() == real.ns


def test_a_clock_that_is_put_back_moves_nothing_back() -> None:
    real = Real()
    clock = Clock(60.0, 1.0, real)
    clock.start()
    real.ns += S // 4
    before = clock.now_ns()
    real.ns -= 10 * S
    assert clock.now_ns() == before
