"""Holds dashboards against what Grafana wants of them, and against a real database."""
