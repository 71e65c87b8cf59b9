"""Configuration files: every mistake at once, each where it stands. The cases lie in tests/cases/config."""

from pathlib import Path

import pytest

from edge_agent.config import Config
from shopfloor import configfile
from shopfloor.errors import ConfigError

CASES = Path(__file__).parents[1] / "cases" / "config"


@pytest.mark.parametrize("case", sorted(CASES.glob("*.bad.yaml")), ids=lambda path: path.name)
def test_a_bad_file_is_refused_line_by_line(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOPFLOOR_NOT_SET", raising=False)
    expected = case.with_suffix("").with_suffix(".expected").read_text().strip().splitlines()
    with pytest.raises(ConfigError) as caught:
        configfile.parse(case.read_text(), Config, Path("agent.yaml"))
    assert caught.value.problems == expected


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=str(path)):
            configfile.load(path, Config)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_bytes(b"agent: \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        configfile.load(path, Config)


def test_a_secret_never_shows_in_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as caught:
        configfile.parse("uplink: {url: 'http://127.0.0.1:1', token: hunter2}", Config, Path("agent.yaml"))
    assert "hunter2" not in str(caught.value)


def test_a_secret_comes_from_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sft_abc\n")

    class Model(configfile.ConfigModel):
        token: configfile.Secret

    (tmp_path / "m.yaml").write_text("token: file:token")
    model = configfile.load(tmp_path / "m.yaml", Model)
    assert model.token.get_secret_value() == "sft_abc"
    assert "sft_abc" not in repr(model)
