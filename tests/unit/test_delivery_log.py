"""What delivery writes into the log: a failure once, its end once."""

import logging
from typing import Any, cast

import pytest

from edge_agent.delivery import Delivery
from shopfloor.errors import UplinkUnavailable


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def delivery(clock: Clock) -> Delivery:
    nothing = cast("Any", None)
    return Delivery(nothing, nothing, nothing, now_s=clock)


def test_an_outage_is_two_lines_however_long(
    delivery: Delivery, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(100):
            delivery._failed("http://dms:8080: no answer in time")
            delivery.heartbeat_failed(UplinkUnavailable("http://dms:8080: no answer in time"))
            clock.now_s += 15
        for _ in range(100):
            delivery.connected()
            delivery.heartbeat_sent()
            clock.now_s += 2
    assert caplog.messages == [
        "uplink: http://dms:8080: no answer in time",
        "uplink: connected again, after 25 min and 100 failures",
    ]


def test_a_lane_that_works_while_the_other_fails_is_no_end_of_the_trouble(
    delivery: Delivery, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(50):
            delivery._failed("HTTP 500 from /v1/batches: 'bug'")
            delivery.connected()
            clock.now_s += 10
    assert caplog.messages == ["uplink: HTTP 500 from /v1/batches: 'bug'"]


def test_heartbeats_that_fail_alone_have_lines_of_their_own(
    delivery: Delivery, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        delivery.connected()
        for _ in range(100):
            delivery.heartbeat_failed(UplinkUnavailable("HTTP 404 from /v1/heartbeats: ''"))
            clock.now_s += 2
        for _ in range(20):
            delivery.heartbeat_sent()
            clock.now_s += 2
    assert caplog.messages == [
        "uplink: connected",
        "heartbeats: HTTP 404 from /v1/heartbeats: ''",
        "heartbeats: taken again, after 3 min 20 s and 100 failures",
    ]
