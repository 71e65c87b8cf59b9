"""How long the buffer lasts, by a clock of our own."""

from edge_agent.buffer.filling import FillRate, hours


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def _filling(clock: Clock, fill: FillRate, seconds: int, per_s: int, start: int = 0) -> int:
    pending = start
    for _ in range(seconds):
        clock.now_s += 1.0
        pending += per_s
        fill.note(pending)
    return pending


def test_hours_are_bytes_left_by_the_rate_of_growth() -> None:
    clock = Clock()
    fill = FillRate(600.0, now_s=clock)
    fill.note(0)
    assert fill.hours_left(10**9) is None, "one point says nothing"
    _filling(clock, fill, 100, 1_000)
    assert fill.bytes_per_s() == 1_000.0
    assert fill.hours_left(36_000_000) == 10.0
    assert fill.hours_left(0) == 0.0


def test_what_was_before_the_window_does_not_count() -> None:
    clock = Clock()
    fill = FillRate(600.0, now_s=clock)
    fill.note(0)
    pending = _filling(clock, fill, 5_000, 10)
    pending = _filling(clock, fill, 610, 1_000, pending)
    rate = fill.bytes_per_s()
    assert rate is not None
    assert 980 <= rate <= 1_000
    _filling(clock, fill, 610, 0, pending)
    assert fill.hours_left(10**9) is None, "nothing grows any more"


def test_a_backlog_that_drains_has_no_end_in_sight() -> None:
    clock = Clock()
    fill = FillRate(600.0, now_s=clock)
    fill.note(10**6)
    _filling(clock, fill, 60, -1_000, 10**6)
    assert fill.bytes_per_s() == -1_000.0
    assert fill.hours_left(10**9) is None


def test_a_policy_that_drops_already_leaves_no_hours() -> None:
    clock = Clock()
    fill = FillRate(600.0, now_s=clock)
    fill.note(900, 0)
    clock.now_s += 10
    fill.note(880, 50)
    assert fill.hours_left(120) == 0.0
    clock.now_s += 700
    fill.note(880, 50)
    clock.now_s += 700
    fill.note(880, 50)
    assert fill.hours_left(120) is None


def test_points_are_bounded_however_often_it_is_told() -> None:
    clock = Clock()
    fill = FillRate(600.0, now_s=clock)
    for number in range(50_000):
        clock.now_s += 0.05
        fill.note(number * 50)
    assert len(fill._points) <= 123
    rate = fill.bytes_per_s()
    assert rate is not None
    assert 999 < rate < 1_001


def test_hours_of_nothing() -> None:
    assert hours(10**9, 0.0) is None
    assert hours(-5, 1.0) == 0.0
    assert hours(8_766 * 3_600, 1.0) == 8_766.0
    assert hours(2 * 10**9, 1.0) is None, "a few bytes more on their way are no filling"
