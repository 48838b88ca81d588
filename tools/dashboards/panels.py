"""Panels and dashboards of Grafana, as data that every dashboard declares alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DOCS = (
    "https://antiphon.example"  # replaced by where the documentation is: docs/how-to/dashboards-and-alerts.md
)
SERVICES = "session-api|webhook-ingest|persistence|projections|agent-worker|fleet"
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 24  # columns of Grafana's grid
RED, AMBER, GREEN = "red", "orange", "green"

Kind = Literal["graph", "number", "alerts"]


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel: what it shows, its queries with their legends, and the alerts whose pages explain it."""

    title: str
    description: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: Kind = "graph"
    width: int = 8
    amber: float | None = None
    red: float | None = None
    good: Literal["low", "high"] = "low"
    alerts: tuple[str, ...] = ()
    none: str = ""  # shown in place of "No data", where no series means something


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard; with `filtered`, by job and instance."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    filtered: bool = True
    since: str = "now-3h"


def build(declared: Dashboard) -> Any:
    """Return the dashboard as Grafana's model."""
    made = (
        dashboard.Dashboard(declared.title)
        .uid(declared.uid)
        .description(declared.description)
        .tags(["antiphon"])
        .readonly()
        .refresh("30s")
        .time(declared.since, "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Antiphon")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["antiphon"])
            .as_dropdown(True)
            .keep_time(True)
        )
        .link(
            dashboard.DashboardLink("Runbooks")
            .type(models.DashboardLinkType.LINK)
            .url("${docs}/runbooks/index.html")
            .target_blank(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(dashboard.ConstantVariable("docs").label("Where the documentation is").value(DOCS))
    )
    if declared.filtered:
        made.with_variable(_choice("job", "Service", f'label_values(up{{job=~"{SERVICES}"}}, job)'))
        made.with_variable(_choice("instance", "Replica", 'label_values(up{job=~"$job"}, instance)'))
    number, top = 0, 0
    for row in declared.rows:
        made.with_row(dashboard.Row(row.title).id(1000 + top).grid_pos(models.GridPos(1, WIDTH, 0, top)))
        top += 1
        left, height = 0, 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                top, left, height = top + height, 0, 0
            number += 1
            tall = 4 if panel.kind == "number" else 8
            place = models.GridPos(tall, panel.width, left, top)
            made.with_panel(_panel(panel).id(number).grid_pos(place))
            left, height = left + panel.width, max(height, tall)
        top += height
    model = made.build()
    for variable in model.templating.list_val or ():
        if variable.name == "docs":
            variable.hide = models.VariableHide.HIDE_VARIABLE  # the builder of constants lacks it
    return model


def _choice(name: str, label: str, query: str) -> Any:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .query({"query": query, "refId": name})
        .datasource(SOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(text="All", value="$__all", selected=True))
    )


def _panel(panel: Panel) -> Any:
    made: Any = {"graph": _graph, "number": _number, "alerts": _alerts}[panel.kind](panel)
    links = [
        dashboard.DashboardLink(f"What to do: {alert}")
        .type(models.DashboardLinkType.LINK)
        .url(f"${{docs}}/runbooks/{alert}.html")
        .target_blank(True)
        for alert in panel.alerts
    ]
    made.title(panel.title).description(panel.description).datasource(SOURCE).links(links)
    if panel.none:
        made.no_value(panel.none)
    for letter, (expression, legend) in zip("ABCDEFGH", panel.queries, strict=False):
        query = (
            prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(letter).datasource(SOURCE)
        )
        if panel.kind == "graph":
            query.range()
        else:
            query.instant()
        if panel.kind == "alerts":
            query.format(PromQueryFormat.TABLE)
        made.with_target(query)
    return made


def _thresholds(panel: Panel) -> Any:
    steps: list[tuple[float | None, str]] = [(None, GREEN), (panel.amber, AMBER), (panel.red, RED)]
    if panel.good == "high":
        steps = [(None, RED), (panel.red, AMBER), (panel.amber, GREEN)]
    known = [step for number, step in enumerate(steps) if number == 0 or step[0] is not None]
    if panel.amber is None and panel.red is None:
        known = [(None, GREEN)]
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in known])
    )


def _graph(panel: Panel) -> Any:
    style = common_models.GraphThresholdsStyleMode.OFF
    if panel.amber is not None or panel.red is not None:
        style = common_models.GraphThresholdsStyleMode.DASHED
    return (
        timeseries.Panel()
        .unit(panel.unit)
        .min(0)
        .line_width(1)
        .fill_opacity(8)
        .show_points(common_models.VisibilityMode.NEVER)
        .thresholds(_thresholds(panel))
        .thresholds_style(common.GraphThresholdsStyleConfig().mode(style))
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )


def _number(panel: Panel) -> Any:
    return (
        stat.Panel()
        .unit(panel.unit)
        .thresholds(_thresholds(panel))
        .color_mode(common_models.BigValueColorMode.BACKGROUND)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def _alerts(panel: Panel) -> Any:
    """Return a table of alerts; a click on one opens its page."""
    hidden = dict.fromkeys(("Time", "__name__"), True)
    order: Sequence[str] = ("severity", "alertname", "component", "Value")
    return (
        table.Panel()
        .thresholds(_thresholds(panel))
        .with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": hidden,
                    "indexByName": {name: index for index, name in enumerate(order)},
                    "renameByName": {"Value": "since", "alertname": "alert: a click says what to do"},
                },
            )
        )
        .override_by_name("since", [models.DynamicConfigValue("unit", "dateTimeFromNow")])
        .override_by_name(
            "alert: a click says what to do",
            [
                models.DynamicConfigValue(
                    "links",
                    [
                        {
                            "title": "What to do",
                            "url": "${docs}/runbooks/${__value.text}.html",
                            "targetBlank": True,
                        }
                    ],
                )
            ],
        )
        .override_by_name("severity", [models.DynamicConfigValue("custom.width", 100)])
    )
