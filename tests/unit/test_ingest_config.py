from __future__ import annotations

from pathlib import Path

import pytest

from ingest_service.config import IngestConfig
from shopfloor.configfile import parse
from shopfloor.errors import ConfigError


def read(text: str) -> IngestConfig:
    return parse(text, IngestConfig, Path("/etc/shopfloor/ingest.yaml"))


def test_an_empty_file_is_a_safe_service() -> None:
    config = read("")
    assert (config.host, config.port, config.read_access) == ("127.0.0.1", 8080, "token")


def test_paths_are_relative_to_the_file() -> None:
    assert read("data: ./d").data == Path("/etc/shopfloor/d")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("listen: 0.0.0.0:80", "tls, or behind_proxy"),
        ("listen: 0.0.0.0:80\nbehind_proxy: true\nread_access: open", "refused on anything but a loopback"),
        ("listen: '8080'", "HOST:PORT"),
        ("listen: localhost:99999", "HOST:PORT"),
        ("sites: [{asset: acme}]", "two levels"),
        ("sites: [{asset: acme/hk01, time_zone: Mars/Olympus}]", "IANA name"),
        ("sites: [{asset: acme/hk01, time_zone: ../etc/passwd}]", "IANA name"),
        ("sties: []", "did you mean sites"),
        ("limits: {batch_bytes: 1}", "limits.batch_bytes"),
    ],
)
def test_mistakes_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read(text)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:1", "'[::1]:8080'"])
def test_loopback_may_be_open(listen: str) -> None:
    assert read(f"listen: {listen}\nread_access: open").read_access == "open"
