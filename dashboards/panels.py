"""The panels of all dashboards, each with a title, a description, a unit and its queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    logs,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    LogsSortOrder,
    SortOrder,
    StackingMode,
    TableCellDisplayMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
)

from tidegate.dashboards import uids
from tidegate.dashboards.queries import DATA_SOURCE, largest, lasting, over_time, rates

LARGEST = (
    "Where a bucket of time holds more than one row, the largest of them: percentiles are never averaged."
)
"""The description of every panel that shows a percentile, a ratio or a rate of rows."""

Steps = Sequence[tuple[float | None, str]]
"""The thresholds of a panel's colours."""

PLAIN: Steps = ((None, "blue"),)
ERROR_STEPS: Steps = ((None, "green"), (0.01, "orange"), (0.05, "red"))
"""5 % is where the shipped rule `errors` fires."""
LIMITED_STEPS: Steps = ((None, "green"), (0.01, "orange"), (0.5, "red"))
"""50 % is where the shipped rule `rate-limited` fires."""
OF_LIMIT_STEPS: Steps = ((None, "green"), (0.8, "orange"), (0.9, "red"))
"""90 % is where the shipped rule `cpu-near-limit` fires."""
AGE_STEPS: Steps = ((None, "green"), (30_000, "orange"), (120_000, "red"))

POINTS = 2000
"""Of a graph, so that a bucket is a row for half an hour of seconds and a day of minutes, however wide it is.

Grafana rounds to at most half as many again: twenty series are below Elasticsearch's limit of 65,536 buckets.
"""
POINTS_OF_A_WEEK = 11_000
"""The interval of a large number, which shows the newest bucket."""

Target = Builder[Dataquery]


@dataclass(frozen=True)
class Column:
    """How a table shows one column: its title, unit, colours, and where a click leads."""

    title: str
    unit: str = ""
    steps: Steps = ()
    link: tuple[str, str] | None = None
    width: int = 0


@dataclass(frozen=True)
class Computed:
    """A column made of others: what `left` add up to, then `operator`, then `right`."""

    title: str
    left: Sequence[str]
    operator: Literal["-", "/"]
    right: str


@dataclass
class Look:
    """The options of a time series panel that differ from the defaults."""

    names: Mapping[str, str] = field(default_factory=dict)
    right: Mapping[str, str] = field(default_factory=dict)
    stacked: bool = False
    bars: bool = False
    steps: Steps = PLAIN
    connected: bool = False
    bridged: Sequence[str] = ()
    of_query: Mapping[str, str] = field(default_factory=dict)
    maximum: float | None = None


def series(
    title: str, description: str, unit: str, *targets: Target, look: Look | None = None, width: int = 12
) -> timeseries.Panel:
    """Values over time.

    Of the look: `names` gives a series another name, `right` puts series on the axis at the right with a unit of
    their own, `connected` draws through buckets without a row (for events, whose value holds until the next one),
    `bridged` series through gaps of up to a minute (windows that are longer than the other series' rows), and
    `of_query` names the series of a query beside expressions.
    """
    look = look or Look()
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .unit(unit)
        .span(width)
        .height(8)
        .min(0)
        .max_data_points(POINTS)
        .thresholds(_thresholds(look.steps))
        .line_width(1)
        .fill_opacity(60 if look.bars else 8)
        .draw_style(GraphDrawStyle.BARS if look.bars else GraphDrawStyle.LINE)
        .show_points(VisibilityMode.AUTO)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if look.maximum is not None:
        panel.max(look.maximum)
    if look.stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if look.connected:
        panel.span_nulls(True).line_interpolation(LineInterpolation.STEP_AFTER)
    for name, shown in look.names.items():
        panel.override_by_name(name, [DynamicConfigValue("displayName", shown)])
    for name, other in look.right.items():
        panel.override_by_name(
            name, [DynamicConfigValue("unit", other), DynamicConfigValue("custom.axisPlacement", "right")]
        )
    for name in look.bridged:
        panel.override_by_name(name, [DynamicConfigValue("custom.spanNulls", 65_000)])
    for ref, shown in look.of_query.items():
        panel.override_by_query(
            ref, [DynamicConfigValue("displayName", shown), DynamicConfigValue("custom.spanNulls", 65_000)]
        )
    return panel.targets(list(targets))


def now(
    title: str, description: str, unit: str, *targets: Target, steps: Steps = PLAIN, width: int = 4
) -> stat.Panel:
    """The newest value, large, with its history behind it.

    So many points that a bucket is a row for a week of minutes: of a longer bucket the last one is cut, and counts by
    its seconds would be too few.
    """
    panel = _stat(title, description, unit, steps, width, "lastNotNull").max_data_points(POINTS_OF_A_WEEK)
    return panel.targets(list(targets))


def worst(
    title: str, description: str, unit: str, *targets: Target, steps: Steps = PLAIN, width: int = 4
) -> stat.Panel:
    """The largest value of the time range, large."""
    return _stat(title, description, unit, steps, width, "max").targets(list(targets))


def summed(
    title: str, description: str, unit: str, *targets: Target, steps: Steps = PLAIN, width: int = 4
) -> stat.Panel:
    """The sum of the buckets' counts over the time range, large."""
    return _stat(title, description, unit, steps, width, "sum").targets(list(targets))


def grid(
    title: str,
    description: str,
    *targets: Target,
    columns: Mapping[str, Column],
    computed: Sequence[Computed] = (),
    kept: DataTransformerConfig | None = None,
    sort: str = "",
    width: int = 24,
    height: int = 9,
    limit: int = 0,
) -> table.Panel:
    """A table of what `columns` names, in that order; whatever else the query brings isn't shown.

    kept: which rows stay, by columns that needn't be shown. sort: the title of the column that rows are ordered by,
    the largest first. More than one target: their rows are merged where the columns that they share are equal.
    """
    panel = (
        table.Panel().title(title).description(description).datasource(DATA_SOURCE).span(width).height(height)
    )
    if len(targets) > 1:
        panel.with_transformation(DataTransformerConfig("merge", options={}))
    for one in computed:
        _compute(panel, one)
    if kept:
        panel.with_transformation(kept)
    panel.with_transformation(
        DataTransformerConfig("filterFieldsByName", options={"include": {"names": list(columns)}})
    )
    panel.with_transformation(
        DataTransformerConfig(
            "organize",
            options={
                "indexByName": {name: index for index, name in enumerate(columns)},
                "renameByName": {name: shown.title for name, shown in columns.items()},
                "excludeByName": {},
            },
        )
    )
    if sort:
        panel.with_transformation(
            DataTransformerConfig("sortBy", options={"fields": {}, "sort": [{"field": sort, "desc": True}]})
        )
    if limit:
        panel.with_transformation(DataTransformerConfig("limit", options={"limitField": limit}))
    for shown in columns.values():
        properties = _column_properties(shown)
        if properties:
            panel.override_by_name(shown.title, properties)
    return panel.targets(list(targets))


def lines(title: str, description: str, target: Target, height: int = 14) -> logs.Panel:
    """Lines of a log, the newest first; a click shows a line's fields."""
    return (
        logs.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .span(24)
        .height(height)
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
        .sort_order(LogsSortOrder.DESCENDING)
        .targets([target])
    )


def ages(
    title: str, description: str, *targets: Target, steps: Steps = AGE_STEPS, width: int = 24
) -> stat.Panel:
    """The age of the newest value of several series, by name; from `queries.age`."""
    panel = _stat(title, description, "ms", steps, width, "lastNotNull").height(5)
    return (
        panel.graph_mode(BigValueGraphMode.NONE)
        .text_mode(BigValueTextMode.VALUE_AND_NAME)
        .targets(list(targets))
    )


def worst_of(
    title: str,
    description: str,
    unit: str,
    target: Target,
    computed: Computed,
    steps: Steps = PLAIN,
    width: int = 4,
) -> stat.Panel:
    """The largest value of a computed column, large."""
    panel = _stat(title, description, unit, steps, width, "max")
    _compute(panel, computed)
    shown = common.ReduceDataOptions().calcs(["max"]).fields(f"/^{computed.title}$/").values(False)
    return panel.reduce_options(shown).graph_mode(BigValueGraphMode.NONE).targets([target])


def results(description: str, query: str, width: int = 12) -> timeseries.Panel:
    """Requests per second by result, of one level's rows; the top of the stack is their sum."""
    counts = {"R": "requests", "F": "errors_5xx", "A": "aborted", "C": "errors_4xx", "L": "rate_limited"}
    shown = {
        "served": "$R - $F - $A - $C - $L",
        "5xx": "$F",
        "aborted": "$A",
        "4xx": "$C",
        "rate limited": "$L",
    }
    look = Look(stacked=True)
    meaning = (
        f"{description} Counts of each bucket of time, summed and divided by its seconds: exact at any zoom."
    )
    panel = series(
        "Requests by result", meaning, "reqps", *rates(query, counts, shown), look=look, width=width
    )
    return _coloured(
        panel,
        {"served": "green", "5xx": "red", "aborted": "purple", "4xx": "yellow", "rate limited": "orange"},
    )


def offered_and_admitted(description: str, query: str, limits: str, width: int = 12) -> timeseries.Panel:
    """Offered requests, admitted requests, and the limit in force."""
    traffic = rates(query, {"R": "requests", "L": "rate_limited"}, {"offered": "$R", "admitted": "$R - $L"})
    limit = lasting(limits, "limit_qps", "limit", "Q")
    panel = series("Limit, offered and admitted", description, "reqps", *traffic, *limit, width=width)
    panel.override_by_query("limit", [DynamicConfigValue("custom.lineInterpolation", "stepAfter")])
    return _coloured(panel, {"offered": "yellow", "admitted": "green", "limit": "red"})


def percentiles(description: str, query: str, width: int = 12) -> timeseries.Panel:
    """The percentiles of one level's rows."""
    fields = {f"latency_p{share}_ms": f"p{share}" for share in (50, 90, 95, 99)}
    target = over_time(query, *(largest(name) for name in fields))
    return series("Latency", f"{description} {LARGEST}", "ms", target, look=Look(names=fields), width=width)


def plain(*names: str) -> dict[str, Column]:
    """Columns that are shown under their own names."""
    return {name: Column(name.replace("_", " ")) for name in names}


def link_to(uid: str, **variables: str) -> str:
    """The address of another dashboard with this one's time range and variables, and others from the row clicked on."""
    kept = "&".join(f"${{{name}:queryparam}}" for name in ("datasource", "prefix", "span", "resource_span"))
    own = "".join(f"&var-{name}=${{__data.fields.{value}}}" for name, value in variables.items())
    return f"/d/{uid}/{uid}?${{__url_time_range}}&{kept}{own}"


TO_TASK = ("Open task", link_to(uids.TASK, department="department", task="task"))
"""Of a table with both columns."""

ERROR_RATE = Computed("error rate", ["Sum errors_5xx", "Sum aborted"], "/", "Sum requests")
LIMITED_RATIO = Computed("limited", ["Sum rate_limited"], "/", "Sum requests")
"""Of a table whose metrics are these sums, as ERROR_RATE."""
ERROR_COLUMN = Column("error rate", "percentunit", ERROR_STEPS)
LIMITED_COLUMN = Column("limited", "percentunit", LIMITED_STEPS)


def _compute(panel: table.Panel | stat.Panel, one: Computed) -> None:
    left = one.left[0]
    if len(one.left) > 1:
        left = f"{one.title} of"
        summed_columns = {"reducer": "sum", "include": list(one.left)}
        options = {"mode": "reduceRow", "alias": left, "reduce": summed_columns}
        panel.with_transformation(DataTransformerConfig("calculateField", options=options))
    binary = {"left": left, "operator": one.operator, "right": one.right}
    options = {"mode": "binary", "alias": one.title, "binary": binary}
    panel.with_transformation(DataTransformerConfig("calculateField", options=options))


def _column_properties(shown: Column) -> list[DynamicConfigValue]:
    properties = []
    if shown.unit:
        properties.append(DynamicConfigValue("unit", shown.unit))
    if shown.width:
        properties.append(DynamicConfigValue("custom.width", shown.width))
    if shown.steps:
        cell = {"type": str(TableCellDisplayMode.COLOR_TEXT)}
        properties.append(DynamicConfigValue("custom.cellOptions", cell))
        steps = {"mode": "absolute", "steps": [{"value": at, "color": colour} for at, colour in shown.steps]}
        properties.append(DynamicConfigValue("thresholds", steps))
    if shown.link:
        title, url = shown.link
        properties.append(DynamicConfigValue("links", [{"title": title, "url": url}]))
    return properties


def _coloured(panel: timeseries.Panel, colours: Mapping[str, str]) -> timeseries.Panel:
    for ref, colour in colours.items():
        panel.override_by_query(
            ref,
            [
                DynamicConfigValue("displayName", ref),
                DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour}),
            ],
        )
    return panel


def _stat(title: str, description: str, unit: str, steps: Steps, width: int, calc: str) -> stat.Panel:
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .unit(unit)
        .span(width)
        .height(4)
        .thresholds(_thresholds(steps))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs([calc]).fields("").values(False))
    )


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    made = [Threshold(value=at, color=colour) for at, colour in steps]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)
