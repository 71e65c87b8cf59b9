"""InfluxDB's line protocol, read by whole columns and mapped to assets and signals: docs/specs/line-protocol.md."""
