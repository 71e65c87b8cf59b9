"""Grafana dashboards, made by code: what is asked (`ask`), in which language, how it looks (`look`), and the boards."""
