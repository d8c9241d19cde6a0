"""What all dashboards are made of. Everything that Grafana's SDK wants to know beyond a query is decided here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from monitoring.promql import events, or_zero, quantile

Panel = timeseries.Panel | stat.Panel

_SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
_TAG = "logue"
_GREEN, _ORANGE, _RED = "green", "orange", "red"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and how its series are called in the legend."""

    expr: str
    legend: str
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a dashboard; all by default, several at once."""

    name: str
    label: str
    query: str


class Row:
    """Panels under a heading."""

    def __init__(self, title: str, *panels: Panel) -> None:
        self.title = title
        self.panels = panels


@dataclass(frozen=True, slots=True)
class Page:
    """A dashboard."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()

    def build(self) -> Dashboard:
        """As the SDK models it."""
        builder = (
            dashboard.Dashboard(f"Logue / {self.title}")
            .uid(self.uid)
            .description(self.description)
            .tags([_TAG])
            .readonly()
            .tooltip(DashboardCursorSync.CROSSHAIR)
            .refresh("30s")
            .time("now-1h", "now")
            .timezone("browser")
            .link(
                dashboard.DashboardLink("Logue")
                .type(DashboardLinkType.DASHBOARDS)
                .tags([_TAG])
                .as_dropdown(True)
                .keep_time(True)
            )
        )
        for variable in self.variables:
            builder.with_variable(_variable(variable))
        numbers = count(1)
        for row in self.rows:
            builder.with_row(dashboard.Row(row.title).id(next(numbers)))
            for panel in row.panels:
                builder.with_panel(panel.id(next(numbers)))
        return builder.build()


def rates(counter: str, *by: str, legend: str = "") -> Query:
    """Events per second by labels; zero before the first. `counter` may have matchers."""
    legend = legend or " ".join(f"{{{{{label}}}}}" for label in by) or "rate"
    return Query(f"sum by ({', '.join(by)}) (rate({counter}[$__rate_interval])) or on () vector(0)", legend)


def p95(histogram: str, *by: str, of: str = "") -> str:
    """The 95th percentile of a histogram."""
    return quantile(0.95, histogram, *by, of=of)


def quantiles(histogram: str, *, exemplars: bool = False) -> list[Query]:
    """p50, p95 and p99. One of them is enough to carry the exemplars."""
    found = [Query(quantile(share, histogram), f"p{share * 100:.0f}") for share in (0.5, 0.95, 0.99)]
    return [*found[:-1], replace(found[-1], exemplars=exemplars)]


def total(counter: str) -> str:
    """Events in the chosen time; zero without any."""
    return or_zero(f"sum({events(counter, '$__range')})")


def lines(
    title: str,
    unit: str,
    description: str,
    *queries: Query,
    limit: float | None = None,
    red_below: float | None = None,
    stacked: bool = False,
    width: int = 8,
) -> Panel:
    """Lines over time. Values above `limit`, or below `red_below`, are where it becomes an alert: a dashed line."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(_SOURCE)
        .unit(unit)
        .span(width)
        .height(8)
        .line_width(1)
        .fill_opacity(20 if stacked else 5)
        .show_points(common.VisibilityMode.NEVER)
        .thresholds(_thresholds(red_above=limit, red_below=red_below))
        .thresholds_style(
            options.GraphThresholdsStyleConfig().mode(
                common.GraphThresholdsStyleMode.OFF
                if limit is None and red_below is None
                else common.GraphThresholdsStyleMode.DASHED
            )
        )
        .legend(
            options.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(options.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    )
    if red_below is None:
        panel.min(0)
    if stacked:
        panel.stacking(options.StackingConfig().mode(common.StackingMode.NORMAL))
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(_target(query, letter).range().exemplar(query.exemplars))
    return panel


def number(
    title: str,
    unit: str,
    description: str,
    expr: str,
    *,
    red_above: float | None = None,
    red_below: float | None = None,
    orange_below: float | None = None,
    width: int = 4,
) -> Panel:
    """One value, as it is now."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(_SOURCE)
        .unit(unit)
        .span(width)
        .height(4)
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(red_above=red_above, red_below=red_below, orange_below=orange_below))
        .with_target(_target(Query(expr, title), "A").instant())
    )


def _target(query: Query, letter: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(_SOURCE).ref_id(letter).expr(query.expr).legend_format(query.legend)


def _thresholds(
    *, red_above: float | None = None, red_below: float | None = None, orange_below: float | None = None
) -> dashboard.ThresholdsConfig:
    """Steps: each colour holds from its value up to the next."""
    if red_below is None:
        steps = [(None, _GREEN)] + ([] if red_above is None else [(red_above, _RED)])
    elif orange_below is None:
        steps = [(None, _RED), (red_below, _GREEN)]
    else:
        steps = [(None, _RED), (red_below, _ORANGE), (orange_below, _GREEN)]
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for value, color in steps])
    )


def _variable(variable: Variable) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(variable.name)
        .label(variable.label)
        .query(variable.query)
        .datasource(_SOURCE)
        .current(VariableOption(selected=True, text="All", value="$__all"))
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
    )
