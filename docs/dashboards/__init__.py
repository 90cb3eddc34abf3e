"""Grafana's dashboards: one module each, made of the panels in kit.py; `python -m docs.dashboards` writes them."""
