"""Objectives, alerts and dashboards, defined once.

`python -m monitoring` (or `make monitoring`) writes what Prometheus, the Prometheus operator and Grafana read under
deploy/, and the tables of docs/slo.md. Nothing here is part of an image.
"""
