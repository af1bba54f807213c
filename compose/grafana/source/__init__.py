"""The dashboards as code: one module for each, `python -m compose.grafana.source` writes `../dashboards/`."""
