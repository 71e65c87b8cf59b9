"""The ingestion service as its archive installs it: real environment, real wheel of ours, libraries of the tests."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from shopfloor.messages import BATCH_MEDIA_TYPE, Batch
from shopfloor.wire import encode_batch
from tests.e2e.real_processes import eventually

ROOT = Path(__file__).parents[2]
ALONE = {
    **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
    "PIP_NO_INDEX": "1",
    "PIP_NO_COMPILE": "0",  # which pip takes for yes; most of it is never run here
    # The libraries are those of the tests: to download and unpack them anew would take minutes.
    "PYTHONPATH": sysconfig.get_paths()["purelib"],
}


def load_bundle() -> ModuleType:
    """Return deploy/bundle.py as a module."""
    spec = importlib.util.spec_from_file_location("deploy_bundle", ROOT / "deploy" / "bundle.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unpacked(folder: Path) -> Path:
    """Make what the archive of the ingestion service holds, with our own wheel as the only one."""
    bundle = load_bundle()
    if not (ROOT / bundle.PAGE / "index.html").is_file():
        pytest.skip("the page is not built: make page")
    content = folder / "content"
    (content / "wheels").mkdir(parents=True)
    own = bundle.build_own_wheel("ingest", folder, content / "wheels")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = bundle.complete(content, "ingest", own, [], machine=os.uname().machine, python=python)
    assert name.startswith("shopfloor-ingest-")
    return content


def renewed(content: Path, release: str) -> None:
    """Let the archive be that of another release."""
    told = (content / "platform").read_text()
    (content / "platform").write_text(re.sub("RELEASE=.*", f"RELEASE={release}", told))


class Installation:
    """What is installed below one folder."""

    def __init__(self, content: Path, prefix: Path) -> None:
        self.content, self.prefix = content, prefix
        self.config = prefix / "etc" / "ingest.yaml"
        self.data = prefix / "data"
        self.url = ""

    def install(self, *options: str) -> str:
        done = self.run(
            *(self.content / "install.sh", "--prefix", self.prefix, "--no-systemd"),
            *("--python", sys.executable, *options),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, words)),
            capture_output=True,
            text=True,
            env=ALONE,
            cwd="/",
            timeout=200,
            check=False,
        )

    def shopfloor(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run(self.prefix / "current" / "bin" / "shopfloor", *words)

    def token(self, role: str, asset: str) -> dict[str, str]:
        made = self.shopfloor("token", "create", "--config", self.config, "--role", role, "--asset", asset)
        assert made.returncode == 0, made.stderr
        return {"Authorization": f"Bearer {made.stdout.strip()}"}

    def configure(self, port: int, more: str = "") -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.config.write_text(f"listen: 127.0.0.1:{port}\ndata: {self.data}\n{more}")

    @contextmanager
    def serving(self) -> Iterator[httpx.Client]:
        """Run the release that is current, until it answers; stop it as systemd would."""
        log = self.prefix / "log"
        with (
            log.open("ab") as output,
            subprocess.Popen(
                [self.prefix / "current" / "bin" / "shopfloor", "ingest", "serve", self.config],
                env=ALONE,
                cwd="/",
                stdout=output,
                stderr=output,
            ) as process,
            httpx.Client(base_url=self.url, timeout=60) as client,
        ):

            def answers() -> bool:
                assert process.poll() is None, log.read_text()
                try:
                    return client.get("/readyz").status_code == 200
                except httpx.HTTPError:
                    return False

            try:
                eventually(answers, "the service is ready", 120)
                yield client
                process.send_signal(signal.SIGTERM)
                # uvicorn ends itself by the signal, once all is closed.
                assert process.wait(60) in {0, -signal.SIGTERM}, log.read_text()
            finally:
                process.kill()
        assert "Traceback" not in log.read_text()


def send(client: httpx.Client, token: dict[str, str], batch: Batch) -> None:
    """Hand a batch over, as an agent does."""
    answer = client.post(
        "/v1/batches", content=encode_batch(batch), headers=token | {"Content-Type": BATCH_MEDIA_TYPE}
    )
    assert answer.status_code == 200, answer.text


def account(client: httpx.Client, token: dict[str, str]) -> dict[str, Any]:
    """Return the ledger's sum of all streams."""
    answer = client.get("/v1/ledger", headers=token)
    assert answer.status_code == 200, answer.text
    total: dict[str, Any] = answer.json()["total"]
    return total
