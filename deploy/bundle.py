"""Makes the archive that installs a part without internet: ``make edge-bundle``, ``make ingest-bundle``.

The wheels are those of the part's lock file for one processor and one Python, checked against its hashes; our own wheel
holds nothing but the part. The same sources make the same bytes.
"""
# ruff: noqa: INP001, T201  a script

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = "dashboards/live/dist"
MACHINES: Final = ("x86_64", "aarch64")
PYTHONS: Final = ("3.11", "3.12", "3.13")
_GLIBC: Final = ("2_17", "2_27", "2_28")
"""Of the manylinux tags that are taken: 2.28 is that of Debian 10, Ubuntu 18.10, RHEL 8."""


class Part(NamedTuple):
    """What one archive holds."""

    sources: tuple[str, ...]
    """Of our own wheel, from the repository's root."""
    files: tuple[str, ...]
    """Of the part's folder below deploy/."""

    @property
    def page(self) -> bool:
        """Whether the page belongs to it, which has to be built then."""
        return PAGE in self.sources


PARTS: Final = {
    "edge": Part(("shopfloor", "edge_agent"), ("README.md", "agent.sample.yaml", "shopfloor-edge.service")),
    "ingest": Part(
        ("shopfloor", "ingest_service", "dashboards/__init__.py", PAGE),
        (
            *("README.md", "ingest.sample.yaml", "shopfloor-ingest.service", "backup.sh"),
            *("shopfloor-ingest-backup.service", "shopfloor-ingest-backup.timer"),
        ),
    ),
}
_ASIDE: Final = shutil.ignore_patterns("__pycache__", "*.pyc")


def main() -> int:
    """Make the archive; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--platform", choices=MACHINES, default=os.uname().machine)
    parser.add_argument("--python", choices=PYTHONS, default=f"3.{sys.version_info.minor}")
    parser.add_argument("--out", type=Path, help="folder of the archive; default: build/PART")
    chosen = parser.parse_args()
    out = chosen.out or ROOT / "build" / chosen.part
    if PARTS[chosen.part].page and not (ROOT / PAGE / "index.html").is_file():
        parser.error("the page is not built yet: make page")
    with tempfile.TemporaryDirectory() as scratch:
        archive = bundle(chosen.part, chosen.platform, chosen.python, out, Path(scratch))
    print(archive)
    return 0


def bundle(part: str, machine: str, python: str, out: Path, scratch: Path) -> Path:
    """Make the archive of a part for a processor and a Python version in ``out``, and return it.

    Raises:
        subprocess.CalledProcessError: a wheel is not to be had; pip has said which.
    """
    content = scratch / "content"
    (content / "wheels").mkdir(parents=True)
    lock = ROOT / "requirements" / f"{part}.lock"
    pins = list(pins_for(lock.read_text(encoding="utf-8"), machine, python))
    locked = scratch / "locked.txt"
    locked.write_text("\n".join(pins) + "\n")
    download(locked, machine, python, content / "wheels")
    own = build_own_wheel(part, scratch, content / "wheels")
    name = complete(content, part, own, pins, machine=machine, python=python)
    out.mkdir(parents=True, exist_ok=True)
    return pack(content, name, out / f"{name}.tar.gz")


def complete(content: Path, part: str, own: Path, pins: list[str], *, machine: str, python: str) -> str:
    """Put beside the wheels what installs them; return the archive's name without its ending."""
    version = own.name.split("-")[1]
    digest = hashlib.sha256(own.read_bytes()).hexdigest()
    (content / "requirements.txt").write_text(
        "\n".join([*pins, f"shopfloor=={version} --hash=sha256:{digest}"]) + "\n"
    )
    (content / "pip").mkdir()
    shutil.copy(pip_wheel(), content / "pip")
    shutil.copy(ROOT / "deploy" / "install.sh", content)
    for name in PARTS[part].files:
        shutil.copy(ROOT / "deploy" / part / name, content)
    compact = f"py{python.replace('.', '')}"
    told = hashlib.sha256((content / "requirements.txt").read_bytes()).hexdigest()[:8]
    (content / "platform").write_text(
        f"PART={part}\nVERSION={version}\nMACHINE={machine}\nPYTHON_VERSION={python}\n"
        f"RELEASE={version}-{compact}-{told}\n"
    )
    return f"shopfloor-{part}-{version}-linux-{machine}-{compact}"


def pins_for(lock: str, machine: str, python: str) -> Iterator[str]:
    """Yield the requirements of a lock file that count for a target, a line each, with their hashes.

    pip evaluates markers for the Python that it runs on, not for the one that it downloads for.
    """
    target = {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
        "extra": "",
    }
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^\s*#.*$", "", lock))
    for line in filter(None, map(str.strip, joined.splitlines())):
        wanted, *hashes = re.split(r"\s+--hash=", line)
        requirement = Requirement(wanted)
        if requirement.marker is None or requirement.marker.evaluate(target):
            yield " --hash=".join([f"{requirement.name}{requirement.specifier}", *hashes])


def download(locked: Path, machine: str, python: str, folder: Path) -> None:
    """Download the wheels of a lock file for a target; raises CalledProcessError."""
    tags = [f"manylinux2014_{machine}", *(f"manylinux_{glibc}_{machine}" for glibc in _GLIBC)]
    compact = python.replace(".", "")
    _run(
        *("-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"),
        *(word for tag in tags for word in ("--platform", tag)),
        *("--implementation", "cp", "--python-version", python),
        *("--abi", f"cp{compact}", "--abi", "abi3", "--abi", "none"),
        *("--dest", str(folder), "--requirement", str(locked)),
    )


def build_own_wheel(part: str, scratch: Path, folder: Path) -> Path:
    """Build a wheel of a part and the vocabulary alone, from a copy: nothing is left in the tree."""
    source = scratch / "source"
    source.mkdir()
    for name in (*PARTS[part].sources, "pyproject.toml", "README.md", "LICENSE"):
        to = source / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to, ignore=_ASIDE)
        else:
            shutil.copy(ROOT / name, to)
    # Nothing but what is in the sources may make a difference.
    os.environ["SOURCE_DATE_EPOCH"] = "315532800"
    _run(
        *("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"),
        *("--wheel-dir", str(folder), str(source)),
    )
    return next(folder.glob("shopfloor-*.whl"))


def pip_wheel() -> Path:
    """Return the wheel of pip that Python itself carries."""
    packaged = sysconfig.get_config_var("WHEEL_PKG_DIR")  # Debian keeps it there
    folder = Path(packaged) if packaged else Path(str(resources.files("ensurepip") / "_bundled"))
    found = sorted(folder.glob("pip-*.whl"))
    if not found:
        raise SystemExit(
            f"there is no wheel of pip in {folder}; on Debian and Ubuntu: apt install python3-venv"
        )
    return found[-1]


def pack(content: Path, name: str, archive: Path) -> Path:
    """Write an archive whose bytes depend on nothing but what is in it."""
    part = archive.with_name(f"{archive.name}.part")
    with (
        part.open("wb") as file,
        gzip.GzipFile("", "wb", 1, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in sorted(content.rglob("*")):
            entry = tar.gettarinfo(str(path), f"{name}/{path.relative_to(content)}")
            entry.uid = entry.gid = entry.mtime = 0
            entry.uname = entry.gname = "root"
            entry.mode = 0o755 if path.is_dir() or path.suffix == ".sh" else 0o644
            if path.is_dir():
                tar.addfile(entry)
            else:
                with path.open("rb") as data:
                    tar.addfile(entry, data)
    part.replace(archive)
    return archive


def _run(*words: str) -> None:
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([sys.executable, *words], check=True, env=environment)  # noqa: S603  our own words


if __name__ == "__main__":
    sys.exit(main())
