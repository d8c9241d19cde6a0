"""The few expressions that rules and dashboards share."""

from __future__ import annotations


def or_zero(expression: str) -> str:
    """Zero where nothing was counted yet: a labelled counter has no series before its first event."""
    return f"({expression} or vector(0))"


def events(selector: str, window: str) -> str:
    """How often a counter went up in `window`, series by series.

    A series that is younger counts from its first value, which `increase` would take for where it started.
    """
    return f"({selector} unless {selector} offset {window} or increase({selector}[{window}]))"


def quantile(share: float, histogram: str, *by: str, of: str = "", window: str = "$__rate_interval") -> str:
    """A quantile of a histogram, by labels; `of` are matchers."""
    matchers = f"{{{of}}}" if of else ""
    labels = ", ".join((*by, "le"))
    return f"histogram_quantile({share:g}, sum by ({labels}) (rate({histogram}_bucket{matchers}[{window}])))"
