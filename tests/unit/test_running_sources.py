"""Which sources begin anew when the configuration changes, and that none of them loses or repeats anything by it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edge_agent import running
from edge_agent.buffer.sqlite import SqliteBuffer
from edge_agent.config import Config, SourceConfig
from edge_agent.running import RunningSources
from shopfloor.errors import StoreUnavailable
from shopfloor.messages import SourceState
from tests.unit.running_sources import Site, config, mqtt, site

A, B, C = "mqtt mqtt://a:1883 gateway", "mqtt mqtt://b:1883 gateway", "mqtt mqtt://c:1883 gateway"
A_SERIES = "acme/hk01/a/l/a count.total"


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret-token")


async def numbers(at: Site, series: str = A_SERIES) -> list[float]:
    """Everything of a series so far; holds that the buffer had nothing to throw away."""
    assert await at.drain() == 0, "nothing is handed over twice"
    return at.stored[series]


async def test_only_the_source_that_changed_begins_anew(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        assert await at.change_to(config(mqtt("a"), mqtt("b"))) == ((A, B), (), ())
        await at.said()
        assert await at.change_to(config(mqtt("a", qos=0), mqtt("b"), mqtt("c"))) == ((C,), (A,), ())
        await at.said()
        assert {name: len(lives) for name, lives in at.lives.items()} == {"a": 2, "b": 1, "c": 1}
        assert await at.change_to(config(mqtt("c"), mqtt("a", qos=0))) == ((), (), (B,))
        assert at.lives["b"][0].ended.is_set()
        assert [sink.source.name for sink in at.sources.sinks] == ["c", "a"], "as the configuration has them"
        assert await at.change_to(config(mqtt("c"), mqtt("a", qos=0))) == ((), (), ())


async def test_a_source_that_begins_anew_loses_and_repeats_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        for life in range(20):
            await at.change_to(config(mqtt("a", qos=life % 2)))
            await at.said(3)
        await at.sources.stop()
        found = await numbers(at)
        assert found == [float(number) for number in range(len(found))]
        assert len(at.lives["a"]) == 20
        assert at.lives["a"][-1].began_at >= 3 * 19


async def test_what_a_removed_source_had_handed_over_stays_and_its_state_waits_for_it(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        await at.change_to(config(mqtt("a"), mqtt("b")))
        await at.said()
        assert at.events["a", "message"]
        await at.change_to(config(mqtt("b")))
        kept = len(await numbers(at))
        assert kept >= 5
        assert not [key for key in at.events if key[0] == "a"]
        await at.change_to(config(mqtt("a"), mqtt("b")))
        await at.said()
        assert at.lives["a"][1].began_at == kept, "it goes on where it was"


async def test_a_renamed_source_goes_on_where_it_was(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        await at.change_to(config(mqtt("a")))
        await at.said()
        assert await at.change_to(config(mqtt("meters", broker="a", cell="a"))) == ((), (A,), ())
        await at.said()
        await at.sources.stop()
        found = await numbers(at)
        assert found == [float(number) for number in range(len(found))]
        assert {name for name, _ in at.events} == {"meters"}


@pytest.mark.parametrize(
    ("before", "after", "restarts"),
    [
        ([], [{"asset": "acme/hk01/a/l/a", "signal": "count.*", "scale": 2.0}], True),
        ([], [{"asset": "acme/hk01/a/l/b", "scale": 2.0}], False),
        ([{"asset": "acme/hk01/a/l/a", "scale": 2.0}], [], True),
        ([{"asset": "acme/hk01/a/l/b", "scale": 2.0}], [], False),
        ([{"asset": "acme/hk01/a/l/?", "scale": 2.0}], [{"asset": "acme/hk01/a/l/?", "scale": 3.0}], True),
        (
            [{"signal": "count.*", "scale": 2.0}],
            [{"asset": "acme/hk01/a/l/b", "signal": "x.y", "scale": 3.0}, {"signal": "count.*", "scale": 2.0}],
            False,
        ),
        (
            [{"signal": "count.*", "scale": 2.0}],
            [{"asset": "acme/hk01/a/l/a", "signal": "count.total", "scale": 2.0}, {"signal": "count.*", "scale": 2.0}],
            True,
        ),
    ],
)  # fmt: skip
async def test_rules_restart_just_the_sources_whose_series_they_mean(
    tmp_path: Path, before: list[dict[str, Any]], after: list[dict[str, Any]], restarts: bool
) -> None:
    async with site(tmp_path) as at:
        await at.change_to(config(mqtt("a"), processing=before))
        await at.said()
        assert await at.change_to(config(mqtt("a"), processing=after)) == ((), (A,) if restarts else (), ())
        await at.said()
        assert len(at.lives["a"]) == 1 + restarts


async def test_a_source_that_goes_on_uses_the_new_rules_for_series_that_come_later(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        await at.change_to(config(mqtt("a")))
        await at.said()
        await at.change_to(config(mqtt("a"), processing=[{"signal": "other.*", "scale": 10.0}]))
        (life,) = at.lives["a"]
        life.series = life.series._replace(signal="other.total")
        seen = life.said
        await at.until(lambda: life.said > seen + 5)
        await at.sources.stop()
        await at.drain()
        later = at.stored["acme/hk01/a/l/a other.total"]
        assert later == [later[0] + 10.0 * number for number in range(len(later))]
        assert later[0] % 10.0 == 0.0


async def test_two_changes_at_once_end_in_the_last_one(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        await at.change_to(config(mqtt("a")))
        await at.said()
        at.lives["a"][0].lets_go.clear()
        first = asyncio.create_task(at.change_to(config(mqtt("a", qos=0))))
        await at.until(lambda: len(at.lives["a"]) == 2)
        second = asyncio.create_task(at.change_to(config(mqtt("a"))))
        await at.until(lambda: len(at.lives["a"]) == 3)
        at.lives["a"][0].lets_go.set()
        await asyncio.gather(first, second)
        await at.said()
        assert at.lives["a"][1].began_at == -1, "it was never run"
        await at.sources.stop()
        found = await numbers(at)
        assert found == [float(number) for number in range(len(found))]


async def test_a_source_that_ignores_cancellation_is_reported_and_never_runs_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.running._FLUSH_S", 0.1)
    async with site(tmp_path, stop_within_s=0.05) as at:
        await at.change_to(config(mqtt("a"), mqtt("b")))
        await at.said()
        old = at.lives["a"][0]
        old.lets_go.clear()
        await at.change_to(config(mqtt("a", qos=0), mqtt("b", qos=0)))
        await at.until(lambda: at.events["a", "does_not_end"] == 1)
        report = at.sources.sinks[0].now_report
        assert report.state is SourceState.UNAVAILABLE
        assert "does not end although it was told to" in report.message
        assert at.lives["a"][1].began_at == -1, "two would read one peer"
        await at.until(lambda: at.lives["b"][1].said > 5)
        await at.until(lambda: at.events["a", "ignored_cancellation"] >= 3)
        assert len([line for line in caplog.messages if "a does not end" in line]) == 1
        old.lets_go.set()
        await at.until(lambda: at.lives["a"][1].said > 5)
        assert at.sources.sinks[0].now_report.state is SourceState.RUNNING


async def test_a_source_that_ignores_cancellation_does_not_hold_up_the_end_of_the_agent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(tmp_path, stop_within_s=0.05) as at:
        await at.change_to(config(mqtt("a"), mqtt("b")))
        await at.said()
        at.lives["a"][0].lets_go.clear()
        await at.sources.stop()
        assert at.sources.stubborn == ("a",)
        assert "source a does not end" in caplog.text
        at.lives["a"][0].lets_go.set()
        await at.lives["a"][0].ended.wait()
        # What was left behind ends with the turn of the loop that follows.
        await asyncio.sleep(0)


async def test_a_defect_of_the_agent_is_raised_and_not_swallowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr("edge_agent.running.supervise", broken)
    async with site(tmp_path) as at:
        await at.change_to(config(mqtt("a")))
        with pytest.raises(ZeroDivisionError):
            await at.sources.failed()


async def test_a_state_that_can_not_be_read_delays_its_source_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_STATE_RETRY_S", 0.01)
    state, broken = SqliteBuffer.state, {B}

    def read(self: SqliteBuffer, scope: str) -> dict[str, bytes]:
        if scope in broken:
            raise StoreUnavailable("the disk does not give it")
        return state(self, scope)

    monkeypatch.setattr(SqliteBuffer, "state", read)
    async with site(tmp_path, stop_within_s=0.2) as at:
        monkeypatch.setattr(running, "_FLUSH_S", 0.0)
        await at.change_to(config(mqtt("a"), mqtt("d")))
        await at.said()
        # One is added and can't begin, one is added and can, one is restarted, one goes.
        await at.change_to(config(mqtt("a", qos=0), mqtt("b"), mqtt("c")))
        await at.until(lambda: all(at.lives[name][-1].said >= 5 for name in "ac"))
        waiting = {sink.source.name: sink.now_report for sink in at.sources.sinks}
        assert list(waiting) == ["a", "b", "c"], "all that is wanted is there, and nothing else"
        assert waiting["b"].state is SourceState.UNAVAILABLE
        assert "the disk does not give it" in waiting["b"].message
        assert at.lives["b"][-1].began_at == -1, "a source never begins without what it had saved"
        assert at.lives["d"][0].ended.is_set()
        assert at.sources.changes(config(mqtt("a", qos=0), mqtt("b"), mqtt("c"))) == ((), (), ())
        # Another file meanwhile has the last word, also of the one that waits.
        await at.change_to(config(mqtt("a", qos=0), mqtt("b", qos=0), mqtt("c")))
        broken.clear()
        await at.said()
        assert [life.began_at for life in at.lives["b"]] == [-1, 0]
        assert {name: len(lives) for name, lives in at.lives.items()} == {"a": 2, "b": 2, "c": 1, "d": 1}
        await at.sources.stop()
        found = await numbers(at)
        assert found == [float(number) for number in range(len(found))]


def test_a_source_that_can_not_be_made_raises_before_anything_changes(tmp_path: Path) -> None:
    def make(entry: SourceConfig, given: Config) -> Any:
        raise ValueError(f"{entry.scope} can't be had")

    async def work() -> None:
        sources = RunningSources(None, None, {}, make=make)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="can't be had"):
            sources.make(config(mqtt("a")), (A,))
        sources._failure.cancel()

    asyncio.run(work())
