"""``edge buffer``: what it says of a buffer, beside its agent and without it, and what it exports."""

import argparse
import csv
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent import buffer_command, command
from edge_agent.buffer import Parcel
from edge_agent.buffer.reading import BufferReader
from edge_agent.buffer.sqlite import FILE_NAME, BufferLimits, SqliteBuffer
from edge_agent.buffer_command import report_of, running_agent
from edge_agent.config import Config
from shopfloor import configfile
from shopfloor.block import Sample, block_of
from shopfloor.errors import StoreUnavailable
from tests.contract.buffer_contract import SERIES, samples, texts, times_of

AGENT = """
agent: {id: hk01, asset: acme/hk01}
data: data
uplink: {url: "http://127.0.0.1:9", token: "file:token"}
buffer: {max_bytes: 1MB, disk_reserve: 0}
sources:
  - mqtt:
      {name: m, broker: "mqtt://127.0.0.1:1", client_id: x, topics: [{topic: a/b, asset: acme/hk01/a/l/c, signals: all}]}
"""
_START_NS = 1_795_341_600_000_000_000


@pytest.fixture
def agent_yaml(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("secret")
    (tmp_path / "agent.yaml").write_text(AGENT)
    return tmp_path / "agent.yaml"


@pytest.fixture
def buffer(agent_yaml: Path) -> Iterator[SqliteBuffer]:
    buffer = SqliteBuffer(agent_yaml.parent / "data", BufferLimits(disk_reserve_bytes=0), "hk01")
    yield buffer
    buffer.close()


def _run(*words: str | Path) -> int:
    parser = argparse.ArgumentParser()
    buffer_command.add_arguments(parser)
    arguments = parser.parse_args(list(map(str, words)))
    return buffer_command.run(arguments, _config(arguments.config))


def _config(path: Path) -> Config:
    return configfile.load(path, Config)


def _fill(buffer: SqliteBuffer) -> tuple[str, str]:
    """Leave two streams: 3 of 5 samples of the first are delivered, one is refused; the second holds texts."""
    buffer.append([Parcel(samples([_START_NS + n for n in range(5)]))])
    first = buffer.peek(3)
    assert first is not None
    buffer.commit(first.stream_id, 3)
    refused = buffer.peek(1)
    assert refused is not None
    buffer.quarantine(refused, "not one of ours")
    buffer.begin_stream()
    second = buffer.append([Parcel(texts({_START_NS + 100: "öffnen", _START_NS + 101: 'a "b", c'}))])
    return first.stream_id, second.stream_id


def test_it_names_streams_sizes_records_and_files(agent_yaml: Path, buffer: SqliteBuffer) -> None:
    first, second = _fill(buffer)
    report = report_of(_config(agent_yaml), now_ns=lambda: _START_NS + 10**9)
    streams = {each["stream"]: each for each in report["streams"]}
    assert list(streams) == [first, second]
    assert (streams[first]["delivered_through"], streams[first]["last_seq"]) == (4, 5)
    assert [streams[one]["pending_samples"] for one in (first, second)] == [1, 2]
    assert report["pending_samples"] == 3
    assert report["oldest_pending_time"] == "2026-11-22T10:00:00.000Z"
    assert report["limit_bytes"] == 1_000_000
    assert report["left_bytes"] == 1_000_000 - report["pending_bytes"]
    assert 0 < report["pending_bytes"] <= report["used_bytes"] == buffer.stats().used_bytes
    (record,) = report["records"]
    assert (record["kind"], record["first_seq"], record["last_seq"], record["reason"]) == (
        "quarantined", 4, 4, "not one of ours",
    )  # fmt: skip
    (refused,) = report["quarantine"]
    assert refused["file"].endswith(f"{first}-4-4.sfb")
    json.dumps(report)


def test_looking_neither_stops_the_writer_nor_is_stopped_by_it(
    agent_yaml: Path, buffer: SqliteBuffer
) -> None:
    path = agent_yaml.parent / "data" / FILE_NAME
    with buffer._holding.file.transaction(), BufferReader(path) as reader:
        # In the middle of a transaction: the reader sees what was before.
        buffer._holding.file.save_state("scope", {"key": b"value"})
        assert [stream.last_seq for stream in reader.streams()] == [0]
    with BufferReader(path) as reader:
        rows = reader.pending()
        for number in range(50):
            buffer.append([Parcel(samples([number]))])
            assert next(rows).first_seq == number + 1
        # Nothing that was read is held: the log can be emptied while the reader lives.
        assert buffer._holding.file._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def test_what_is_delivered_while_it_is_exported_is_left_out(agent_yaml: Path, buffer: SqliteBuffer) -> None:
    for number in range(10):
        buffer.append([Parcel(samples([number]))])
    with BufferReader(agent_yaml.parent / "data" / FILE_NAME) as reader:
        rows = reader.pending()
        assert next(rows).first_seq == 1
        assert len(times_of(buffer)) == 10
        buffer.append([Parcel(samples([99]))])
        assert [row.first_seq for row in rows] == [11]


def test_after_the_agent_it_leaves_the_folder_as_it_was(
    agent_yaml: Path, buffer: SqliteBuffer, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = _fill(buffer)
    buffer.close()
    before = sorted(path.name for path in (agent_yaml.parent / "data").iterdir())
    assert _run(agent_yaml) == 0
    text = capsys.readouterr().out
    assert first in text
    assert second in text
    assert "3 samples wait" in text
    assert "not running" in text
    assert "not one of ours" in text
    assert _run(agent_yaml, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["running"] is False
    assert report["hours_left"] is None
    assert {each["lane"] for each in report["streams"]} == {"backlog"}, "the next start begins a new stream"
    assert sorted(path.name for path in (agent_yaml.parent / "data").iterdir()) == before


def test_export_writes_every_pending_sample_once(
    agent_yaml: Path, buffer: SqliteBuffer, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = _fill(buffer)
    buffer.append([Parcel(block_of([Sample(SERIES[1], _START_NS, _START_NS, float("nan"), 2, 0x80050000)]))])
    out = agent_yaml.parent / "all.csv"
    assert _run("export", agent_yaml, "--out", out) == 0
    assert capsys.readouterr().out == f"4 samples written to {out}\n"
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["stream"], row["seq"], row["value"], row["text"]) for row in rows] == [
        (first, "5", repr(float(_START_NS + 4)), ""),
        (second, "1", "", "öffnen"),
        (second, "2", "", 'a "b", c'),
        (second, "3", "", ""),
    ]
    assert rows[0]["source_time"] == "2026-11-22T10:00:00.000000004Z"
    assert rows[0]["received_time"] == "2026-11-22T10:00:00.000000009Z"
    assert (rows[3]["asset"], rows[3]["signal"]) == ("acme/hk01/a/l/c1", "s.a")
    assert (rows[3]["quality"], rows[3]["status"]) == ("2", str(0x80050000))
    lines = agent_yaml.parent / "one.jsonl"
    assert _run("export", agent_yaml, "--out", lines, "--stream", second, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(lines), "samples": 3, "damaged_samples": 0}
    objects = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert [(one["stream"], one["seq"], one["value"], one["text"]) for one in objects] == [
        (second, 1, None, "öffnen"),
        (second, 2, None, 'a "b", c'),
        (second, 3, None, None),
    ]
    assert times_of(buffer) == [_START_NS + 100, _START_NS + 101, _START_NS], "an export takes nothing away"


def test_export_overwrites_nothing_and_leaves_nothing_behind(
    agent_yaml: Path, buffer: SqliteBuffer, capsys: pytest.CaptureFixture[str]
) -> None:
    _fill(buffer)
    out = agent_yaml.parent / "there.csv"
    out.write_text("precious")
    for words, status, said in (
        (("--out", out), 2, "exists already"),
        (("--out", agent_yaml.parent / "x.parquet"), 2, ".csv or .jsonl"),
        ((), 2, "--out"),
        (("--out", agent_yaml.parent / "x.csv", "--stream", "nobody"), 1, "no stream nobody"),
        (("--out", agent_yaml.parent / "none" / "x.csv"), 1, "x.csv"),
    ):
        assert _run("export", agent_yaml, *words) == status
        assert said in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert list(agent_yaml.parent.glob("x*")) == []


def test_a_damaged_row_costs_itself_and_is_told(
    agent_yaml: Path, buffer: SqliteBuffer, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        buffer.append([Parcel(samples([number]))])
    buffer._holding.file._db.execute("UPDATE block SET checksum = checksum + 1 WHERE first_seq = 2")
    out = agent_yaml.parent / "x.csv"
    assert _run("export", agent_yaml, "--out", out) == 1
    assert "1 samples lie in damaged rows" in capsys.readouterr().err
    with out.open(newline="") as file:
        assert [row["seq"] for row in csv.DictReader(file)] == ["1", "3"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no buffer yet"), (b"not a database" * 1000, "not a database")],
    ids=["none", "damaged"],
)
def test_what_can_not_be_read_is_named(
    agent_yaml: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    path = agent_yaml.parent / "data" / FILE_NAME
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)
    assert _run(agent_yaml) == 1
    error = capsys.readouterr().err
    assert str(path) in error
    assert said in error
    assert path.exists() is (content is not None)


def test_a_file_of_a_later_version_is_not_guessed_at(agent_yaml: Path, buffer: SqliteBuffer) -> None:
    buffer._holding.file._db.execute("PRAGMA user_version = 2")
    with pytest.raises(StoreUnavailable, match="schema 2, this version knows 1"):
        report_of(_config(agent_yaml))


def test_hours_left_follow_from_what_came_to_wait_in_the_last_minutes(
    agent_yaml: Path, buffer: SqliteBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = _START_NS + 3_600 * 10**9
    for second in range(3_000, 3_600, 10):
        time = _START_NS + second * 10**9
        buffer.append([Parcel(samples([time]))])
    config = _config(agent_yaml)
    assert report_of(config, now_ns=lambda: now)["hours_left"] is None, "without an agent nothing grows"
    monkeypatch.setattr("edge_agent.buffer_command.running_agent", lambda _: 1)
    report = report_of(config, now_ns=lambda: now)
    assert report["streams"][0]["lane"] == "live"
    expected = report["left_bytes"] / (report["pending_bytes"] / 600) / 3600
    assert report["hours_left"] == pytest.approx(expected, rel=0.03)
    # An hour later nothing more came: what waits is old, and the buffer does not fill.
    assert report_of(config, now_ns=lambda: now + 3_600 * 10**9)["hours_left"] is None
    # What has only just come is on its way.
    times_of(buffer)
    buffer.append([Parcel(samples([now]))])
    assert report_of(config, now_ns=lambda: now + 10**9)["hours_left"] is None


def test_a_running_agent_is_known_by_its_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert running_agent(lock) is None
    lock.write_text("4711")
    assert running_agent(lock) is None, "left by one that was killed"
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl,sys; f=open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(); input()", lock],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    assert running_agent(lock) == holder.pid
    with lock.open() as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder.communicate(b"\n")
    assert running_agent(lock) is None


def test_a_lock_on_an_overlay_is_known_by_its_process(tmp_path: Path) -> None:
    lock, locks = tmp_path / "lock", tmp_path / "locks"
    lock.write_text("4711\n")
    inode = lock.stat().st_ino
    own = f"{os.major(lock.stat().st_dev):02x}:{os.minor(lock.stat().st_dev):02x}"
    for line, found in (
        (f"1: FLOCK  ADVISORY  WRITE 4711 ff:ff:{inode} 0 EOF", 4711),
        (f"1: FLOCK  ADVISORY  WRITE 99 ff:ff:{inode} 0 EOF", None),
        (f"1: FLOCK  ADVISORY  WRITE 99 {own}:{inode} 0 EOF", 99),
        (f"1: POSIX  ADVISORY  WRITE 4711 {own}:{inode} 0 EOF", None),
        (f"1: FLOCK  ADVISORY  WRITE 4711 {own}:{inode + 1} 0 EOF", None),
        ("nonsense", None),
    ):
        locks.write_text(line + "\n")
        assert running_agent(lock, locks) == found, line


def test_the_edge_command_knows_it() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    for words, action in (
        (["buffer", "a.yaml"], "show"),
        (["buffer", "export", "a.yaml", "--out", "x.csv"], "export"),
    ):
        arguments = parser.parse_args(words)
        assert (arguments.edge_command, arguments.action, arguments.config) == (
            "buffer",
            action,
            Path("a.yaml"),
        )
