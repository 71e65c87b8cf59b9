"""Grafana dashboards, made by code: what is asked (`ask`), in which language, how it looks (`look`), and the boards."""

import warnings

with warnings.catch_warnings():
    # The SDK deprecates the classic dashboard, which is the one that provisioning by files takes everywhere.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import bargauge, dashboard  # noqa: F401
