"""The job call-statistics: access-log lines in; calls of an hour and a day per department, task and client out.

    fates, counted     as in service-metrics: the same lines count
    client_lines       with the client that each names (x-client-id)
    cells              counted lines by minute x cluster x client: what follows are some thousand rows a minute
    attributed         cells with the gateway's decision read as department and task
    last_clients       by minute and task, the last client that keeps its name
    cells_1m           the same, with the clients past a task's number folded into __overflow__
    rows_1h, rows_1d   the minutes summed by hour and by day (UTC), once each is over

An hour is the exact merge of its minutes, a day of its hours, a task of its clients. A scan of its own: a client's
cell has little to do with a replica's, and the metrics' hot path stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.jobs import service_metrics
from tidegate.jobs.kafka_tables import sink, text, timestamp_text
from tidegate.jobs.service_metrics import SUMS
from tidegate.schemas import topics
from tidegate.schemas.rows import OVERFLOW
from tidegate.schemas.settings import Kafka, Settings
from tidegate.schemas.signal_rows import UNKNOWN_CLIENT
from tidegate.schemas.signal_settings import CallStatistics

if TYPE_CHECKING:
    from pyflink.table import StatementSet, StreamTableEnvironment

NAME = "call-statistics"
_CLIENT = r"^[A-Za-z0-9._@:/-]{1,128}\z"


SPANS = {"1h": "HOUR", "1d": "DAY"}
"""A window's length, as a unit of SQL intervals."""


@dataclass(frozen=True)
class Tables:
    """Names of the registered tables that the job reads and writes: a test registers others."""

    access_lines: str = "access_lines"
    rows: str = "call_statistics"


def build(environment: StreamTableEnvironment, settings: Settings, tables: Tables) -> StatementSet:
    """The whole job over registered tables, ready to execute."""
    for name, query in (
        ("fates", service_metrics.fates(tables.access_lines, settings.service_metrics)),
        ("counted", service_metrics.counted(settings.service_metrics)),
        ("client_lines", client_lines()),
        ("cells", service_metrics.cells("client_lines", "client", "MINUTE")),
        ("attributed", service_metrics.attributed(settings.access_log)),
        ("last_clients", last_clients(settings.call_statistics)),
        ("cells_1m", cells_1m()),
        ("rows_1h", rows("1h")),
        ("rows_1d", rows("1d")),
    ):
        environment.create_temporary_view(name, environment.sql_query(query))
    statements = environment.create_statement_set()
    for span in SPANS:
        statements.add_insert_sql(f"INSERT INTO {tables.rows} SELECT * FROM rows_{span}")
    return statements


def main(environment: StreamTableEnvironment, settings: Settings, *, bounded: bool) -> StatementSet:
    """The job on Kafka: registers the topics as tables, then builds.

    bounded: read what is in the topic now, close every window, end.
    """
    tables = Tables()
    own = settings.service_metrics.model_copy(
        update={"consumer_group": settings.call_statistics.consumer_group}
    )
    environment.execute_sql(
        service_metrics.access_lines_table(tables.access_lines, settings.kafka, own, bounded=bounded)
    )
    environment.execute_sql(rows_table(tables.rows, settings.kafka))
    return build(environment, settings, tables)


def client_lines() -> str:
    """Counted lines with their client: a label that callers choose, so only a name of a known form is kept."""
    return f"""
        SELECT
          *,
          CASE
            WHEN named IS NULL OR named IN ('', '-') THEN '{UNKNOWN_CLIENT}'
            WHEN REGEXP(named, '{_CLIENT}') THEN named
            ELSE '{OVERFLOW}'
          END AS client
        FROM (SELECT *, JSON_VALUE(DECODE(line, 'UTF-8'), '$.client') AS named FROM counted)"""


def last_clients(settings: CallStatistics) -> str:
    """By minute and task, the last client that keeps its name: in the order of names, as many as are allowed."""
    return f"""
        SELECT window_start, window_end, department, task, replica AS client
        FROM (
          SELECT
            *,
            ROW_NUMBER() OVER (PARTITION BY window_start, window_end, department, task ORDER BY replica) AS nth
          FROM (
            SELECT window_start, window_end, department, task, replica
            FROM TABLE(TUMBLE(TABLE attributed, DESCRIPTOR(cell_time), INTERVAL '1' MINUTE))
            WHERE replica <> '{OVERFLOW}'
            GROUP BY window_start, window_end, department, task, replica
          )
        ) WHERE nth = {settings.max_clients_per_task}"""


def cells_1m() -> str:
    """The cells of a minute, with the clients past the last one in __overflow__."""
    return f"""
        SELECT
          cell.cell_time,
          cell.department,
          cell.task,
          CASE WHEN cell.replica > last_client.client THEN '{OVERFLOW}' ELSE cell.replica END AS client,
          {", ".join(f"cell.{column}" for column in SUMS)}
        FROM (
          SELECT * FROM TABLE(TUMBLE(TABLE attributed, DESCRIPTOR(cell_time), INTERVAL '1' MINUTE))
        ) AS cell
        LEFT JOIN last_clients AS last_client
        ON cell.window_start = last_client.window_start AND cell.window_end = last_client.window_end
          AND cell.department = last_client.department AND cell.task = last_client.task"""


def rows(span: str) -> str:
    """The rows of one span, in the contract's columns (schemas.signal_rows.CallStatisticsRow)."""
    columns = ", ".join(f"{expression} AS `{column}`" for column, expression in _columns(span).items())
    sums = SUMS | {"histogram": "HISTOGRAM_SUMMARY(histogram, latency_min_us, latency_max_us)"}
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
              {", ".join(f"{aggregate} AS {column}" for column, aggregate in sums.items())}
            FROM TABLE(TUMBLE(TABLE cells_1m, DESCRIPTOR(cell_time), INTERVAL '1' {SPANS[span]}))
            GROUP BY window_start, window_end, GROUPING SETS (
              (department), (department, task), (department, task, client))
          )
        )"""


ROW_TYPES = {
    "id": "STRING",
    "span": "STRING",
    "level": "STRING",
    "window_start": "STRING",
    "window_end": "STRING",
    "department": "STRING",
    "task": "STRING",
    "client": "STRING",
    "clients_seen": "BIGINT",
    "requests": "BIGINT",
    "errors_4xx": "BIGINT",
    "errors_5xx": "BIGINT",
    "aborted": "BIGINT",
    "rate_limited": "BIGINT",
    "error_rate": "DOUBLE",
    "bytes_received": "BIGINT",
    "bytes_sent": "BIGINT",
    "latency_count": "BIGINT",
    "latency_avg_ms": "DOUBLE",
    "latency_max_ms": "DOUBLE",
    "latency_p50_ms": "DOUBLE",
    "latency_p99_ms": "DOUBLE",
    "histogram": service_metrics.ROW_TYPES["histogram"],
}
"""The sink's columns: names and order are those of schemas.signal_rows.CallStatisticsRow (a test holds that)."""


def rows_table(name: str, kafka: Kafka) -> str:
    """The topic as a sink."""
    columns = ",\n          ".join(f"`{column}` {sql_type}" for column, sql_type in ROW_TYPES.items())
    return f"""
        CREATE TEMPORARY TABLE {name} (
          message_key STRING,
          {columns}
        ) WITH (
          {sink(kafka, topics.CALL_STATISTICS)},
          'key.format' = 'raw',
          'key.fields' = 'message_key',
          'value.format' = 'json',
          'value.fields-include' = 'EXCEPT_KEY'
        )"""


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
