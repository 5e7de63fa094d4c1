"""The job service-metrics: access-log lines in, service-metrics rows of a second and a minute out.

Each step is a view, and the topic is scanned once:

    access_lines   one row a line, decoded in the source (format tidegate-access-log)
    fates          each line's fate: counted, late, dead, skipped, or of a TCP connection
    cells          counted lines by second x cluster x host: some thousand rows a second from here on
    attributed     cells with the gateway's decision read as department, task, version and replica
    cells_1s       the same, with the tasks past a department's number folded into __overflow__
    cells_1m       these summed by minute
    rows_SPAN      the four levels of one span's cells, by GROUPING SETS

What is computed from a line stays an integer (counts, microseconds, histogram buckets) until the last step, so that a
minute is exactly the sum of its seconds, in whatever order lines come.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from tidegate.jobs.kafka_tables import (
    column_list,
    columns_of,
    dead_letters_table,
    properties,
    sink,
    text,
    timestamp_text,
)
from tidegate.schemas import topics
from tidegate.schemas.dead_letters import EXCERPT_CHARACTERS
from tidegate.schemas.rows.accounting import LineCount
from tidegate.schemas.rows.service_metrics import OVERFLOW, ServiceMetricsRow
from tidegate.schemas.settings import AccessLog, Kafka, ServiceMetrics, Settings
from tidegate.schemas.settings.access_log import CLUSTER_KEY

if TYPE_CHECKING:
    from pyflink.table import StatementSet, StreamTableEnvironment

NAME = "service-metrics"
WRITER = NAME
OPTIONS: dict[str, str] = {}
"""It has no Python functions."""


class Span(NamedTuple):
    """A window's length: as a unit of SQL intervals, and in seconds."""

    unit: str
    seconds: int


SPANS = {"1s": Span("SECOND", 1), "1m": Span("MINUTE", 60)}


_SKIPPED, _DEAD, _TCP_LINE = 1, 2, 3  # AccessLogLine.java: kind
_OK, _4XX, _5XX, _ABORTED, _RATE_LIMITED = 0, 1, 2, 3, 4  # Outcome.java
_COUNTED, _LATE, _DEAD_LETTER, _PERIODIC, _TCP = 0, 1, 2, 3, 4  # fates


def build(environment: StreamTableEnvironment, settings: Settings) -> StatementSet:
    """The whole job over registered tables, ready to execute."""
    topic = settings.kafka.topic(topics.ACCESS_LOGS)
    for name, query in (
        ("fates", fates(settings.service_metrics)),
        ("counted", counted(settings.service_metrics)),
        ("uncounted", f"SELECT * FROM fates WHERE fate <> {_COUNTED}"),
        ("cells", cells()),
        ("attributed", attributed(settings.access_log)),
        ("last_tasks", last_tasks(settings.access_log)),
        ("cells_1s", cells_1s()),
        ("cells_1m", cells_1m()),
        ("rows_1s", rows("1s")),
        ("rows_1m", rows("1m")),
    ):
        environment.create_temporary_view(name, environment.sql_query(query))
    statements = environment.create_statement_set()
    for statement in (
        "INSERT INTO service_metrics_1s SELECT * FROM rows_1s",
        "INSERT INTO service_metrics_1m SELECT * FROM rows_1m",
        f"INSERT INTO late_lines {late(topic)}",
        f"INSERT INTO dead_letters {dead_letters(topic)}",
        f"INSERT INTO line_counts {line_counts(topic)}",
    ):
        statements.add_insert_sql(statement)
    return statements


def main(environment: StreamTableEnvironment, settings: Settings, *, bounded: bool) -> StatementSet:
    """The job on Kafka: registers the topics as tables, then builds.

    bounded: read what is in the topic now, close every window, end.
    """
    kafka = settings.kafka
    for statement in (
        access_lines_table(
            "access_lines",
            kafka,
            settings.service_metrics,
            bounded=bounded,
            name_key=settings.access_log.name_key,
        ),
        rows_table("service_metrics_1s", kafka, topics.SERVICE_METRICS_1S),
        rows_table("service_metrics_1m", kafka, topics.SERVICE_METRICS_1M),
        late_table("late_lines", kafka),
        dead_letters_table("dead_letters", kafka),
        line_counts_table("line_counts", kafka),
    ):
        environment.execute_sql(statement)
    return build(environment, settings)


# Steps


def fates(settings: ServiceMetrics) -> str:
    """Each line with its fate. A line is late once the watermark has closed its second."""
    return f"""
        SELECT
          *,
          CASE
            WHEN kind = {_DEAD} OR {_is_ahead(settings)} THEN {_DEAD_LETTER}
            WHEN kind = {_SKIPPED} THEN {_PERIODIC}
            WHEN kind = {_TCP_LINE} THEN {_TCP}
            WHEN closes_at <= CURRENT_WATERMARK(event_time) THEN {_LATE}
            ELSE {_COUNTED}
          END AS fate
        FROM access_lines"""


def counted(settings: ServiceMetrics) -> str:
    """The lines that count, with their share of the latency figures, of the streams' speed and of Apdex.

    Apdex in halves: 2 for a satisfied request, 1 for a tolerating one, 0 for a frustrated, failed or limited one. An
    upgraded connection has neither a duration nor an Apdex.
    """
    target_us = settings.apdex_target_ms * 1000
    streamed = (
        "upstream_host IS NOT NULL AND output_tokens IS NOT NULL AND duration_us >= response_duration_us"
    )
    return f"""
        SELECT
          *,
          CASE WHEN upstream_host IS NOT NULL THEN duration_us END AS latency_us,
          CASE WHEN upstream_host IS NOT NULL THEN response_duration_us END AS first_byte_us,
          CASE WHEN {streamed} THEN duration_us - response_duration_us END AS stream_us,
          CASE WHEN {streamed} THEN output_tokens END AS stream_tokens,
          CASE WHEN upgraded AND outcome <> {_RATE_LIMITED} THEN 1 ELSE 0 END AS upgrades,
          CASE
            WHEN outcome > {_4XX} OR duration_us IS NULL THEN 0
            WHEN duration_us <= {target_us} THEN 2
            WHEN duration_us <= {4 * target_us} THEN 1
            ELSE 0
          END AS apdex_halves
        FROM fates WHERE fate = {_COUNTED}"""


def cells(lines: str = "counted", host: str = "upstream_host", unit: str = "SECOND") -> str:
    """Counted lines summed by second, upstream cluster and upstream host; or by another column in the host's place.

    Grouped by the texts as they stand in the line: to read them once a cell is a hundred times cheaper than once
    a line.
    """
    group = host if host == "upstream_host" else f"{host} AS upstream_host"
    return f"""
        SELECT
          window_time AS cell_time,
          upstream_cluster,
          {group},
          COUNT(*) AS requests,
          COUNT(latency_us) AS latency_count,
          SUM(latency_us) AS latency_sum_us,
          MIN(latency_us) AS latency_min_us,
          MAX(latency_us) AS latency_max_us,
          HISTOGRAM_OF(latency_us) AS histogram,
          COUNT(service_time_us) AS service_time_count,
          SUM(service_time_us) AS service_time_sum_us,
          MAX(service_time_us) AS service_time_max_us,
          SUM(CASE WHEN outcome = {_4XX} THEN 1 ELSE 0 END) AS errors_4xx,
          SUM(CASE WHEN outcome = {_5XX} THEN 1 ELSE 0 END) AS errors_5xx,
          SUM(CASE WHEN outcome = {_ABORTED} THEN 1 ELSE 0 END) AS aborted,
          SUM(CASE WHEN outcome = {_RATE_LIMITED} THEN 1 ELSE 0 END) AS rate_limited,
          FLAG_COUNTS(response_flags) AS response_flags,
          SUM(bytes_received) AS bytes_received,
          SUM(bytes_sent) AS bytes_sent,
          SUM(apdex_halves) AS apdex_halves,
          SUM(upgrades) AS upgraded,
          COUNT(first_byte_us) AS first_byte_count,
          SUM(first_byte_us) AS first_byte_sum_us,
          MIN(first_byte_us) AS first_byte_min_us,
          MAX(first_byte_us) AS first_byte_max_us,
          HISTOGRAM_OF(first_byte_us) AS first_byte_histogram,
          SUM(duration_us) AS duration_sum_us,
          SUM(stream_us) AS stream_sum_us,
          SUM(stream_tokens) AS stream_tokens,
          SUM(input_tokens) AS input_tokens,
          SUM(output_tokens) AS output_tokens,
          SUM(retries) AS retries,
          FLAG_COUNTS(grpc_status) AS grpc_status,
          EXEMPLAR_OF(latency_us, request_id, traceparent) AS exemplar
        FROM TABLE(TUMBLE(TABLE {lines}, DESCRIPTOR(event_time), INTERVAL '1' {unit}))
        GROUP BY window_start, window_end, window_time, upstream_cluster, {host}"""


def attributed(settings: AccessLog, replica: str = "REPLICA_OF(upstream_host)") -> str:
    """Cells with department, task, version and replica, as the gateway decided them (IdentityTable.java).

    folded: whether the form of the name folded the department, the task or the version into __overflow__.
    """
    table = json.dumps(settings.model_dump(include={"service_prefix", "departments", "name_pattern"}))
    return f"""
        SELECT cells.*, department, task, version, folded, {replica} AS replica
        FROM cells, LATERAL TABLE(IDENTITY_OF(upstream_cluster, {text(table)}))
          AS decision(department, task, version, folded)"""


def last_tasks(settings: AccessLog) -> str:
    """By second and department, the last task that keeps its name: in the order of names, as many as are allowed.

    No row where the department has fewer. By name and not by arrival or size, so that a replay folds the same tasks
    and a task doesn't come and go with its neighbours' traffic.
    """
    return f"""
        SELECT window_start, window_end, department, task
        FROM (
          SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, department ORDER BY task) AS nth
          FROM (
            SELECT window_start, window_end, department, task
            FROM TABLE(TUMBLE(TABLE attributed, DESCRIPTOR(cell_time), INTERVAL '1' SECOND))
            WHERE task <> '{OVERFLOW}'
            GROUP BY window_start, window_end, department, task
          )
        ) WHERE nth = {settings.max_tasks_per_department}"""


def cells_1s() -> str:
    """The cells of a second, with the tasks past the last one in __overflow__.

    folded_name: what went into __overflow__: the gateway's name, or the task past the last one; null for other cells.
    """
    return f"""
        SELECT
          cell.cell_time,
          cell.department,
          CASE WHEN cell.task > last_task.task THEN '{OVERFLOW}' ELSE cell.task END AS task,
          CASE
            WHEN cell.folded THEN cell.upstream_cluster
            WHEN cell.task > last_task.task THEN cell.department || '/' || cell.task
          END AS folded_name,
          {", ".join(f"cell.{column}" for column in ("version", "replica", *SUMS))}
        FROM (
          SELECT * FROM TABLE(TUMBLE(TABLE attributed, DESCRIPTOR(cell_time), INTERVAL '1' SECOND))
        ) AS cell
        LEFT JOIN last_tasks AS last_task
        ON cell.window_start = last_task.window_start AND cell.window_end = last_task.window_end
          AND cell.department = last_task.department"""


def cells_1m() -> str:
    """The cells of a minute. Its levels are made from these, once a minute, and not from every second's cells."""
    return f"""
        SELECT window_time AS cell_time, department, task, version, replica, {_sums()}
        FROM TABLE(TUMBLE(TABLE cells_1s, DESCRIPTOR(cell_time), INTERVAL '1' MINUTE))
        GROUP BY window_start, window_end, window_time, department, task, version, replica"""


def rows(span: str) -> str:
    """The service-metrics rows of one span, in the columns of ServiceMetricsRow."""
    return f"""
        SELECT {", ".join(f"{expression} AS `{column}`" for column, expression in _row_columns(span).items())}
        FROM (
          SELECT
            *,
            CASE
              WHEN whole_task = 1 THEN 'department'
              WHEN whole_version = 1 THEN 'task'
              WHEN whole_replica = 1 THEN 'version'
              ELSE 'replica'
            END AS level
          FROM ({_levels(span)})
        )
        WHERE level IN ('department', 'task')
          OR (level = 'version' AND version IS NOT NULL)
          OR (level = 'replica' AND replica IS NOT NULL)"""


def late(topic: str) -> str:
    """Late lines, whole, with where they stood as the id."""
    return f"""
        SELECT line, MAP['id', ENCODE({_position(topic)}, 'UTF-8')] AS headers
        FROM uncounted WHERE fate = {_LATE}"""


def dead_letters(topic: str) -> str:
    """One letter for each line that can't be read. It was seen when Kafka got it, so a replay gives the same row."""
    return f"""
        SELECT
          {_position(topic)} || '|{WRITER}' AS id,
          {text(topic)} AS topic,
          kafka_partition AS `partition`,
          kafka_offset AS `offset`,
          COALESCE(reason, 'start_time: the request would end in the future') AS reason,
          SUBSTRING(DECODE(line, 'UTF-8') FROM 1 FOR {EXCERPT_CHARACTERS}) AS excerpt,
          {timestamp_text("kafka_time")} AS seen_at
        FROM uncounted WHERE fate = {_DEAD_LETTER}"""


def line_counts(topic: str) -> str:
    """How many lines met which fate, since the job's state began.

    Counted and folded lines are summed by second, and with the folded ones come the first names that folded. The other
    fates are one update a line, which costs no more than the letter or the late line that is written anyway.
    """
    no_names = "CAST(NULL AS ARRAY<STRING>)"
    return f"""
        SELECT
          {text(topic)} || '|' || kind AS id,
          {text(topic)} AS topic,
          kind,
          lines,
          names,
          updated_at
        FROM (
          SELECT
            kind, SUM(lines) AS lines, FIRST_NAMES_MERGE(names) AS names, MAX(updated_at) AS updated_at
          FROM (
            SELECT
              'counted' AS kind,
              SUM(requests) AS lines,
              {no_names} AS names,
              {timestamp_text("window_end")} AS updated_at
            FROM TABLE(TUMBLE(TABLE attributed, DESCRIPTOR(cell_time), INTERVAL '1' SECOND))
            GROUP BY window_start, window_end
            UNION ALL
            SELECT
              'folded' AS kind,
              SUM(requests) AS lines,
              FIRST_NAMES(folded_name) AS names,
              {timestamp_text("window_end")} AS updated_at
            FROM TABLE(TUMBLE(TABLE cells_1s, DESCRIPTOR(cell_time), INTERVAL '1' SECOND))
            WHERE folded_name IS NOT NULL
            GROUP BY window_start, window_end
            UNION ALL
            SELECT
              CASE fate
                WHEN {_LATE} THEN 'late' WHEN {_DEAD_LETTER} THEN 'dead' WHEN {_TCP} THEN 'tcp' ELSE 'skipped'
              END AS kind,
              CAST(1 AS BIGINT) AS lines,
              {no_names} AS names,
              {timestamp_text("kafka_time")} AS updated_at
            FROM uncounted
          ) GROUP BY kind
        )"""


# Tables


def access_lines_table(
    name: str,
    kafka: Kafka,
    settings: ServiceMetrics,
    *,
    bounded: bool,
    client: bool = False,
    name_key: str = CLUSTER_KEY,
) -> str:
    """The topic of access-log lines as a table whose columns are what AccessLogLine.java decodes.

    client: with the client that a line names, which is decoded only then. name_key: the key whose text is the column
    upstream_cluster, where a line has it.
    """
    delay = _interval(settings.watermark_delay_seconds)
    # In a bounded run no partition is silent, it is at its end; a wait would only make slow reads look silent.
    idle = (
        ""
        if bounded
        else f"'scan.watermark.idle-timeout' = '{int(settings.idle_partition_seconds * 1000)} ms',"
    )
    start = "earliest-offset" if bounded else "group-offsets"
    end = "'scan.bounded.mode' = 'latest-offset'," if bounded else ""
    return f"""
        CREATE TEMPORARY TABLE {name} (
          line BYTES,
          kind TINYINT,
          reason STRING,
          event_time TIMESTAMP_LTZ(3),
          closes_at TIMESTAMP_LTZ(3),
          upstream_cluster STRING,
          upstream_host STRING,
          duration_us BIGINT,
          service_time_us BIGINT,
          outcome TINYINT,
          response_flags STRING,
          bytes_received BIGINT,
          bytes_sent BIGINT,
          response_duration_us BIGINT,
          grpc_status STRING,
          retries BIGINT,
          input_tokens BIGINT,
          output_tokens BIGINT,
          upgraded BOOLEAN,
          request_id STRING,
          traceparent STRING,
          {"client STRING," if client else ""}
          kafka_partition INT METADATA FROM 'partition' VIRTUAL,
          kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
          kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
          WATERMARK FOR event_time AS
            CASE WHEN {_is_ahead(settings)} THEN TO_TIMESTAMP_LTZ(0, 3) ELSE event_time - {delay} END
        ) WITH (
          'connector' = 'kafka',
          'topic' = {text(kafka.topic(topics.ACCESS_LOGS))},
          {properties(kafka)},
          'properties.group.id' = {text(settings.consumer_group)},
          'properties.auto.offset.reset' = 'earliest',
          'scan.startup.mode' = '{start}',
          {end}
          {idle}
          'scan.topic-partition-discovery.interval' = '1 min',
          'format' = 'tidegate-access-log',
          'tidegate-access-log.name-key' = {text(name_key)}
        )"""


def rows_table(name: str, kafka: Kafka, topic: topics.Topic) -> str:
    """A topic of service-metrics rows as a sink."""
    return f"""
        CREATE TEMPORARY TABLE {name} (
          message_key STRING,
          {column_list(ROW_TYPES)}
        ) WITH (
          {sink(kafka, topic)},
          'key.format' = 'raw',
          'key.fields' = 'message_key',
          'value.format' = 'json',
          'value.fields-include' = 'EXCEPT_KEY'
        )"""


def late_table(name: str, kafka: Kafka) -> str:
    """The topic of late lines as a sink: the untouched line, its position in a header `id`."""
    return f"""
        CREATE TEMPORARY TABLE {name} (
          line BYTES,
          headers MAP<STRING, BYTES> METADATA
        ) WITH ({sink(kafka, topics.LATE)}, 'format' = 'raw')"""


def line_counts_table(name: str, kafka: Kafka) -> str:
    """The compacted topic of line counts as a sink."""
    return f"""
        CREATE TEMPORARY TABLE {name} (
          {column_list(columns_of(LineCount))},
          PRIMARY KEY ({", ".join(topics.LINE_COUNTS.key)}) NOT ENFORCED
        ) WITH (
          'connector' = 'upsert-kafka',
          'topic' = {text(kafka.topic(topics.LINE_COUNTS))},
          {properties(kafka)},
          'key.format' = 'raw',
          'value.format' = 'json'
        )"""


ROW_TYPES = columns_of(ServiceMetricsRow)
"""The sink's columns, in the contract's order."""


SUMS = {
    "requests": "SUM(requests)",
    "latency_count": "SUM(latency_count)",
    "latency_sum_us": "SUM(latency_sum_us)",
    "latency_min_us": "MIN(latency_min_us)",
    "latency_max_us": "MAX(latency_max_us)",
    "histogram": "HISTOGRAM_MERGE(histogram)",
    "service_time_count": "SUM(service_time_count)",
    "service_time_sum_us": "SUM(service_time_sum_us)",
    "service_time_max_us": "MAX(service_time_max_us)",
    "errors_4xx": "SUM(errors_4xx)",
    "errors_5xx": "SUM(errors_5xx)",
    "aborted": "SUM(aborted)",
    "rate_limited": "SUM(rate_limited)",
    "response_flags": "FLAG_COUNTS_MERGE(response_flags)",
    "bytes_received": "SUM(bytes_received)",
    "bytes_sent": "SUM(bytes_sent)",
    "apdex_halves": "SUM(apdex_halves)",
    "upgraded": "SUM(upgraded)",
    "first_byte_count": "SUM(first_byte_count)",
    "first_byte_sum_us": "SUM(first_byte_sum_us)",
    "first_byte_min_us": "MIN(first_byte_min_us)",
    "first_byte_max_us": "MAX(first_byte_max_us)",
    "first_byte_histogram": "HISTOGRAM_MERGE(first_byte_histogram)",
    "duration_sum_us": "SUM(duration_sum_us)",
    "stream_sum_us": "SUM(stream_sum_us)",
    "stream_tokens": "SUM(stream_tokens)",
    "input_tokens": "SUM(input_tokens)",
    "output_tokens": "SUM(output_tokens)",
    "retries": "SUM(retries)",
    "grpc_status": "FLAG_COUNTS_MERGE(grpc_status)",
    "exemplar": "EXEMPLAR_MERGE(exemplar)",
}
"""What a cell holds, and how several cells make one."""


# Parts


def _levels(span: str) -> str:
    sums = _sums(
        histogram=_summary("histogram", "latency"),
        first_byte_histogram=_summary("first_byte_histogram", "first_byte"),
    )
    return f"""
        SELECT
          window_start, window_end, department, task, version, replica,
          GROUPING(task) AS whole_task, GROUPING(version) AS whole_version, GROUPING(replica) AS whole_replica,
          {sums},
          COUNT(DISTINCT task || '/' || replica) AS replicas_seen
        FROM TABLE(TUMBLE(TABLE cells_{span}, DESCRIPTOR(cell_time), INTERVAL '1' {SPANS[span].unit}))
        GROUP BY window_start, window_end, GROUPING SETS (
          (department),
          (department, task),
          (department, task, version),
          (department, task, version, replica)
        )"""


def _summary(histogram: str, name: str) -> str:
    return f"HISTOGRAM_SUMMARY({histogram}, {name}_min_us, {name}_max_us)"


def _sums(**others: str) -> str:
    """The sums of several cells; `others` replace the aggregate of a column."""
    columns = SUMS | others
    return ", ".join(f"{aggregate} AS {column}" for column, aggregate in columns.items())


def _row_columns(span: str) -> dict[str, str]:
    seconds = SPANS[span].seconds
    start_ms = "CAST(UNIX_TIMESTAMP(DATE_FORMAT(window_start, 'yyyy-MM-dd HH:mm:ss')) AS BIGINT) * 1000"
    parts = ("task", "version", "replica")
    identity = " || '|' || ".join(["level", "department", *(f"COALESCE({part}, '')" for part in parts)])
    columns = {
        "message_key": "department || COALESCE('/' || task, '')",
        "id": f"'{span}|' || {identity} || '|' || CAST({start_ms} AS STRING)",
        "span": f"'{span}'",
        "level": "level",
        "window_start": timestamp_text("window_start"),
        "window_end": timestamp_text("window_end"),
        "department": "department",
        "task": "task",
        "version": "version",
        "replica": "replica",
        "requests": "requests",
        "qps": f"requests / CAST({seconds} AS DOUBLE)",
        **_distribution("latency", "histogram"),
        "upstream_service_time_avg_ms": _average_ms("service_time"),
        "upstream_service_time_max_ms": _us_to_ms("service_time_max_us"),
        "errors_4xx": "errors_4xx",
        "errors_5xx": "errors_5xx",
        "aborted": "aborted",
        "rate_limited": "rate_limited",
        "error_rate": "(errors_5xx + aborted) / CAST(requests AS DOUBLE)",
        "rate_limited_ratio": "rate_limited / CAST(requests AS DOUBLE)",
        "response_flags": "response_flags",
        "bytes_received": "bytes_received",
        "bytes_sent": "bytes_sent",
        "apdex": "CASE WHEN requests > rate_limited + upgraded "
        "THEN apdex_halves / CAST(2 * (requests - rate_limited - upgraded) AS DOUBLE) END",
        "replicas_seen": "replicas_seen",
        "qps_per_replica": "CASE WHEN replicas_seen > 0 "
        f"THEN requests / CAST({seconds} * replicas_seen AS DOUBLE) END",
        "histogram": f"CAST({_buckets('histogram')} AS {ROW_TYPES['histogram']})",
        "upgraded": "upgraded",
        **_distribution("first_byte", "first_byte_histogram"),
        "first_byte_histogram": f"CASE WHEN first_byte_count > 0 THEN CAST({_buckets('first_byte_histogram')} "
        f"AS {ROW_TYPES['first_byte_histogram']}) END",
        "stream_ms_per_token": "CASE WHEN stream_tokens > 0 "
        "THEN stream_sum_us / (CAST(1000 AS DOUBLE) * stream_tokens) END",
        "output_tokens_per_second": "CASE WHEN stream_sum_us > 0 "
        "THEN CAST(1000000 AS DOUBLE) * stream_tokens / stream_sum_us END",
        "input_tokens": "input_tokens",
        "output_tokens": "output_tokens",
        "concurrency": f"duration_sum_us / CAST({seconds * 1_000_000} AS DOUBLE)",
        "retries": "retries",
        "grpc_status": "grpc_status",
        "exemplar": "CASE WHEN exemplar IS NOT NULL THEN CAST(ROW(exemplar.request_id, exemplar.trace_id, "
        f"exemplar.latency_us / CAST(1000 AS DOUBLE)) AS {ROW_TYPES['exemplar']}) END",
    }
    return {name: columns[name] for name in ("message_key", *ROW_TYPES)}


def _distribution(name: str, histogram: str) -> dict[str, str]:
    """The columns of a time's count, mean, extremes and percentiles."""
    return {
        f"{name}_count": f"{name}_count",
        f"{name}_avg_ms": _average_ms(name),
        f"{name}_min_ms": _us_to_ms(f"{name}_min_us"),
        f"{name}_max_ms": _us_to_ms(f"{name}_max_us"),
        **{
            f"{name}_{quantile}_ms": f"{histogram}.{quantile}_ms" for quantile in ("p50", "p90", "p95", "p99")
        },
    }


def _buckets(histogram: str) -> str:
    return f"ROW(5, {histogram}.`zero`, {histogram}.`buckets`)"


def _average_ms(name: str) -> str:
    return f"CASE WHEN {name}_count > 0 THEN {name}_sum_us / CAST(1000 * {name}_count AS DOUBLE) END"


def _us_to_ms(column: str) -> str:
    return f"{column} / CAST(1000 AS DOUBLE)"


def _is_ahead(settings: ServiceMetrics) -> str:
    return f"event_time > kafka_time + {_interval(settings.max_ahead_seconds)}"


def _position(topic: str) -> str:
    where = "CAST(kafka_partition AS STRING) || '-' || CAST(kafka_offset AS STRING)"
    return f"{text(topic + '-')} || {where}"


def _interval(seconds: float) -> str:
    """A SQL interval of at most 99 days, to the millisecond."""
    ms = round(seconds * 1000)
    minutes, hours, days = ms // 60_000, ms // 3_600_000, ms // 86_400_000
    clock = f"{hours % 24:02d}:{minutes % 60:02d}:{ms % 60_000 / 1000:06.3f}"
    return f"INTERVAL '{days} {clock}' DAY TO SECOND(3)"
