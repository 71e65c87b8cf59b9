"""What the service and the agent of a campaign are configured to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from tests.faults.databases import STORE_DATABASE
from tests.faults.opcua_machine import URI
from tests.faults.schedule import CLOCK_STEP_S
from tests.faults.sizes import Sizes

LINE: Final = "acme/hk01/line/cell"
SITE: Final = "acme/hk01"
MQTT_SOURCE: Final = "mqtt"
OVERLAP_S: Final = 2 * CLOCK_STEP_S[1] + 2
"""A history is read by the server's clock. Stepped twice while nobody listens, it hides what was said in between, unless
the overlap covers the steps."""
_AGENT_ID: Final = "hk01"


def ingest_config(port: int, data: Path) -> dict[str, Any]:
    """Return ``ingest.yaml``."""
    return {
        "listen": f"127.0.0.1:{port}",
        "data": data.name,
        "read_access": "open",
        "sites": [{"asset": SITE, "name": "Hong Kong"}],
    }


def on_servers(influxdb_port: int, address: sa.URL, timeout_s: float) -> dict[str, Any]:
    """Return what ``ingest.yaml`` says beside that of a service on InfluxDB and PostgreSQL; its folder has ``password``."""
    return {
        "plant": {
            "url": address._replace(password=None).render_as_string(),
            "password": "file:password",
        },
        "store": {
            "kind": "influxdb",
            "url": f"http://127.0.0.1:{influxdb_port}",
            "version": 1,
            "database": STORE_DATABASE,
            "timeout_s": timeout_s,
        },
    }


def agent_config(ports: Mapping[str, int], data: Path, token: str, sizes: Sizes) -> dict[str, Any]:
    """Return ``agent.yaml``: everything is reached through the links."""
    return {
        "agent": {"id": _AGENT_ID, "asset": SITE},
        "data": data.name,
        "status": {"listen": f"127.0.0.1:{ports['status']}"},
        "uplink": {
            "url": f"http://127.0.0.1:{ports['ingest-link']}",
            "token": token,
            "timeout_s": 4 * sizes.patience,
            "linger_ms": 50,
            "heartbeat_s": 1,
            "batch_samples": sizes.batch,
        },
        "buffer": {"disk_reserve": 0},
        "sources": [
            {"opcua": _opcua("history", ports["history-link"], sizes.history, sizes)},
            {"opcua": _opcua("plain", ports["plain-link"], sizes.plain, sizes)},
            {"mqtt": _mqtt(ports["broker-link"], sizes)},
        ],
    }


def _opcua(name: str, port: int, variables: int, sizes: Sizes) -> dict[str, Any]:
    return {
        "name": name,
        "endpoint": f"opc.tcp://127.0.0.1:{port}",
        "request_timeout_s": 2 * sizes.patience,
        "keepalive_s": 0.5 * sizes.patience,
        "watchdog_s": 2 * sizes.patience,
        "retry_s": 0.3,
        "history": {"backfill_h": 0.1, "overlap_s": OVERLAP_S, "settle_s": 0.5},
        # A freeze of the agent overruns the queue.
        "groups": {
            "live": {
                "mode": "subscribe",
                "publishing_interval_ms": 100,
                "queue_size": round(3 * sizes.patience * sizes.rate_hz),
            }
        },
        "nodes": [
            {"node": f"nsu={URI};s=v{number}", "asset": f"{LINE}/{name}", "signal": f"v{number}"}
            for number in range(variables)
        ],
    }


def _mqtt(port: int, sizes: Sizes) -> dict[str, Any]:
    return {
        "name": MQTT_SOURCE,
        "broker": f"mqtt://127.0.0.1:{port}",
        "client_id": f"{_AGENT_ID}-gateway",
        "keepalive_s": round(2 * sizes.patience),
        "connect_timeout_s": 4 * sizes.patience,
        "topics": [
            {
                "topic": f"{kind}/{{name}}",
                "asset": f"{LINE}/{kind}",
                "time": {"path": "ts", "format": "ns"},
                "signals": [{"path": "n", "signal": "{name}"}],
            }
            for kind in ("kept", "lossy")
        ],
    }
