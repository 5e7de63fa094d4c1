"""The SQL columns of a row: those of its model. Written out here, since a job's state and its output depend on them."""

from __future__ import annotations

import re

import pytest
from pydantic import BaseModel

from tidegate.jobs import call_statistics, service_metrics
from tidegate.jobs.kafka_tables import columns_of, dead_letters_table
from tidegate.schemas import topics
from tidegate.schemas.rows.accounting import LineCount
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
from tidegate.schemas.rows.signals import CallStatisticsRow
from tidegate.schemas.settings import Kafka

HISTOGRAM = "ROW<`scale` INT, `zero` BIGINT, `buckets` MAP<STRING, BIGINT>>"
SERVICE_METRICS = {
    "id": "STRING",
    "span": "STRING",
    "level": "STRING",
    "window_start": "STRING",
    "window_end": "STRING",
    "department": "STRING",
    "task": "STRING",
    "version": "STRING",
    "replica": "STRING",
    "requests": "BIGINT",
    "qps": "DOUBLE",
    "latency_count": "BIGINT",
    "latency_avg_ms": "DOUBLE",
    "latency_min_ms": "DOUBLE",
    "latency_max_ms": "DOUBLE",
    "latency_p50_ms": "DOUBLE",
    "latency_p90_ms": "DOUBLE",
    "latency_p95_ms": "DOUBLE",
    "latency_p99_ms": "DOUBLE",
    "upstream_service_time_avg_ms": "DOUBLE",
    "upstream_service_time_max_ms": "DOUBLE",
    "errors_4xx": "BIGINT",
    "errors_5xx": "BIGINT",
    "aborted": "BIGINT",
    "rate_limited": "BIGINT",
    "error_rate": "DOUBLE",
    "rate_limited_ratio": "DOUBLE",
    "response_flags": "MAP<STRING, BIGINT>",
    "bytes_received": "BIGINT",
    "bytes_sent": "BIGINT",
    "apdex": "DOUBLE",
    "replicas_seen": "BIGINT",
    "qps_per_replica": "DOUBLE",
    "histogram": HISTOGRAM,
    "upgraded": "BIGINT",
    "first_byte_count": "BIGINT",
    "first_byte_avg_ms": "DOUBLE",
    "first_byte_min_ms": "DOUBLE",
    "first_byte_max_ms": "DOUBLE",
    "first_byte_p50_ms": "DOUBLE",
    "first_byte_p90_ms": "DOUBLE",
    "first_byte_p95_ms": "DOUBLE",
    "first_byte_p99_ms": "DOUBLE",
    "first_byte_histogram": HISTOGRAM,
    "stream_ms_per_token": "DOUBLE",
    "output_tokens_per_second": "DOUBLE",
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "concurrency": "DOUBLE",
    "retries": "BIGINT",
    "grpc_status": "MAP<STRING, BIGINT>",
    "exemplar": "ROW<`request_id` STRING, `trace_id` STRING, `latency_ms` DOUBLE>",
}
CALL_STATISTICS = {
    "id": "STRING",
    "span": "STRING",
    "level": "STRING",
    "window_start": "STRING",
    "window_end": "STRING",
    "complete": "BOOLEAN",
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
    "histogram": HISTOGRAM,
}


def declared(statement: str) -> dict[str, str]:
    """The columns that a CREATE TABLE declares."""
    return dict(re.findall(r"`(\w+)` ([A-Z].*?),?(?=\n)", statement))


@pytest.mark.parametrize(
    ("model", "columns"), [(ServiceMetricsRow, SERVICE_METRICS), (CallStatisticsRow, CALL_STATISTICS)]
)
def test_the_columns_of_a_row_are_its_models(model: type[BaseModel], columns: dict[str, str]) -> None:
    assert list(columns_of(model).items()) == list(columns.items())


@pytest.mark.parametrize(
    ("statement", "columns"),
    [
        (service_metrics.rows_table("t", Kafka(), topics.SERVICE_METRICS_1S), SERVICE_METRICS),
        (call_statistics.rows_table("t", Kafka()), CALL_STATISTICS),
        (
            dead_letters_table("t", Kafka()),
            {
                "id": "STRING",
                "topic": "STRING",
                "partition": "INT",
                "offset": "BIGINT",
                "reason": "STRING",
                "excerpt": "STRING",
                "seen_at": "STRING",
            },
        ),
        (
            service_metrics.line_counts_table("t", Kafka()),
            {
                "id": "STRING",
                "topic": "STRING",
                "kind": "STRING",
                "lines": "BIGINT",
                "names": "ARRAY<STRING>",
                "updated_at": "STRING",
            },
        ),
    ],
)
def test_a_sink_declares_the_columns_of_its_row(statement: str, columns: dict[str, str]) -> None:
    assert list(declared(statement).items()) == list(columns.items())


def test_line_counts_are_kept_by_kind() -> None:
    assert "PRIMARY KEY (kind) NOT ENFORCED" in service_metrics.line_counts_table("t", Kafka())
    assert "kind" in columns_of(LineCount)


def test_a_field_without_a_sql_type_is_named() -> None:
    class Odd(BaseModel):
        value: int | str

    with pytest.raises(TypeError, match=r"value: no SQL type"):
        columns_of(Odd)
