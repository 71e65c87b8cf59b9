"""The files that deploy the ingestion service: units, image, samples, and its place in archives."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ingest_service.config import IngestConfig
from shopfloor import configfile
from tests.integration.installed import load_bundle

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
INGEST = DEPLOY / "ingest"
UNITS = {
    "shopfloor-ingest.service": INGEST,
    "shopfloor-ingest-backup.service": INGEST,
    "shopfloor-ingest-backup.timer": INGEST,
    "shopfloor-edge.service": DEPLOY / "edge",
}
EXPOSURE = 20
"""Of 100, as `systemd-analyze security` counts: what it calls OK ends at 50, a unit without options has 96."""


def unit(name: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(UNITS[name] / name)
    return parser


def test_the_unit_runs_what_is_installed_and_is_watched() -> None:
    service = unit("shopfloor-ingest.service")["Service"]
    prefix, _, configuration = service["ExecStart"].partition("/current/bin/shopfloor ingest serve ")
    installer = (DEPLOY / "install.sh").read_text().replace("$NAME", "shopfloor-ingest")
    assert f"PREFIX={prefix}\n" in installer
    assert f"CONFIGURATION={Path(configuration).parent}\n" in installer
    assert f"DATA=/var/lib/{service['StateDirectory']}\n" in installer
    assert f"OWNER={service['User']}\n" in installer
    assert (service["Type"], service["Restart"], service["RestartPreventExitStatus"]) == (
        "notify",
        "always",
        "2",
    )
    assert int(service["WatchdogSec"]) >= 30
    assert unit("shopfloor-ingest.service")["Unit"]["StartLimitIntervalSec"] == "0"
    backup = unit("shopfloor-ingest-backup.service")["Service"]
    assert backup["ExecStart"].startswith(f"{prefix}/current/backup.sh {configuration} ")
    assert backup["User"] == service["User"]
    sample = configfile.parse(
        (INGEST / "ingest.sample.yaml")
        .read_text()
        .replace("@DATA@", f"/var/lib/{service['StateDirectory']}"),
        IngestConfig,
        Path(configuration),
    )
    assert sample.data == Path("/var/lib") / service["StateDirectory"]
    # A watchdog that starts a service anew which is only short of memory helps nobody.
    assert sample.store.memory_bytes + sample.limits.waiting_bytes < 2**20 * int(  # type: ignore[union-attr]
        service["MemoryHigh"].removesuffix("M")
    )


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_unit(name: str, tmp_path: Path) -> None:
    known = re.compile(r"#.*|\[(Unit|Service|Timer|Install)\]|[A-Z][A-Za-z]+=.*|")
    for each, folder in UNITS.items():
        text = (folder / each).read_text()
        assert [line for line in text.splitlines() if not known.fullmatch(line)] == []
        text = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", text)
        (tmp_path / each).write_text(re.sub(r"(?m)^Documentation=.*", "", text))
    if shutil.which("systemd-analyze") is None:
        return  # then the lines above are all that can be said
    looked = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert [line for line in looked.stderr.splitlines() if "shopfloor-" in line] == []


@pytest.mark.parametrize("name", [name for name in UNITS if name.endswith(".service")])
def test_systemd_finds_little_that_the_unit_could_do_without(name: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    looked = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager"),
            str(UNITS[name] / name),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert looked.returncode == 0, looked.stdout[-300:] + looked.stderr


def recipe() -> list[tuple[str, str]]:
    lines = (INGEST / "Containerfile").read_text().splitlines()
    return [
        (word, rest)
        for line in lines
        if line and not line.startswith("#")
        for word, _, rest in [line.partition(" ")]
    ]


def test_the_image_is_built_from_files_that_exist_and_runs_without_root() -> None:
    steps = recipe()
    known = {"ARG", "FROM", "WORKDIR", "RUN", "COPY", "ENV", "VOLUME", "USER", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD"}  # fmt: skip
    assert {word for word, _ in steps} <= known
    ignore = (INGEST / "Containerfile.dockerignore").read_text().split()
    allowed = {line[1:] for line in ignore if line[0] == "!"}
    for word, rest in steps:
        if word == "COPY" and not rest.startswith("--from="):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == each or source.startswith(f"{each}/") for each in allowed), source
        if word in {"ENTRYPOINT", "CMD"}:
            json.loads(rest)
        if word == "RUN" and "pip install" in rest and "*.whl" not in rest:
            assert "--require-hashes" in rest
            assert "--no-deps" in rest
    # What was built here, or fetched for this machine, is not what goes into an image.
    assert {"dashboards/live/node_modules", "dashboards/live/dist"} <= set(ignore)
    for word, rest in steps:
        if word == "ARG":
            assert re.search(r"=\w+:\d+\.\d+\.\d+-", rest), rest
    user, _, group = dict(steps)["USER"].partition(":")
    assert int(user) > 0
    assert f"-o {user} -g {group}" in (INGEST / "Containerfile").read_text()
    for kind in ("central", "central-embedded", "scaled"):
        assert f'user: "{user}:{group}"' in (DEPLOY / f"{kind}.yaml").read_text()
    _, _, probe = dict(steps)["HEALTHCHECK"].partition(" CMD ")
    compile(json.loads(probe)[2], "HEALTHCHECK", "exec")


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_an_archive_holds_one_version_of_each_package_with_hashes(machine: str, python: str) -> None:
    bundle = load_bundle()
    lock = (ROOT / "requirements" / "ingest.lock").read_text()
    pins = list(bundle.pins_for(lock, machine, python))
    names = [pin.split("==")[0] for pin in pins]
    assert len(names) == len(set(names))
    assert {"duckdb", "fastapi", "psycopg-binary", "pyarrow", "uvicorn", "cryptography"} <= set(names)
    assert not {"asyncua", "paho-mqtt", "aiohttp", "pytest"} & set(names)
    assert all(" --hash=sha256:" in pin and ";" not in pin for pin in pins)
    part = bundle.PARTS["ingest"]
    assert part.page
    assert all((INGEST / name).is_file() for name in part.files)


def test_both_images_stand_on_the_same_python() -> None:
    def images(part: str) -> set[str]:
        return set(re.findall(r"(?m)^ARG PYTHON_IMAGE=(\S+)$", (DEPLOY / part / "Containerfile").read_text()))

    assert len(images("edge") | images("ingest")) == 1


@pytest.mark.parametrize("words", [(), ("a", "b"), ("a", "b", "0"), ("a", "b", "many")])
def test_the_backups_script_refuses_what_makes_no_sense(tmp_path: Path, words: tuple[str, ...]) -> None:
    ended = subprocess.run(
        ["sh", str(INGEST / "backup.sh"), *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2
    assert "KEEP" in ended.stderr
