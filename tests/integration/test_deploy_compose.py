"""The compose files as docker-compose itself reads them: by the published schema, merged and with their variables.

No container engine is asked: `config` needs none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
KINDS = ("central", "central-embedded", "gateway", "scaled")


@pytest.fixture(scope="module")
def docker_compose() -> str:
    # Debian's, by its path: another of this name may be a plug-in that wants an engine.
    found = shutil.which("docker-compose", path="/usr/bin") or shutil.which("docker-compose")
    if found is None:
        pytest.skip("docker-compose is not installed")
    return found


def config(
    docker_compose: str, tmp_path: Path, file: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    # A deploy/.env of somebody who really runs it is none of ours.
    nothing = tmp_path / "nothing.env"
    nothing.touch()
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [docker_compose, "--env-file", str(nothing), "-f", str(file), "config"],
        capture_output=True,
        text=True,
        env=kept | variables,
        cwd=file.parent,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_it_fits_the_published_schema(docker_compose: str, tmp_path: Path, kind: str) -> None:
    ended = config(
        docker_compose,
        tmp_path,
        DEPLOY / f"{kind}.yaml",
        SHOPFLOOR_HOST="plant.example.com",
        SHOPFLOOR_VERSION="9.9.9",
    )
    assert ended.returncode == 0, ended.stderr
    assert "WARNING" not in ended.stderr
    read: dict[str, Any] = yaml.safe_load(ended.stdout)
    images = {service["image"] for service in read["services"].values()}
    assert all(image.endswith(":9.9.9") for image in images if image.startswith("shopfloor-"))
    assert {service.get("read_only") for service in read["services"].values()} == {True}
    assert "$" not in "".join(images)


@pytest.mark.parametrize("kind", ["central", "scaled"])
def test_without_a_host_it_says_what_to_do(docker_compose: str, tmp_path: Path, kind: str) -> None:
    ended = config(docker_compose, tmp_path, DEPLOY / f"{kind}.yaml")
    assert ended.returncode != 0
    assert "SHOPFLOOR_HOST" in ended.stderr
    assert "run prepare.sh first" in ended.stderr


def test_the_schema_would_say_what_is_wrong(docker_compose: str, tmp_path: Path) -> None:
    text = (DEPLOY / "gateway.yaml").read_text().replace("read_only: true", "read_onyl: true")
    (tmp_path / "gateway.yaml").write_text(text)
    ended = config(docker_compose, tmp_path, tmp_path / "gateway.yaml")
    assert ended.returncode != 0
    assert "read_onyl" in ended.stderr
