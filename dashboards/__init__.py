"""What people look at: the live web page (``live/``, TypeScript) and the Grafana dashboards (``grafana/``)."""
