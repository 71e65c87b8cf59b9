"""What a line of the log looks like, for people, machines and the journal, and what never stands in one."""

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from shopfloor import logs


def record(
    message: str, *arguments: object, level: int = logging.WARNING, **extra: object
) -> logging.LogRecord:
    made = logging.LogRecord("edge_agent.x", level, "x.py", 1, message, arguments, None)
    made.__dict__.update(extra, created=1_763_778_000.0425, msecs=42.5)
    return made


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, which is put back afterwards; and no secrets remembered."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    logs._secrets.clear()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(logs.ENVIRONMENT, raising=False)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)


def fail(message: str) -> None:
    try:
        raise_one(message)
    except ValueError:
        logging.getLogger("x").exception("failed")


def raise_one(message: str) -> None:
    raise ValueError(message)


def test_a_line_for_people_says_when_how_grave_who_and_what() -> None:
    line = logs.TextFormatter().format(record("source %s: gone", "imm"))
    assert line == "2025-11-22T02:20:00.042Z WARNING edge_agent.x: source imm: gone"


def test_what_a_peer_says_stays_on_its_line_and_commands_no_terminal() -> None:
    line = logs.TextFormatter().format(record("%s", "one\n2030-01-01 ERROR forged\x1b[2J\x9b\u2028"))
    assert line.endswith("one\\n2030-01-01 ERROR forged\\x1b[2J\\x9b\\u2028")


def test_a_json_line_carries_what_the_call_gave_beside_the_message() -> None:
    line = logs.JsonFormatter().format(
        record("a\nb %d", 7, source="imm", asset="acme/hk01", count=3, name="edge_agent.x", path=Path("/x"))
    )
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2025-11-22T02:20:00.042Z", "level": "warning", "logger": "edge_agent.x", "message": "a\nb 7",
        "source": "imm", "asset": "acme/hk01", "count": 3, "path": "/x",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_is_told_in_both_formats(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    logs.set_up(form=form)
    fail("bug")
    text = capsys.readouterr().err
    assert "ValueError: bug" in (json.loads(text)["trace"] if form == "json" else text)


def test_the_environment_names_the_format_and_the_command_line_overrules_it(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(logs.ENVIRONMENT, "json")
    logs.set_up()
    logging.getLogger("x").info("one")
    logs.set_up(form="text")
    logging.getLogger("x").info("two")
    first, second = capsys.readouterr().err.splitlines()
    assert json.loads(first)["message"] == "one"
    assert second.endswith("x: two")


def test_an_unknown_format_is_named_and_text_is_written(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(logs.ENVIRONMENT, "xml")
    logs.set_up()
    assert capsys.readouterr().err.endswith(
        "root: SHOPFLOOR_LOG_FORMAT: 'xml' is none of text, json; writing text\n"
    )


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_journal_gets_priorities_and_no_second_clock(
    root: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        logs.set_up(form=form, verbose=True)
        logger = logging.getLogger("x")
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            logger.log(level, "said")
        fail("two\nlines")
        stream.seek(0)
        lines = stream.read().splitlines()
    assert [line[:3] for line in lines[:5]] == ["<7>", "<6>", "<4>", "<3>", "<2>"]
    assert all(line.startswith("<3>") for line in lines[5:])
    if form == "text":
        assert lines[0] == "<7>x: said"
        assert len(lines) > 7
    else:
        assert json.loads(lines[0][3:])["message"] == "said"
        assert len(lines) == 6


def test_another_stream_than_the_journals_is_none(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as stream:
        assert not logs.is_journal(stream, {"JOURNAL_STREAM": "1:2"})
        assert not logs.is_journal(stream, {})
    assert not logs.is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


class _Broker(BaseModel):
    password: SecretStr | None = None


class _Settings(BaseModel):
    token: SecretStr
    brokers: list[_Broker]
    by_name: dict[str, SecretStr]


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_of_a_configuration_stands_in_the_log(
    root: logging.Logger, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    secrets = ['tok"en-1234', "pass-word", "by-name-5678"]
    logs.set_up(form=form)
    logs.hide_secrets(
        _Settings(
            token=SecretStr(secrets[0]),
            brokers=[_Broker(), _Broker(password=SecretStr(secrets[1]))],
            by_name={"x": SecretStr(secrets[2]), "short": SecretStr("on")},
        )
    )
    logger = logging.getLogger("x")
    logger.warning("mqtt://u:%s@host refused, on line 3", secrets[1], extra={"url": f"http://{secrets[0]}"})
    fail(f"bad {secrets[2]}")
    text = capsys.readouterr().err
    assert not [secret for secret in [*secrets, 'tok\\"en-1234'] if secret in text]
    assert "mqtt://u:***@host refused, on line 3" in text
