"""The job call-statistics: access-log lines in; calls of an hour and a day per department, task and client out.

    fates, counted     as in service-metrics: the same lines count
    client_lines       with the client that each names (x-client-id)
    cells              counted lines by minute x cluster x client: what follows are some thousand rows a minute
    attributed         cells with the gateway's decision read as department and task
    calls              these, by client, with what a row is made from
    clients_1m         summed by minute, task and client
    last_clients_1m    by minute and task, the last client that keeps its name
    folded_1m          clients_1m, with the clients past a task's number named __overflow__
    clients_SPAN, last_clients_SPAN, folded_SPAN
                       the same of these minutes, in windows that grow (CUMULATE) until they are whole: names are
                       bounded in each row's own window
    rows_SPAN          their three levels: an hour is written each five minutes, a day each hour, with the same id;
                       a client only when its window is over

An hour is the exact merge of its minutes, a day of its hours, a task of its clients. A client that keeps its name in a
window has kept it in each minute of it, since among fewer names its place is no later one: to fold by the minute first
changes no row, and bounds the state. A scan of its own: a client's cell has little to do with a replica's, and the
metrics' hot path stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tidegate.jobs import service_metrics
from tidegate.jobs.kafka_tables import column_list, columns_of, sink, text, timestamp_text
from tidegate.jobs.service_metrics import SUMS
from tidegate.schemas import topics
from tidegate.schemas.rows.service_metrics import OVERFLOW
from tidegate.schemas.rows.signals import UNKNOWN_CLIENT, CallStatisticsRow
from tidegate.schemas.settings import Kafka, Settings
from tidegate.schemas.settings.signals import CallStatistics

if TYPE_CHECKING:
    from pyflink.table import StatementSet, StreamTableEnvironment

NAME = "call-statistics"
OPTIONS: dict[str, str] = {}
"""It has no Python functions."""
_CLIENT = r"^[A-Za-z0-9._@:/-]{1,128}\z"


class Span(NamedTuple):
    """A window's length, and how often it is written while it is open, as SQL intervals; its length in minutes."""

    length: str
    renewal: str
    minutes: int


SPANS = {
    "1h": Span("INTERVAL '1' HOUR", "INTERVAL '5' MINUTE", 60),
    "1d": Span("INTERVAL '1' DAY", "INTERVAL '1' HOUR", 1440),
}


def build(environment: StreamTableEnvironment, settings: Settings) -> StatementSet:
    """The whole job over registered tables, ready to execute."""
    for name, query in (
        ("fates", service_metrics.fates(settings.service_metrics)),
        ("counted", service_metrics.counted(settings.service_metrics)),
        ("client_lines", client_lines()),
        ("cells", service_metrics.cells("client_lines", "caller", "MINUTE")),
        ("attributed", service_metrics.attributed(settings.access_log, replica="upstream_host")),
        ("calls", calls()),
        *(step for span in ("1m", *SPANS) for step in _steps(span, settings.call_statistics)),
        *((f"rows_{span}", rows(span)) for span in SPANS),
    ):
        environment.create_temporary_view(name, environment.sql_query(query))
    statements = environment.create_statement_set()
    for span in SPANS:
        statements.add_insert_sql(f"INSERT INTO call_statistics SELECT * FROM rows_{span}")
    return statements


def main(environment: StreamTableEnvironment, settings: Settings, *, bounded: bool) -> StatementSet:
    """The job on Kafka: registers the topics as tables, then builds.

    bounded: read what is in the topic now, close every window, end.
    """
    own = settings.service_metrics.model_copy(
        update={"consumer_group": settings.call_statistics.consumer_group}
    )
    environment.execute_sql(
        service_metrics.access_lines_table(
            "access_lines",
            settings.kafka,
            own,
            bounded=bounded,
            client=True,
            name_key=settings.access_log.name_key,
        )
    )
    environment.execute_sql(rows_table("call_statistics", settings.kafka))
    return build(environment, settings)


def client_lines() -> str:
    """Counted lines with who called: a label that callers choose, so only a name of a known form is kept."""
    return f"""
        SELECT
          *,
          CASE
            WHEN client IS NULL THEN '{UNKNOWN_CLIENT}'
            WHEN REGEXP(client, '{_CLIENT}') THEN client
            ELSE '{OVERFLOW}'
          END AS caller
        FROM counted"""


def calls() -> str:
    """The cells by client, which stands there in the place of the replica."""
    return f"SELECT cell_time, department, task, replica AS client, {', '.join(_SUMS)} FROM attributed"


def clients_of(window: str, histogram: str) -> str:
    """What each client called in a window so far. histogram: the function that merges them there."""
    return f"""
        SELECT
          window_start, window_end, window_time AS cell_time, department, task, client,
          {_list(_SUMS | {"histogram": f"{histogram}(histogram)"})}
        FROM TABLE({window})
        GROUP BY window_start, window_end, window_time, department, task, client"""


def last_clients(clients: str, settings: CallStatistics) -> str:
    """By window and task, the last client that keeps its name: in the order of names, as many as are allowed.

    No row where a task has fewer. By name and not by arrival or size, so that a replay folds the same clients.
    __overflow__ comes last and takes nobody's place; it isn't filtered before, which would sum all once more.
    """
    return f"""
        SELECT window_start, window_end, cell_time, department, task, client
        FROM (
          SELECT
            *,
            ROW_NUMBER() OVER (
              PARTITION BY window_start, window_end, department, task
              ORDER BY CASE WHEN client = '{OVERFLOW}' THEN 1 ELSE 0 END, client
            ) AS nth
          FROM {clients}
        ) WHERE nth = {settings.max_clients_per_task} AND client <> '{OVERFLOW}'"""


def folded(clients: str, last: str) -> str:
    """What clients called, with those past the last one named __overflow__: as many rows as before."""
    columns = ("window_start", "window_end", "cell_time", "department", "task", *_SUMS)
    return f"""
        SELECT
          {", ".join(f"calls.{column}" for column in columns)},
          CASE WHEN calls.client > last_client.client THEN '{OVERFLOW}' ELSE calls.client END AS client
        FROM {clients} AS calls
        LEFT JOIN {last} AS last_client
        ON calls.window_start = last_client.window_start AND calls.window_end = last_client.window_end
          AND calls.department = last_client.department AND calls.task = last_client.task"""


def rows(span: str) -> str:
    """The rows of one span, in the contract's columns (schemas.rows.signals.CallStatisticsRow).

    A client that has a name in an open window may have none in the end, and its row would stay: so clients wait.
    """
    columns = ", ".join(f"{expression} AS `{column}`" for column, expression in _columns(span).items())
    sums = _SUMS | {"histogram": "HISTOGRAM_SUMMARY(histogram, latency_min_us, latency_max_us)"}
    return f"""
        SELECT {columns}
        FROM (
          SELECT
            *,
            CASE WHEN whole_task = 1 THEN 'department' WHEN whole_client = 1 THEN 'task' ELSE 'client' END AS level
          FROM (
            SELECT
              window_start, window_end, department, task, client,
              GROUPING(task) AS whole_task, GROUPING(client) AS whole_client,
              COUNT(DISTINCT client) AS clients_seen,
              {_list(sums)}
            FROM folded_{span}
            GROUP BY window_start, window_end, GROUPING SETS (
              (department), (department, task), (department, task, client))
          )
        ) WHERE level <> 'client' OR {_complete(span)}"""


ROW_TYPES = columns_of(CallStatisticsRow)
"""The sink's columns, in the contract's order."""


def rows_table(name: str, kafka: Kafka) -> str:
    """The topic as a sink."""
    return f"""
        CREATE TEMPORARY TABLE {name} (
          message_key STRING,
          {column_list(ROW_TYPES)}
        ) WITH (
          {sink(kafka, topics.CALL_STATISTICS)},
          'key.format' = 'raw',
          'key.fields' = 'message_key',
          'value.format' = 'json',
          'value.fields-include' = 'EXCEPT_KEY'
        )"""


_SUMS = {
    column: SUMS[column]
    for column in (
        "requests",
        "latency_count",
        "latency_sum_us",
        "latency_min_us",
        "latency_max_us",
        "histogram",
        "errors_4xx",
        "errors_5xx",
        "aborted",
        "rate_limited",
        "bytes_received",
        "bytes_sent",
    )
}
"""What a row is made from, and how several make one."""


def _list(sums: dict[str, str]) -> str:
    return ", ".join(f"{aggregate} AS {column}" for column, aggregate in sums.items())


def _steps(span: str, settings: CallStatistics) -> tuple[tuple[str, str], ...]:
    if span == "1m":
        window = "TUMBLE(TABLE calls, DESCRIPTOR(cell_time), INTERVAL '1' MINUTE)"
        clients = clients_of(window, "HISTOGRAM_MERGE")
    else:
        minutes = f"SELECT cell_time, department, task, client, {', '.join(_SUMS)} FROM folded_1m"
        window = f"CUMULATE(({minutes}), DESCRIPTOR(cell_time), {SPANS[span].renewal}, {SPANS[span].length})"
        clients = clients_of(window, "SLICED_HISTOGRAM_MERGE")
    return (
        (f"clients_{span}", clients),
        (f"last_clients_{span}", last_clients(f"clients_{span}", settings)),
        (f"folded_{span}", folded(f"clients_{span}", f"last_clients_{span}")),
    )


def _complete(span: str) -> str:
    return f"TIMESTAMPDIFF(MINUTE, window_start, window_end) = {SPANS[span].minutes}"


def _columns(span: str) -> dict[str, str]:
    start = "CAST(UNIX_TIMESTAMP(DATE_FORMAT(window_start, 'yyyy-MM-dd HH:mm:ss')) AS BIGINT)"
    identity = "level || '|' || department || '|' || COALESCE(task, '') || '|' || COALESCE(client, '')"
    taken = (
        "requests",
        "errors_4xx",
        "errors_5xx",
        "aborted",
        "rate_limited",
        "bytes_received",
        "bytes_sent",
        "latency_count",
    )
    columns = {
        "message_key": "department || COALESCE('/' || task, '')",
        "id": f"{text(span + '|')} || {identity} || '|' || CAST({start} * 1000 AS STRING)",
        "span": text(span),
        "level": "level",
        "window_start": timestamp_text("window_start"),
        "window_end": timestamp_text("window_end"),
        "complete": _complete(span),
        "department": "department",
        "task": "task",
        "client": "client",
        "clients_seen": "clients_seen",
        "error_rate": "(errors_5xx + aborted) / CAST(requests AS DOUBLE)",
        "latency_avg_ms": "CASE WHEN latency_count > 0 "
        "THEN latency_sum_us / CAST(1000 * latency_count AS DOUBLE) END",
        "latency_max_ms": "latency_max_us / CAST(1000 AS DOUBLE)",
        "latency_p50_ms": "histogram.p50_ms",
        "latency_p99_ms": "histogram.p99_ms",
        "histogram": f"CAST(ROW(5, histogram.`zero`, histogram.`buckets`) AS {ROW_TYPES['histogram']})",
        **{name: name for name in taken},
    }
    return {name: columns[name] for name in ("message_key", *ROW_TYPES)}
