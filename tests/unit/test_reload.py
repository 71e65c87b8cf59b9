"""A changed configuration file: when it is read, and what of it is refused."""

import asyncio
import os
from pathlib import Path

import pytest

from edge_agent.config import Config
from edge_agent.reload import FileWatch, fixed_problems, hash_of, read, wait_for_change
from shopfloor import configfile
from shopfloor.errors import ConfigError

TEXT = """\
agent: {id: a, asset: acme/hk01}
data: data
uplink: {url: 'http://127.0.0.1:1', token: 'file:token'}
buffer: {repeat_window_samples: 5000}
sources:
- mqtt:
    name: meters
    broker: mqtt://127.0.0.1:1883
    client_id: x
    topics: [{topic: m/a, asset: acme/hk01/a/l/c, signals: all}]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("secret-token")
    path = tmp_path / "agent.yaml"
    path.write_text(TEXT)
    return path


def test_a_file_is_read_together_with_the_hash_of_its_very_text(path: Path) -> None:
    loaded = read(path)
    assert loaded is not None
    assert loaded.hash == hash_of(TEXT.encode())
    assert loaded.config.agent.id == "a"
    assert read(path, loaded.hash) is None
    path.write_text(TEXT + "# a remark\n")
    other = read(path, loaded.hash)
    assert other is not None
    assert other.hash != loaded.hash
    assert other.config == loaded.config


def test_a_new_secret_in_another_file_makes_another_configuration(path: Path) -> None:
    before = read(path)
    path.with_name("token").write_text("another-token")
    after = read(path)
    assert before is not None
    assert after is not None
    assert before.hash == after.hash
    assert before.config != after.config


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TEXT.replace("name: meters", "nme: meters"), "agent.yaml:7:5: sources.0.mqtt.nme: unknown key"),
        ("agent: [", "not YAML"),
        ("", "agent.yaml:1:1: agent: required"),
        (TEXT.replace("file:token", "file:gone"), "can't read the secret's file"),
    ],
)
def test_every_mistake_is_named_where_it_stands(path: Path, text: str, problem: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert [each for each in caught.value.problems if problem in each]
    assert "secret-token" not in str(caught.value)


def test_a_file_that_is_gone_is_a_mistake_too(path: Path) -> None:
    path.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        read(path)


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("id: a,", "id: b,", "agent.yaml:1:13: agent.id: can't change while the agent runs, a restart is needed (running: a)"),
        ("data: data", "data: elsewhere", "agent.yaml:2:7: data: can't change"),
        ("5000", "6000", "agent.yaml:4:33: buffer.repeat_window_samples: can't change"),
    ],
)  # fmt: skip
def test_what_needs_a_restart_is_named_where_it_stands(
    path: Path, before: str, after: str, problem: str
) -> None:
    running = configfile.load(path, Config)
    path.write_text(TEXT.replace(before, after))
    (found,) = fixed_problems(running, configfile.load(path, Config), path)
    assert problem in found


def test_what_may_change_needs_no_restart(path: Path) -> None:
    running = configfile.load(path, Config)
    path.write_text(TEXT.replace("data: data\n", "").replace("127.0.0.1:1'", "127.0.0.1:2'"))
    assert fixed_problems(running, configfile.load(path, Config), path) == []


def test_a_file_counts_as_changed_once_it_rests(path: Path) -> None:
    watch = FileWatch(path)
    assert [watch.has_changed() for _ in range(3)] == [False] * 3
    for number in range(3):
        path.write_text(TEXT + "#" * (number + 1))
        assert not watch.has_changed(), "it may be written still"
    assert [watch.has_changed() for _ in range(3)] == [True, False, False]


def test_a_file_that_is_exchanged_for_one_of_the_same_size_and_time_has_changed(path: Path) -> None:
    watch = FileWatch(path)
    status = path.stat()
    other = path.with_name("other.yaml")
    other.write_text(TEXT.replace("id: a", "id: b"))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]


def test_a_link_that_leads_elsewhere_has_changed_and_a_file_that_is_gone_too(path: Path) -> None:
    link, other = path.with_name("link.yaml"), path.with_name("other.yaml")
    other.write_text(TEXT)
    link.symlink_to(path)
    watch = FileWatch(link)
    link.unlink()
    link.symlink_to(other)
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]
    link.unlink()
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]


async def test_whoever_asks_is_served_at_once_and_only_once(path: Path) -> None:
    watch, asked = FileWatch(path), asyncio.Event()
    path.write_text(TEXT + "#")
    asked.set()
    async with asyncio.timeout(30):
        assert await wait_for_change(watch, asked, every_s=60.0)
        assert not asked.is_set()
        path.write_text(TEXT + "##")
        assert not await wait_for_change(watch, asked, every_s=0.001)
    assert [watch.has_changed() for _ in range(3)] == [False] * 3
