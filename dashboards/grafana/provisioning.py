"""Files that provision a Grafana: data sources, the folder of dashboards, alert rules, a contact point; and no policies.

``deploy/grafana/provisioning`` holds them. Of ``datasources`` and ``alerting`` one file, or folder, is for each database: what
of them goes into Grafana's own ``provisioning`` says ``docs/grafana.md``. Addresses and names come from the environment,
secrets from files: none has a default.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from dashboards.grafana.alerts_render import contact_points_file, rules_file, to_yaml
from dashboards.grafana.datasources import influxdb, victoriametrics
from dashboards.grafana.push import DASHBOARDS_TITLE, DASHBOARDS_UID
from dashboards.grafana.push_config import INFLUXDB, VICTORIAMETRICS

SECRETS: Final = "/run/secrets"
BOARDS: Final = "/etc/grafana/shopfloor"
"""Where Grafana finds the rendered dashboards of one language."""


def files() -> Iterator[tuple[Path, str]]:
    """Yield each file's path below the folder of all of them, and its text."""
    for name, source in _sources().items():
        document = {"apiVersion": 1, "datasources": [{"orgId": 1, **source, "editable": False}]}
        yield Path("datasources", f"{name}.yaml"), to_yaml(document)
    provider = {
        "name": "shopfloor",
        "orgId": 1,
        "folder": DASHBOARDS_TITLE,
        "folderUid": DASHBOARDS_UID,
        "type": "file",
        "disableDeletion": False,
        "updateIntervalSeconds": 60,
        "allowUiUpdates": False,
        "options": {"path": BOARDS},
    }
    yield Path("dashboards", "shopfloor.yaml"), to_yaml({"apiVersion": 1, "providers": [provider]})
    yield Path("alerting", "influxql", "rules.yaml"), rules_file("influxql", INFLUXDB[0])
    yield Path("alerting", "influxql", "contact-points.yaml"), contact_points_file()
    yield Path("alerting", "metricsql", "rules.yaml"), rules_file("metricsql", VICTORIAMETRICS[0])
    yield Path("alerting", "metricsql", "contact-points.yaml"), contact_points_file()


def write(folder: Path) -> list[Path]:
    """Write all files that are not there yet as they should be; return those. Raises OSError."""
    changed = []
    for path, text in files():
        whole = folder / path
        if not whole.exists() or whole.read_text(encoding="utf-8") != text:
            whole.parent.mkdir(parents=True, exist_ok=True)
            whole.write_text(text, encoding="utf-8")
            changed.append(whole)
    return changed


def stale(folder: Path) -> list[str]:
    """Return what is wrong with the files of a folder: changed, missing, or not ours."""
    expected = {folder / path: text for path, text in files()}
    problems = [
        f"{path}: {'differs from what it should be' if path.exists() else 'is missing'}; render it"
        for path, text in expected.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    there = set(folder.rglob("*.yaml"))
    return problems + [f"{path}: nothing makes it" for path in sorted(there - expected.keys())]


def _sources() -> dict[str, dict[str, Any]]:
    influx = dict(zip(("uid", "name"), INFLUXDB, strict=True)) | {"url": "${SHOPFLOOR_INFLUXDB_URL}"}
    victoria = dict(zip(("uid", "name"), VICTORIAMETRICS, strict=True)) | {
        "url": "${SHOPFLOOR_VICTORIAMETRICS_URL}"
    }
    token = f"$__file{{{SECRETS}/influxdb_read_token}}"
    database = "${SHOPFLOOR_INFLUXDB_DATABASE}"
    return {
        "influxdb-1": influxdb(
            **influx,
            database=database,
            user="${SHOPFLOOR_INFLUXDB_USER}",
            password=f"$__file{{{SECRETS}/influxdb_read_password}}",
        ),
        "influxdb-2": influxdb(**influx, database="${SHOPFLOOR_INFLUXDB_BUCKET}", token=token),
        "influxdb-3": influxdb(**influx, database=database, token=token),
        "victoriametrics": victoriametrics(**victoria),
        "victoriametrics-vmauth": victoriametrics(
            **victoria,
            user="${SHOPFLOOR_VICTORIAMETRICS_USER}",
            password=f"$__file{{{SECRETS}/victoriametrics_read_password}}",
        ),
    }
