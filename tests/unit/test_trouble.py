"""A failure is logged once, and its end once."""

import logging

import pytest

from edge_agent.trouble import Trouble, readable_s

LOG = logging.getLogger("edge_agent.test")


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_a_hundred_equal_failures_are_one_line_and_their_end_is_one(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    trouble = Trouble(LOG, "uplink", now_s=clock)
    with caplog.at_level(logging.INFO):
        trouble.over()
        for _ in range(100):
            trouble.met("HTTP 503 from /v1/batches")
            clock.now_s += 2
        for _ in range(100):
            trouble.over()
        assert said(caplog) == [
            ("WARNING", "uplink: HTTP 503 from /v1/batches"),
            ("INFO", "uplink: works again, after 3 min 20 s and 100 failures"),
        ]
        trouble.met("HTTP 503 from /v1/batches")
        trouble.over("connected")
    assert said(caplog)[2:] == [
        ("WARNING", "uplink: HTTP 503 from /v1/batches"),
        ("INFO", "uplink: connected, after 0 s and 1 failure"),
    ]


def test_another_wording_of_one_trouble_is_said_once_and_numbers_make_none(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    trouble = Trouble(LOG, "uplink", now_s=clock)
    for number in range(50):
        trouble.met(f"refused at port {4840 + number}")
        trouble.met("no answer")
    assert [message for _, message in said(caplog)] == ["uplink: refused at port 4840", "uplink: no answer"]


def test_of_one_kind_one_line_is_said_whatever_else_it_names(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    trouble = Trouble(LOG, "the service", now_s=clock)
    for machine in "abcdefghijklmnop":
        trouble.met(f"quarantined a sample of {machine}", kind="implausible_time")
    trouble.met("quarantined a sample of a", kind="outside_scope")
    assert [message for _, message in said(caplog)] == [
        "the service: quarantined a sample of a",
        "the service: quarantined a sample of a",
    ]


def test_a_trouble_in_ever_new_words_takes_a_bounded_number_of_lines(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    trouble = Trouble(LOG, "uplink", now_s=clock)
    for number in range(1_000):
        trouble.met("x" * number)
    assert len(caplog.records) == 8
    assert trouble.times == 1_000


def test_what_fails_now_and_then_is_over_only_after_a_quiet_time(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    trouble = Trouble(LOG, "rejections", now_s=clock)
    with caplog.at_level(logging.INFO):
        for _ in range(10):
            trouble.met("7 samples")
            clock.now_s += 30
            trouble.over(well_s=60)
        for _ in range(2):
            assert len(caplog.records) == 1, "it has not been well for long"
            clock.now_s += 30
            trouble.over(well_s=60)
        trouble.over(well_s=60)
    assert [message for _, message in said(caplog)] == [
        "rejections: 7 samples",
        "rejections: works again, after 5 min and 10 failures",
    ]


def test_its_fields_go_into_the_structured_log_and_its_traceback_with_the_line(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    trouble = Trouble(LOG, "source imm", {"source": "imm"}, now_s=clock)
    error = ValueError("bug")
    trouble.met("internal error", level=logging.ERROR, cause=error)
    (record,) = caplog.records
    assert record.__dict__["source"] == "imm"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (3_600, "1 h"), (7_325, "2 h 2 min"), (187_200, "2 d 4 h"), (86_405, "1 d")],
)  # fmt: skip
def test_durations_are_told_in_two_units(seconds: float, text: str) -> None:
    assert readable_s(seconds) == text
