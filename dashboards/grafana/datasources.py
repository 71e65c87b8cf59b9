"""Data sources as Grafana takes them, by file and by HTTP: both have the same keys."""

from __future__ import annotations

from typing import Any, Final

from dashboards.grafana.push_config import InfluxDBSource, VictoriaMetricsSource
from shopfloor.reports import REPORT_EVERY_S

MAX_SERIES: Final = 10_000
"""Series that one panel may draw: Grafana's own limit of 1000 would cut a group of 300 machines in eight zones."""


def data_source(config: InfluxDBSource | VictoriaMetricsSource) -> dict[str, Any]:
    """Return a data source with its secrets (``secureJsonData``); what it does not need is said to be empty."""
    nothing = {"user": "", "basicAuth": False, "basicAuthUser": ""}
    if isinstance(config, InfluxDBSource):
        return nothing | influxdb(
            uid=config.uid,
            name=config.name,
            url=config.url,
            database=config.database,
            user=config.user,
            password=config.password.get_secret_value() if config.password else "",
            token=config.token.get_secret_value() if config.token else "",
        )
    return nothing | victoriametrics(
        uid=config.uid,
        name=config.name,
        url=config.url,
        user=config.user,
        password=config.password.get_secret_value() if config.password else "",
        token=config.token.get_secret_value() if config.token else "",
    )


def influxdb(
    *, uid: str, name: str, url: str, database: str, user: str = "", password: str = "", token: str = ""
) -> dict[str, Any]:
    """Return an InfluxDB that is asked in InfluxQL, of any version; one with a token is 2.x or 3.x."""
    source = _source(uid, name, "influxdb", url)
    source["jsonData"] |= {"version": "InfluxQL", "dbName": database, "maxSeries": MAX_SERIES}
    if user:
        source |= {"user": user, "secureJsonData": {"password": password}}
    if token:
        # Only 1.x has users; the others know this header, 3.x too.
        source["jsonData"]["httpHeaderName1"] = "Authorization"
        source["secureJsonData"] = {"httpHeaderValue1": f"Token {token}"}
    return source


def victoriametrics(
    *, uid: str, name: str, url: str, user: str = "", password: str = "", token: str = ""
) -> dict[str, Any]:
    """Return a VictoriaMetrics that is asked in MetricsQL, which Grafana's Prometheus data source passes on."""
    source = _source(uid, name, "prometheus", url)
    if user:
        source |= {
            "basicAuth": True,
            "basicAuthUser": user,
            "secureJsonData": {"basicAuthPassword": password},
        }
    if token:
        source["jsonData"]["httpHeaderName1"] = "Authorization"
        source["secureJsonData"] = {"httpHeaderValue1": f"Bearer {token}"}
    return source


def _source(uid: str, name: str, kind: str, url: str) -> dict[str, Any]:
    # Nothing is drawn finer than the service reports; panels that need samples say so themselves.
    shared = {"httpMode": "POST", "timeInterval": f"{REPORT_EVERY_S:g}s"}
    return {"uid": uid, "name": name, "type": kind, "access": "proxy", "url": url, "jsonData": shared}
