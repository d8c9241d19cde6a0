"""The five dashboards, one per module."""

from __future__ import annotations

from monitoring.dashboards import kafka, latency, models, overview, services
from monitoring.panels import Page

PAGES: tuple[Page, ...] = (overview.PAGE, latency.PAGE, kafka.PAGE, models.PAGE, services.PAGE)
