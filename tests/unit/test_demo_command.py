"""The demo's command line, and when a run counts as a failure."""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path

import msgspec
import pytest

from simulators.demo import command
from simulators.demo.broker import BrokerUnavailable, mosquitto_command, nats_command, parse_address
from simulators.demo.command import add_arguments, main, parse_duration
from simulators.demo.report import Report

CLEAN = Report(
    sites=3,
    machines=16,
    series=700,
    emitted=100_000,
    stored=100_000,
    missing=0,
    duplicated=0,
    wrong=0,
    reordered=3,
    gaps_recorded=0,
    kills=6,
    latency_p50_ms=300.0,
    latency_p99_ms=700.0,
    agent_rss_mb=80.0,
    ingest_rss_mb=200.0,
    live_emitted=12_000,
    latency_unseen=0,
    agent_cpu_percent={"agent-hk01": 5.0},
    simulator_cpu_percent=20.0,
    ingest_cpu_percent=10.0,
    seconds_to_first_machine=5.0,
    seconds_to_ready=7.0,
    run_s=60.0,
    drain_s=1.0,
    drained=True,
    restarts=0,
    seed=1,
)


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def test_the_defaults_are_an_endless_demo_of_three_plants() -> None:
    found = arguments()
    assert (found.data, found.duration_s, found.kill, found.broker) == (Path("demo-data"), None, (), "nats")
    assert (found.port, found.fresh, found.json, found.open) == (8080, False, False, False)
    assert found.scenario.name == "three_plants.yaml"


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("90", 90), ("1.5min", 90), ("2m", 120), ("1h", 3600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-5s", "1d", "fast", "99999999h"])
def test_no_durations(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no duration"):
        parse_duration(text)


def test_kinds_of_parts_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments("--kill", "agent, broker,agent").kill == ("agent", "broker")
    with pytest.raises(SystemExit):
        arguments("--kill", "agent,page")
    assert "any of agent, ingest, broker" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--for", "10s", "--kill", "agent"), "at least 20 s"),
        (("--json",), "--json goes with --for"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_made(
    words: tuple[str, ...], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments("--data", str(tmp_path / "data"), *words)) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_folder_of_somebody_else_ends_the_demo_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(arguments("--data", str(tmp_path), "--fresh", "--for", "1s", "--json")) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "holds something that no demo put there" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("words", "status"), [((), 0), (("--for", "1s"), 130)])
def test_all_signals_that_mean_an_end_end_it_alike(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    words: tuple[str, ...],
    status: int,
) -> None:
    # Tests that a shell began in the background inherit that SIGINT is ignored.
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        before = signal.getsignal(number)
        monkeypatch.setattr(command, "prepare", lambda *_: signal.raise_signal(number))
        assert main(arguments("--data", str(tmp_path / "data"), *words)) == status
        assert signal.getsignal(number) == before
    finally:
        signal.signal(signal.SIGINT, outside)


def test_a_clean_run_has_no_shortcomings_and_is_one_line() -> None:
    assert CLEAN.shortcomings() == []
    assert "\n" not in CLEAN.line()
    assert json.loads(CLEAN.line())["latency_p99_ms"] == 700.0


@pytest.mark.parametrize("field", ["missing", "duplicated", "wrong"])
def test_one_value_amiss_fails_the_run(field: str) -> None:
    assert msgspec.structs.replace(CLEAN, **{field: 1}).shortcomings() == [f"1 values {field}"]


def test_too_little_proves_nothing() -> None:
    assert msgspec.structs.replace(CLEAN, live_emitted=11_999).shortcomings() == [
        "only 11999 values in 60 s: fewer than 200 a second from 16 machines prove too little"
    ]


def test_a_broker_s_address() -> None:
    assert parse_address("mqtt://plant.example:1884") == ("plant.example", 1884)
    assert parse_address("mqtt://127.0.0.1") == ("127.0.0.1", 1883)


@pytest.mark.parametrize(
    "text", ["rabbit", "http://127.0.0.1", "mqtt://", "mqtt://user:secret@host", "mqtt://host:port"]
)
def test_no_broker_s_address_is_refused(text: str) -> None:
    with pytest.raises(BrokerUnavailable):
        parse_address(text)


def test_the_broker_syncs_every_message_and_sends_again_soon(tmp_path: Path) -> None:
    program, option, file = nats_command(tmp_path, 21883, 24222)
    text = Path(file).read_text()
    assert (Path(program).name, option) == ("nats-server", "-c")
    assert "sync_interval: always" in text
    assert 'ack_wait: "3s"' in text
    assert f'store_dir: "{tmp_path / "store"}"' in text
    assert text.count('host: "127.0.0.1"') == 2


def test_mosquitto_keeps_what_it_has_on_disk(tmp_path: Path) -> None:
    program, option, file = mosquitto_command(tmp_path, 21883)
    text = Path(file).read_text()
    assert (Path(program).name, option) == ("mosquitto", "-c")
    assert "listener 21883 127.0.0.1\n" in text
    assert "autosave_on_changes true\nautosave_interval 1\n" in text
