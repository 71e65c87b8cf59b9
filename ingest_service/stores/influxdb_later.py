"""Writing to InfluxDB 2.x and 3.x by influxdb-client."""

from __future__ import annotations

from typing import Final, cast

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException

from ingest_service.store_config import InfluxDBStoreConfig

_NANOSECONDS: Final = cast("WritePrecision", WritePrecision.NS)


class LaterWriter:
    """``/api/v2/write``, synchronous and packed; it tries nothing again: whoever sent the batch does."""

    def __init__(self, config: InfluxDBStoreConfig, connections: int) -> None:
        self._bucket = config.database
        self._client = InfluxDBClient(
            config.url,
            config.token.get_secret_value() if config.token else "",
            org=config.organisation,
            timeout=round(config.timeout_s * 1000),
            enable_gzip=True,
            retries=False,
            connection_pool_maxsize=connections,
        )
        self._write_api = self._client.write_api(write_options=SYNCHRONOUS)

    def write(self, body: bytes) -> tuple[int, bytes, str | None] | None:
        """Write lines; return status, body and Retry-After of an answer that is no success.

        Raises:
            urllib3.exceptions.HTTPError: there was none.
        """
        try:
            self._write_api.write(self._bucket, record=body, write_precision=_NANOSECONDS)
        except ApiException as error:
            retry_after = error.headers.get("Retry-After") if error.headers else None
            return error.status or 0, (error.body or "").encode(), retry_after
        return None

    def close(self) -> None:
        """Let go of all connections; by itself the client leaves them to the garbage collector."""
        self._client.api_client.rest_client.pool_manager.clear()
        self._client.close()  # type: ignore[no-untyped-call]
