"""STATE messages and requests for births: what is said when, by a clock of the test."""

from __future__ import annotations

import json

from edge_agent.sources.sparkplug.presence import Presence
from edge_agent.sources.sparkplug.rebirth import RebirthRequests


def test_will_and_birth_carry_the_time_of_the_session() -> None:
    presence = Presence(1_700)
    assert json.loads(presence.death) == {"online": False, "timestamp": 1_700}
    assert json.loads(presence.birth(0.0)) == {"online": True, "timestamp": 1_700}


def test_a_goodbye_carries_the_time_of_leaving_and_is_never_older_than_the_birth() -> None:
    presence = Presence(1_700)
    assert json.loads(presence.goodbye(9_000)) == {"online": False, "timestamp": 9_000}
    # The clock was set back meanwhile: edge nodes would take an older death for that of an earlier session.
    assert json.loads(presence.goodbye(1_000)) == {"online": False, "timestamp": 1_700}


def test_the_will_of_the_last_session_is_contradicted_but_not_endlessly() -> None:
    presence = Presence(1_700)
    old = Presence(1_000).death
    # What is retained from before is no news until we said that we are online.
    assert presence.hear(old) is None
    assert not presence.is_due(100.0)
    assert presence.next_s() is None
    presence.birth(100.0)
    assert presence.next_s() is None
    presence.hear(old)
    assert not presence.is_due(100.5)
    assert presence.next_s() == 101.0
    assert presence.is_due(101.0)
    presence.birth(101.0)
    assert not presence.is_due(200.0)


def test_our_own_birth_needs_no_answer() -> None:
    presence = Presence(1_700)
    assert presence.hear(presence.birth(100.0)) is None
    assert not presence.is_due(200.0)


def test_another_host_of_the_same_name_is_noticed() -> None:
    presence = Presence(1_700)
    presence.birth(100.0)
    assert presence.hear(Presence(1_800).birth(100.0)) == "state_of_another_host"
    assert presence.hear(b"ONLINE") == "state_not_understood"
    # Retained from our own last session, which died with its broker.
    assert presence.hear(Presence(1_600).birth(100.0)) is None


def test_a_request_goes_out_at_once_and_then_rarely() -> None:
    requests = RebirthRequests(10.0)
    assert not requests.take(0.0)
    requests.want(0.0)
    assert requests.take(0.0)
    requests.want(1.0)
    assert requests.next_s() == 10.0
    assert not requests.take(9.9)
    assert requests.take(10.0)
    assert requests.next_s() == 30.0
    requests.answered()
    assert requests.next_s() is None
    requests.want(11.0)
    assert requests.next_s() == 20.0


def test_requests_that_are_never_answered_go_on_every_ten_minutes() -> None:
    requests = RebirthRequests(10.0)
    requests.want(0.0)
    times = []
    now_s = 0.0
    for _ in range(40):
        assert requests.take(now_s)
        times.append(now_s)
        due_s = requests.next_s()
        assert due_s is not None
        now_s = due_s
    assert times[:4] == [0.0, 10.0, 30.0, 70.0]
    assert times[-1] - times[-2] == 600.0


def test_an_earlier_wish_is_not_put_off_by_a_later_one() -> None:
    requests = RebirthRequests(10.0)
    requests.want(0.0, 5.0)
    requests.want(1.0)
    assert requests.next_s() == 1.0
    requests.want(1.0, 60.0)
    assert requests.next_s() == 1.0
