"""The panels, variables and links that all dashboards are made of, on Grafana's own builders (foundation SDK).

They are classic JSON, which the SDK calls deprecated: it is what Grafana's sidecar and file provisioning take, of every
version from 11 on.

An expression may use `$route`, `$pipeline` and `$version`, which are regular expressions there, `$__rate_interval` for
the range of a rate, and `$__range` for the range that is shown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as words
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as prometheus_words

Panel = Builder[model.Panel]
P = TypeVar("P", timeseries.Panel, stat.Panel, bargauge.Panel, table.Panel, statetimeline.Panel)
SOURCE = words.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "tuneloop"
# docker/compose.yaml lets Grafana publish the documents itself; the chart writes its own address here.
RUNBOOK = "/public/docs/runbook/"
GREEN, ORANGE, RED = "green", "orange", "red"
HALF, THIRD, FULL = 12, 8, 24
LETTERS = "ABCDEFGH"


_LIMIT = [
    model.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [10, 10]}),
    model.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
    model.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": RED}),
]


@dataclass(frozen=True)
class Query:
    """One expression, and what its series are called: `legend` may name labels as ``{{label}}``.

    Attributes:
        limit: it is what the others are held against, and drawn as a dashed line.
    """

    expr: str
    legend: str
    limit: bool = False


@dataclass(frozen=True)
class Line:
    """A value at which a person should begin to think (orange), or to act (red). The lowest of a panel comes first."""

    value: float
    colour: str = RED


@dataclass(frozen=True)
class Section:
    """A row of a dashboard. A closed one is opened by a click, and asks Prometheus for nothing before."""

    title: str
    panels: Sequence[Panel]
    closed: bool = False


@dataclass(frozen=True)
class Page:
    """A dashboard.

    Attributes:
        name: of its file, and the end of its uid.
        runbook: file of the runbook that it links to.
    """

    name: str
    title: str
    description: str
    runbook: str
    variables: Sequence[Builder[model.VariableModel]]
    sections: Sequence[Section]
    annotations: Sequence[Builder[model.AnnotationQuery]] = ()

    @property
    def uid(self) -> str:
        return f"{TAG}-{self.name}"


def graph(
    title: str, description: str, *queries: Query, unit: str = "short", lines: Iterable[Line] = (), log: bool = False,
    stacked: bool = False, bars: bool = False, floor: float | None = 0, width: int = HALF,
) -> timeseries.Panel:
    """Series over time.

    Args:
        lines: are drawn across the graph.
        log: a logarithmic axis, for e-values.
        bars: for what happens now and then.
        floor: where the axis begins at the latest; None where values may be negative, or the axis is logarithmic.
    """
    panel = _common(timeseries.Panel(), title, description, unit, width)
    for letter, query in zip(LETTERS, queries, strict=False):
        panel.with_target(_target(letter, query).range())
        if query.limit:
            panel.override_by_query(letter, _LIMIT)
    panel.legend(common.VizLegendOptions().display_mode(words.LegendDisplayMode.LIST).show_legend(True)
                 .placement(words.LegendPlacement.BOTTOM))
    panel.tooltip(common.VizTooltipOptions().mode(words.TooltipDisplayMode.MULTI)
                  .sort(words.SortOrder.DESCENDING))
    panel.thresholds(_thresholds(lines))
    shown = words.GraphThresholdsStyleMode.DASHED if tuple(lines) else words.GraphThresholdsStyleMode.OFF
    panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(shown))
    panel.fill_opacity(60 if bars or stacked else 8).show_points(words.VisibilityMode.AUTO)
    if bars:
        panel.draw_style(words.GraphDrawStyle.BARS)
    if stacked or bars:
        panel.stacking(common.StackingConfig().mode(words.StackingMode.NORMAL))
    if log:
        panel.scale_distribution(common.ScaleDistributionConfig().type(words.ScaleDistribution.LOG).log(10))
    elif floor is not None:
        panel.axis_soft_min(floor)
    return panel


def number(
    title: str, description: str, *queries: Query, unit: str = "short", lines: Iterable[Line] = (), width: int = 6,
) -> stat.Panel:
    """What the range comes to at its end, large."""
    panel = _common(stat.Panel(), title, description, unit, width).height(5)
    for target in _targets(queries):
        panel.with_target(target.instant())
    panel.reduce_options(_last()).thresholds(_thresholds(lines)).no_value("none")
    return panel.graph_mode(words.BigValueGraphMode.NONE).color_mode(words.BigValueColorMode.VALUE)


def gauges(
    title: str, description: str, *queries: Query, unit: str = "short", lines: Iterable[Line] = (),
    most: float | None = None, width: int = HALF,
) -> bargauge.Panel:
    """One bar for each series, of what it comes to at the end of the range; `most` is the length of a whole bar."""
    panel = _common(bargauge.Panel(), title, description, unit, width)
    for target in _targets(queries):
        panel.with_target(target.instant())
    panel.reduce_options(_last()).thresholds(_thresholds(lines)).min(0).no_value("none")
    panel.orientation(words.VizOrientation.HORIZONTAL).display_mode(words.BarGaugeDisplayMode.BASIC)
    return panel if most is None else panel.max(most)


def rows(title: str, description: str, query: Query, *, unit: str = "short", width: int = HALF) -> table.Panel:
    """A table with a row for each series: its labels and its value at the end of the range."""
    panel = _common(table.Panel(), title, description, unit, width)
    panel.with_target(_target("A", query).instant().format(prometheus_words.PromQueryFormat.TABLE))
    return panel.with_transformation(model.DataTransformerConfig(
        id_val="organize", options={"excludeByName": {"Time": True}, "renameByName": {"Value": query.legend}}
    ))


def states(title: str, description: str, *queries: Query, width: int = HALF) -> statetimeline.Panel:
    """One lane for each series, coloured while it has a value."""
    panel = _common(statetimeline.Panel(), title, description, "short", width)
    for target in _targets(queries):
        panel.with_target(target.range())
    return panel.show_value(words.VisibilityMode.NEVER).fill_opacity(70).thresholds(_thresholds(()))


def _common(panel: P, title: str, description: str, unit: str, width: int) -> P:
    return panel.title(title).description(description).datasource(SOURCE).unit(unit).height(8).span(width)


def _targets(queries: Iterable[Query]) -> list[prometheus.Dataquery]:
    return [_target(letter, query) for letter, query in zip(LETTERS, queries, strict=False)]


def _target(letter: str, query: Query) -> prometheus.Dataquery:
    return prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend).datasource(SOURCE)


def _thresholds(lines: Iterable[Line]) -> build.ThresholdsConfig:
    steps = [model.Threshold(value=None, color=GREEN)]
    steps += [model.Threshold(value=line.value, color=line.colour) for line in lines]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def values_of(name: str, series: str, *, label: str | None = None) -> build.QueryVariable:
    """A variable: the values of a label, any number of them or all."""
    query = f"label_values({series}, {label or name})"
    return (
        build.QueryVariable(name).label(name.capitalize()).datasource(SOURCE).definition(query)
        .query({"query": query, "refId": name, "qryType": 5})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True).include_all(True).all_value(".*")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


PIPELINE = values_of("pipeline", "tuneloop_data_ingest_datasets_total")
ROUTE = values_of("route", "tuneloop_gateway_route_weight")
VERSION = values_of("version", 'tuneloop_gateway_requests_total{route=~"$route"}', label="model_version")


def events(name: str, expr: str, title: str, colour: str) -> build.AnnotationQuery:
    """Marks in all graphs, at the times (Unix milliseconds) that the series have as their values."""
    return (
        build.AnnotationQuery().name(name).datasource(SOURCE).enable(True).expr(expr).icon_color(colour)
        .title_format(title).use_value_for_time(True).step("5s")
    )


def dashboard(page: Page) -> model.Dashboard:
    """Grafana's dashboard: linked to the others by their tag, with the variables that are set, and to the runbook."""
    source = build.DatasourceVariable("datasource").label("Prometheus").type("prometheus").current(
        model.VariableOption(selected=True, text="default", value="default")
    )
    others = (
        build.DashboardLink("tuneloop").type(model.DashboardLinkType.DASHBOARDS).tags([TAG]).include_vars(True)
        .keep_time(True).as_dropdown(False)
    )
    runbook = (
        build.DashboardLink("Runbook").type(model.DashboardLinkType.LINK).icon("doc").target_blank(True)
        .tooltip("What each alert means, where to look, what to do").url(f"{RUNBOOK}{page.runbook}")
    )
    made = (
        build.Dashboard(page.title).uid(page.uid).description(page.description).tags([TAG]).readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR).time("now-1h", "now").timezone("browser").refresh("30s")
        .links([others, runbook]).variables([source, *page.variables]).annotations(list(page.annotations))
    )
    for section in page.sections:
        row = build.Row(section.title)
        if section.closed:
            for panel in section.panels:
                row.with_panel(panel)
        made.with_row(row)
        for panel in () if section.closed else section.panels:
            made.with_panel(panel)
    built = made.build()
    # Beside the variables: the SDK would have them in a menu that has to be opened.
    for link in built.links or ():
        link.placement = None  # type: ignore[assignment]
    for mark in (built.annotations.list_val if built.annotations else None) or ():
        mark.placement = None  # type: ignore[assignment]
    for id_, panel_model in enumerate(_all_panels(built.panels or []), start=1):
        panel_model.id_val = id_
    return built


def _all_panels(panels: Iterable[Any]) -> Iterable[Any]:
    """Panels and rows with what is in them, in the order of the page."""
    for panel in panels:
        yield panel
        yield from getattr(panel, "panels", None) or ()
