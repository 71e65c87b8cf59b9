"""The files that deploy an edge agent: the unit, the image's recipe, the sample, and what goes into the archive."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

from edge_agent.config import Config
from shopfloor import configfile

ROOT = Path(__file__).parents[2]
EDGE = ROOT / "deploy" / "edge"
INSTALLER = ROOT / "deploy" / "install.sh"
LOCK = (ROOT / "requirements" / "edge.lock").read_text()


@pytest.fixture(scope="module")
def bundle() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deploy_bundle", ROOT / "deploy" / "bundle.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(EDGE / "shopfloor-edge.service")
    return parser


def test_the_unit_runs_what_is_installed_and_is_watched() -> None:
    service = unit()["Service"]
    prefix, *_ = service["ExecStart"].partition("/current/bin/shopfloor edge run ")
    installer = INSTALLER.read_text().replace("$NAME", "shopfloor-edge")
    assert f"PREFIX={prefix}\n" in installer
    assert (
        f"CONFIGURATION={service['ExecStart'].rpartition(' ')[2].removesuffix('/agent.yaml')}\n" in installer
    )
    assert f"DATA=/var/lib/{service['StateDirectory']}\n" in installer
    assert f"OWNER={service['User']}\n" in installer
    assert (service["Type"], service["Restart"], service["RestartPreventExitStatus"]) == (
        "notify",
        "always",
        "2",
    )
    assert int(service["WatchdogSec"]) >= 30
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"
    for shut in ("ProtectSystem", "NoNewPrivileges", "PrivateTmp", "PrivateDevices", "MemoryMax"):
        assert service[shut] not in {"", "no"}


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = (EDGE / "shopfloor-edge.service").read_text()
    known = re.compile(r"#.*|\[(Unit|Service|Install)\]|[A-Z][A-Za-z]+=.*|")
    assert [line for line in text.splitlines() if not known.fullmatch(line)] == []
    if shutil.which("systemd-analyze") is None:
        return  # then the lines above are all that can be said
    text = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", text)
    file = tmp_path / "shopfloor-edge.service"
    file.write_text(re.sub(r"(?m)^Documentation=.*", "", text))
    looked = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert [line for line in looked.stderr.splitlines() if "shopfloor-edge" in line] == []


def test_the_sample_is_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "agent.token").write_text("t")
    text = (EDGE / "agent.sample.yaml").read_text().replace("@DATA@", str(tmp_path / "data"))
    config = configfile.parse(text, Config, tmp_path / "agent.yaml")
    assert config.data == tmp_path / "data"


def recipe() -> list[tuple[str, str]]:
    lines = (EDGE / "Containerfile").read_text().splitlines()
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
    allowed = {
        line[1:] for line in (EDGE / "Containerfile.dockerignore").read_text().split() if line[0] == "!"
    }
    for word, rest in steps:
        if word == "COPY" and not rest.startswith("--from="):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source in allowed
        if word in {"ENTRYPOINT", "CMD"}:
            json.loads(rest)
    assert [rest for word, rest in steps if word == "FROM"] == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]
    assert dict(steps)["ARG"] == "PYTHON_IMAGE=python:3.11.14-slim-bookworm"
    user, _, _ = dict(steps)["USER"].partition(":")
    assert int(user) > 0
    _, _, probe = dict(steps)["HEALTHCHECK"].partition(" CMD ")
    compile(json.loads(probe)[2], "HEALTHCHECK", "exec")
    assert any("--require-hashes" in rest and "edge.lock" in rest for word, rest in steps if word == "RUN")


def test_the_build_backend_of_the_image_is_in_the_lock_that_it_is_taken_from() -> None:
    backend = (ROOT / "requirements" / "demo.lock").read_text()
    assert re.search(r"(?m)^setuptools==\S+ \\\n    --hash=sha256:", backend)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_target_gets_one_version_of_each_package_with_hashes(
    bundle: ModuleType, machine: str, python: str
) -> None:
    pins = list(bundle.pins_for(LOCK, machine, python))
    names = [pin.split("==")[0] for pin in pins]
    assert len(names) == len(set(names))
    assert {"aiohttp", "asyncua", "cryptography", "numpy", "paho-mqtt", "pydantic"} <= set(names)
    assert not {"fastapi", "duckdb", "pyarrow", "uvicorn", "sqlalchemy"} & set(names)
    assert all(" --hash=sha256:" in pin and ";" not in pin for pin in pins)


def test_markers_count_for_the_target_not_for_this_python(bundle: ModuleType) -> None:
    lock = (
        "# by hand\nnumpy==2.4.6 ; python_full_version < '3.12' \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "    # via\n    #   x\nnumpy==2.5.5 ; python_full_version >= '3.12' \\\n    --hash=sha256:cc\n"
        "colorama==1 ; sys_platform == 'win32' \\\n    --hash=sha256:dd\n"
    )
    assert list(bundle.pins_for(lock, "aarch64", "3.11")) == [
        "numpy==2.4.6 --hash=sha256:aa --hash=sha256:bb"
    ]
    assert list(bundle.pins_for(lock, "aarch64", "3.13")) == ["numpy==2.5.5 --hash=sha256:cc"]


def test_the_same_content_makes_the_same_archive(bundle: ModuleType, tmp_path: Path) -> None:
    made = []
    for number in (1, 2):
        content = tmp_path / f"content-{number}"
        (content / "wheels").mkdir(parents=True)
        (content / "wheels" / "a.whl").write_bytes(b"wheel")
        (content / "install.sh").write_text("#!/bin/sh\n")
        made.append(bundle.pack(content, "shopfloor-edge-1", tmp_path / f"{number}.tar.gz").read_bytes())
    assert made[0] == made[1]
    with tarfile.open(tmp_path / "1.tar.gz") as archive:
        modes = {entry.name: entry.mode for entry in archive}
    assert modes == {
        "shopfloor-edge-1/install.sh": 0o755,
        "shopfloor-edge-1/wheels": 0o755,
        "shopfloor-edge-1/wheels/a.whl": 0o644,
    }


@pytest.mark.parametrize(
    ("told", "words", "said"),
    [
        ("MACHINE=sparc\nPYTHON_VERSION=3.11\n", (), "this archive is for sparc, this machine is"),
        ("MACHINE=@\nPYTHON_VERSION=2.7\n", (), "this archive is for Python 2.7, python3 is 3."),
        ("MACHINE=@\nPYTHON_VERSION=2.7\n", ("--what",), "usage: install.sh"),
        ("MACHINE=@\nPYTHON_VERSION=2.7\n", ("--prefix",), "--prefix needs a folder"),
    ],
)
def test_the_installer_refuses_what_it_is_not_for(
    tmp_path: Path, told: str, words: tuple[str, ...], said: str
) -> None:
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    shutil.copy(INSTALLER, tmp_path)
    (tmp_path / "platform").write_text(f"PART=edge\nVERSION=1\nRELEASE=1-a\n{told.replace('@', machine)}")
    command = [
        "sh",
        str(tmp_path / "install.sh"),
        "--no-systemd",
        "--prefix",
        str(tmp_path / "prefix"),
        *words,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in {1, 2}
    assert said in ended.stderr
    assert not (tmp_path / "prefix").exists()


PYTHON = """\
#!/bin/sh
case "$*" in
    *version_info*) echo 3.11 ;;
    *executable*) echo "$0" ;;
    "-m venv "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    "-m pip "*) printf '#!/bin/sh\\necho shopfloor 1.0\\n' >"${0%python}shopfloor" && chmod +x "${0%python}shopfloor" ;;
    *) exit 1 ;;
esac
"""


def test_one_step_back_is_kept_and_a_release_that_no_longer_runs_is_made_anew(tmp_path: Path) -> None:
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    for file in (INSTALLER, EDGE / "README.md", EDGE / "agent.sample.yaml"):
        shutil.copy(file, tmp_path)
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    prefix = tmp_path / "prefix"

    def install(release: str) -> None:
        told = f"PART=edge\nVERSION=1\nMACHINE={machine}\nPYTHON_VERSION=3.11\nRELEASE={release}\n"
        (tmp_path / "platform").write_text(told)
        words = f"umask 077; exec sh {tmp_path}/install.sh --no-systemd --prefix {prefix} --python {python}"
        done = subprocess.run(["sh", "-c", words], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"shopfloor 1.0 is installed in {prefix}\n")
        assert (prefix / "current").readlink() == Path("releases") / release

    def back() -> str:
        words = ["sh", f"{tmp_path}/install.sh", "--no-systemd", "--prefix", str(prefix), "--back"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    def modes(*names: str) -> list[int]:
        return [(prefix / name).stat().st_mode & 0o777 for name in names]

    install("0-py311-a")
    assert "there is no release to go back to" in back()
    install("1-py311-b")
    install("1-py311-b")
    assert back().startswith("back to releases/0-py311-a")
    assert (prefix / "current").readlink() == Path("releases/0-py311-a")
    assert back().startswith("back to releases/1-py311-b")
    assert {file.name for file in (prefix / "releases").iterdir()} == {"0-py311-a", "1-py311-b"}
    # The service's user is another one than the one who installs.
    assert modes(".", "releases", "current/bin", "current/bin/shopfloor") == [0o755] * 4
    assert modes("etc", "etc/agent.yaml", "data") == [0o750, 0o640, 0o750]
    shopfloor = prefix / "current" / "bin" / "shopfloor"
    shopfloor.write_text("#!/nowhere/python3.12\n")
    install("1-py311-b")
    assert shopfloor.read_text().startswith("#!/bin/sh\n")
    install("2-py311-c")
    assert {file.name for file in (prefix / "releases").iterdir()} == {"1-py311-b", "2-py311-c"}
