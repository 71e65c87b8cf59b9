"""Messages without machine time that came before."""

from __future__ import annotations

from edge_agent.sources.mqtt.repeats import RecentPayloads


def test_only_a_dup_with_an_equal_payload_is_a_repeat() -> None:
    recent = RecentPayloads({})
    assert not recent.is_repeat("a", b"1", dup=False, retained=False)
    assert not recent.is_repeat("a", b"1", dup=False, retained=False)
    assert not recent.is_repeat("a", b"2", dup=True, retained=False)
    assert recent.is_repeat("a", b"1", dup=True, retained=False)
    assert recent.is_repeat("a", b"2", dup=True, retained=False)
    assert not recent.is_repeat("b", b"1", dup=True, retained=False)


def test_a_retained_message_counts_once_a_value() -> None:
    recent = RecentPayloads({})
    assert not recent.is_repeat("a", b"on", dup=False, retained=True)
    assert recent.is_repeat("a", b"on", dup=False, retained=True)
    assert not recent.is_repeat("a", b"off", dup=False, retained=False)
    assert recent.is_repeat("a", b"off", dup=False, retained=True)
    assert not recent.is_repeat("a", b"on", dup=False, retained=True)


def test_what_was_saved_is_known_after_a_restart() -> None:
    before = RecentPayloads({})
    before.is_repeat("a", b"1", dup=False, retained=False)
    saved = before.take_changes()
    assert before.take_changes() == {}
    before.is_repeat("a", b"2", dup=False, retained=False)  # never saved: as if it had never come
    after = RecentPayloads(saved)
    assert after.is_repeat("a", b"1", dup=True, retained=False)
    assert not after.is_repeat("a", b"2", dup=True, retained=False)


def test_all_that_the_last_two_commits_held_is_known_however_much() -> None:
    recent = RecentPayloads({}, keep=4)
    saved: dict[str, bytes] = {}
    for commit in range(3):
        for number in range(100):
            recent.is_repeat("a", f"{commit} {number}".encode(), dup=False, retained=False)
        saved |= recent.take_changes()
    after = RecentPayloads(saved)
    known = [
        [
            after.is_repeat("a", f"{commit} {number}".encode(), dup=True, retained=False)
            for number in range(100)
        ]
        for commit in (2, 1)
    ]
    assert all(all(commit) for commit in known)
    assert len(saved) == 1
    assert len(next(iter(saved.values()))) == 8 * 200


def test_memory_of_a_topic_shrinks_to_what_is_kept() -> None:
    recent = RecentPayloads({}, keep=4)
    for number in range(100):
        recent.is_repeat("a", str(number).encode(), dup=False, retained=False)
        (digests,) = recent.take_changes().values()
        assert len(digests) <= 4 * 8


def test_topics_are_bounded_and_the_forgotten_are_deleted_from_the_state() -> None:
    recent = RecentPayloads({}, max_topics=3)
    saved: dict[str, bytes] = {}
    for topic in "abcde":
        recent.is_repeat(topic, b"1", dup=False, retained=False)
        for key, digests in recent.take_changes().items():
            if digests:
                saved[key] = digests
            else:
                del saved[key]
    assert len(saved) == 3
    assert not RecentPayloads(saved).is_repeat("a", b"1", dup=True, retained=False)
    assert RecentPayloads(saved).is_repeat("e", b"1", dup=True, retained=False)


def test_other_state_is_left_alone() -> None:
    recent = RecentPayloads({"contact": b"12345678"})
    assert recent.take_changes() == {}
