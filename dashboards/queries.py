"""The Elasticsearch queries of panels: rows of one index, and the largest, smallest or total of their fields.

There is no average here. A percentile, a ratio or a rate is taken from the row of the level that is shown; where a
bucket holds more than one row, the largest of them. Only what may be added is added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from grafana_foundation_sdk.builders import elasticsearch, expr
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.elasticsearch import TermsOrder

from tidegate.schemas.elasticsearch import RAW_TIME, contract_of

DATA_SOURCE = DataSourceRef(type_val="elasticsearch", uid="${datasource}")
EXPRESSIONS = DataSourceRef(type_val="__expr__", uid="__expr__")

ADDITIVE = frozenset(
    {
        "aborted",
        "bytes_received",
        "bytes_sent",
        "errors_4xx",
        "errors_5xx",
        "first_byte_count",
        "input_tokens",
        "latency_count",
        "lines",
        "output_tokens",
        "rate_limited",
        "requests",
        "restarts",
        "retries",
        "upgraded",
    }
)
"""The fields whose sum over rows is one: counts and bytes. Of all others a panel shows one row's value."""

MetricType = Literal["max", "min", "sum", "count", "cardinality"]

_NAMES: dict[MetricType, str] = {
    "max": "Max",
    "min": "Min",
    "sum": "Sum",
    "count": "Count",
    "cardinality": "Unique Count",
}
"""Grafana's column title of a metric."""


@dataclass(frozen=True)
class Metric:
    """An aggregation of the rows in a bucket."""

    type: MetricType
    field: str = ""


def largest(field: str) -> Metric:
    """The largest value of the rows in a bucket; where a bucket holds one row, that row's."""
    return Metric("max", field)


def smallest(field: str) -> Metric:
    """The smallest value of the rows in a bucket."""
    return Metric("min", field)


def distinct(field: str) -> Metric:
    """How many different values the rows in a bucket have."""
    return Metric("cardinality", field)


def total(field: str) -> Metric:
    """The sum of a field that may be summed.

    Raises ValueError for any other: percentiles and ratios can't be added.
    """
    if field not in ADDITIVE:
        raise ValueError(f"{field}: its sum over rows has no meaning; show one row's value")
    return Metric("sum", field)


DOCUMENTS = Metric("count")
"""How many rows or lines there are in a bucket."""


def rows(topic: str, *filters: str) -> str:
    """The Lucene query for the rows of one topic, in whatever index of it.

    topic: its name; in place of `1s`, `1m` or `10s` it may have a variable, such as
    `tidegate.service-metrics.${span}`.
    """
    variable = re.search(r"\$\{(\w+)\}$", topic)
    known = topic.replace(variable.group(), "1m") if variable else topic
    # The alias: `_index` matches the aliases of an index too, and no wildcard takes another topic's along.
    alias = contract_of(known).alias("${prefix:raw}")
    if variable:
        alias = alias.removesuffix("1m") + f"${{{variable.group(1)}:raw}}"
    return " AND ".join([f"_index:{alias}", *filters])


def service(level: str, *filters: str) -> str:
    """Service-metrics rows of one level, of the span that the dashboard is set to."""
    return rows("tidegate.service-metrics.${span}", f"level:{level}", *filters)


def resources(level: str, *filters: str) -> str:
    """Resource-metrics rows of one level, of the span that the dashboard is set to."""
    return rows("tidegate.resource-metrics.${resource_span}", f"level:{level}", *filters)


IN_DEPARTMENT = "department:${department}"
IN_TASK = f"{IN_DEPARTMENT} AND task:${{task}}"


def over_time(
    query: str,
    *metrics: Metric,
    by: str | None = None,
    top: int = 20,
    alias: str | None = None,
    ref: str = "A",
    hidden: bool = False,
    empty: bool = True,
    interval: str = "auto",
) -> elasticsearch.Dataquery:
    """Metrics in buckets of time; with `by`, one series for each of its values that have most of the first metric.

    alias: the series' name. Without one it is the value of `by`, or the metric's field.
    empty: whether buckets without a row are there too; a line breaks at them.
    """
    buckets: list[elasticsearch.Terms | elasticsearch.DateHistogram] = []
    if by:
        buckets.append(_terms(by, "100", top, _order(metrics)))
    histogram = elasticsearch.ElasticsearchDateHistogramSettings().interval(interval)
    buckets.append(
        elasticsearch.DateHistogram()
        .id("200")
        .field(RAW_TIME)
        .settings(histogram.min_doc_count("0" if empty else "1").trim_edges("0"))
    )
    return _query(query, ref, metrics, buckets, hidden).alias(
        alias or (f"{{{{{by}}}}}" if by else "{{field}}")
    )


def table_of(
    query: str, *metrics: Metric, by: Sequence[str], top: int = 500, ref: str = "A"
) -> elasticsearch.Dataquery:
    """One table row for each combination of values of `by`, largest first metric first."""
    buckets = [_terms(name, str(100 + number), top, _order(metrics)) for number, name in enumerate(by)]
    return _query(query, ref, metrics, buckets)


def documents(query: str, size: int = 200, ref: str = "A") -> elasticsearch.Dataquery:
    """The newest rows themselves."""
    metric = (
        elasticsearch.RawData().id("1").settings(elasticsearch.ElasticsearchRawDataSettings().size(str(size)))
    )
    return _based_on(query, ref).metrics([metric]).bucket_aggs([])


def log_lines(query: str, limit: int = 500, ref: str = "A") -> elasticsearch.Dataquery:
    """The newest lines of a log, for the panel of that kind."""
    metric = (
        elasticsearch.Logs().id("1").settings(elasticsearch.ElasticsearchLogsSettings().limit(str(limit)))
    )
    return _based_on(query, ref).metrics([metric]).bucket_aggs([])


def calculated(expression: str, ref: str, hidden: bool = False) -> expr.TypeMath:
    """Arithmetic on the results of other queries, which Grafana does."""
    return expr.TypeMath().datasource(EXPRESSIONS).expression(expression).ref_id(ref).hide(hidden)


def per_second(counted: str, ref: str) -> expr.TypeMath:
    """Counts of each bucket by the bucket's seconds: exact, however long a bucket is that isn't cut."""
    return calculated(f"({counted}) * 1000 / ${{__interval_ms}}", ref)


def lasting(query: str, field: str, name: str, ref: str) -> list[Builder[Dataquery]]:
    """A value that is in force until the next row, such as a limit: a series called `name`."""
    values = over_time(query, largest(field), ref=ref, hidden=True, empty=False)
    held = (
        expr.TypeResample()
        .datasource(EXPRESSIONS)
        .expression(f"${ref}")
        .window("${__interval}")
        .downsampler("max")
        .upsampler("pad")
        .ref_id(name)
    )
    return [values, held]


def rates(
    query: str, counts: Mapping[str, str], shown: Mapping[str, str], empty: bool = True
) -> list[Builder[Dataquery]]:
    """Counts a second. `counts` gives each summed field a letter, `shown` each series' name its arithmetic on these.

    empty: a bucket without a row counts as none. Else the newest value is that of the newest bucket with rows.
    """
    return [
        *_summed(query, counts, empty),
        *(per_second(arithmetic, name) for name, arithmetic in shown.items()),
    ]


def ratio(query: str, counts: Mapping[str, str], expression: str, name: str) -> list[Builder[Dataquery]]:
    """One sum by another, over the rows of each bucket."""
    return [*_summed(query, counts, empty=False), calculated(expression, name)]


def age(query: str, field: str, name: str, ref: str) -> list[Builder[Dataquery]]:
    """How long before the end of the time range the newest value of a date is, in ms: a series called `name`."""
    newest = over_time(query, largest(field), ref=ref, hidden=True)
    reduced = (
        expr.TypeReduce()
        .datasource(EXPRESSIONS)
        .expression(f"${ref}")
        .reducer("max")
        .settings(expr.ExprTypeReduceSettings().mode("dropNN"))
        .ref_id(f"{ref}newest")
        .hide(True)
    )
    return [newest, reduced, calculated(f"${{__to}} - ${ref}newest", name)]


def column(metrics: Sequence[Metric], metric: Metric) -> str:
    """Grafana's column name of a metric: its type, with its field if others have the same type."""
    same = [one for one in metrics if one.type == metric.type]
    name = _NAMES[metric.type]
    return f"{name} {metric.field}" if len(same) > 1 else name


def _summed(query: str, counts: Mapping[str, str], empty: bool) -> list[Builder[Dataquery]]:
    return [
        over_time(query, total(name), ref=letter, hidden=True, empty=empty) for letter, name in counts.items()
    ]


def _order(metrics: Sequence[Metric]) -> str:
    return "_count" if metrics[0].type == "count" else "1"


def _terms(field: str, id_: str, size: int, order_by: str) -> elasticsearch.Terms:
    settings = (
        elasticsearch.ElasticsearchTermsSettings()
        .size(str(size))
        .order(TermsOrder.DESC)
        .order_by(order_by)
        .min_doc_count("1")
    )
    return elasticsearch.Terms().id(id_).field(field).settings(settings)


def _query(
    query: str,
    ref: str,
    metrics: Sequence[Metric],
    buckets: Sequence[elasticsearch.Terms | elasticsearch.DateHistogram],
    hidden: bool = False,
) -> elasticsearch.Dataquery:
    made = [_metric(metric, str(number)) for number, metric in enumerate(metrics, 1)]
    return _based_on(query, ref).hide(hidden).metrics(list(made)).bucket_aggs(list(buckets))


def _based_on(query: str, ref: str) -> elasticsearch.Dataquery:
    return elasticsearch.Dataquery().datasource(DATA_SOURCE).query(query).ref_id(ref).time_field(RAW_TIME)


def _metric(
    metric: Metric, id_: str
) -> (
    elasticsearch.Max
    | elasticsearch.Min
    | elasticsearch.Sum
    | elasticsearch.Count
    | elasticsearch.UniqueCount
):
    if metric.type == "max":
        return elasticsearch.Max().id(id_).field(metric.field)
    if metric.type == "min":
        return elasticsearch.Min().id(id_).field(metric.field)
    if metric.type == "sum":
        return elasticsearch.Sum().id(id_).field(metric.field)
    if metric.type == "cardinality":
        return elasticsearch.UniqueCount().id(id_).field(metric.field)
    return elasticsearch.Count().id(id_)
