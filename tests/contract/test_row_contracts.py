"""The row models, their JSON Schemas and their index templates say the same, for every topic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from typer.testing import CliRunner

from tests.support.lines import aborted, line, rate_limited, record, unrouted
from tidegate.schemas import topics
from tidegate.schemas.access_log import ACCESS_LOG_FORMAT
from tidegate.schemas.autoscaling_policy import AutoscalingPolicy, Targets
from tidegate.schemas.elasticsearch import (
    IDENTITY,
    INDEX_CONTRACTS,
    OUTCOME,
    Features,
    IndexContract,
    contract_of,
    mappings,
)
from tidegate.schemas.json_schema import DIALECT, file_name, schema_id, topic_schema
from tidegate.schemas.rows.accounting import DeadLetter, LineCount
from tidegate.schemas.rows.resources import TaskProfile
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
from tidegate.schemas.timestamps import from_epoch_ms, to_text
from tidegate.schemas.topics import ALL_TOPICS, RowTopic

START_MS = 1_795_514_400_000


def validator(topic: RowTopic) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(
        topic_schema(topic), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def errors(topic: RowTopic, message: object) -> list[str]:
    return [error.message for error in validator(topic).iter_errors(message)]


def service_row(**fields: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": ServiceMetricsRow.id_of("1s", "task", "vision", "chat", None, None, START_MS),
        "span": "1s",
        "level": "task",
        "window_start": to_text(from_epoch_ms(START_MS)),
        "window_end": to_text(from_epoch_ms(START_MS + 1000)),
        "department": "vision",
        "task": "chat",
        "version": None,
        "replica": None,
        "requests": 4,
        "qps": 4.0,
        "latency_count": 2,
        "latency_avg_ms": 15.0,
        "latency_min_ms": 10.0,
        "latency_max_ms": 20.0,
        "latency_p50_ms": 10.0,
        "latency_p90_ms": 20.0,
        "latency_p95_ms": 20.0,
        "latency_p99_ms": 20.0,
        "upstream_service_time_avg_ms": None,
        "upstream_service_time_max_ms": None,
        "errors_4xx": 1,
        "errors_5xx": 0,
        "aborted": 0,
        "rate_limited": 1,
        "error_rate": 0.0,
        "rate_limited_ratio": 0.25,
        "response_flags": {"RL": 1},
        "bytes_received": 4,
        "bytes_sent": 4,
        "apdex": 1.0,
        "replicas_seen": 1,
        "qps_per_replica": 4.0,
        "histogram": {"scale": 5, "zero": 0, "buckets": {"106": 1, "138": 1}},
        "upgraded": 0,
        "first_byte_count": 1,
        "first_byte_avg_ms": 10.0,
        "first_byte_min_ms": 10.0,
        "first_byte_max_ms": 10.0,
        "first_byte_p50_ms": 10.0,
        "first_byte_p90_ms": 10.0,
        "first_byte_p95_ms": 10.0,
        "first_byte_p99_ms": 10.0,
        "first_byte_histogram": {"scale": 5, "zero": 0, "buckets": {"106": 1}},
        "stream_ms_per_token": 2.0,
        "output_tokens_per_second": 500.0,
        "input_tokens": 7,
        "output_tokens": 5,
        "concurrency": 0.03,
        "retries": 1,
        "grpc_status": {"0": 3},
        "exemplar": {"request_id": "r-1", "trace_id": None, "latency_ms": 20.0},
    }
    return row | fields


MOMENT = to_text(from_epoch_ms(START_MS))


def limit_row(**fields: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": "vision|chat|7|applied",
        "department": "vision",
        "task": "chat",
        "gateway": "vision-gateway",
        "replicas": 2,
        "qps_per_replica": 12.0,
        "gateways": 2,
        "limit_qps": 24.0,
        "limit_qps_per_gateway": 12.0,
        "burst": 12,
        "state": "applied",
        "reason": "cut from 24 to 12 a gateway",
        "change_id": "vision|chat|3",
        "revision": 7,
        "decided_at": MOMENT,
        "applied_at": MOMENT,
        "target": "envoy-file",
    }
    return row | fields


def resource_row(span: str) -> dict[str, Any]:
    return {
        "id": f"{span}|replica|vision|chat|chat-0|{START_MS}", "span": span, "level": "replica",
        "window_start": MOMENT, "window_end": MOMENT, "department": "vision", "task": "chat",
        "replica": "chat-0", "replicas_seen": 1, "replicas_desired": None,
        "cpu_cores": 0.5, "cpu_limit_cores": 2.0, "cpu_of_limit_ratio": 0.25, "cpu_throttled_ratio": 0.0,
        "memory_working_set_bytes": 1e9, "memory_limit_bytes": 2e9, "memory_of_limit_ratio": 0.5,
        "network_receive_bytes_per_second": 10.0, "network_transmit_bytes_per_second": None,
        "gpu_count": None, "gpu_utilization_ratio": None, "gpu_memory_used_bytes": None,
        "gpu_memory_total_bytes": None, "gpu_memory_of_total_ratio": None, "gpu_power_watts": None,
        "restarts": 0, "replicas_with_cpu": 1, "replicas_with_memory": 1, "replicas_with_gpu": 0, "samples": 9,
    }  # fmt: skip


ROWS: dict[RowTopic, dict[str, Any]] = {
    topics.SERVICE_METRICS_1S: service_row(),
    topics.SERVICE_METRICS_1M: service_row(span="1m"),
    topics.LINE_COUNTS: LineCount(
        id="gateway.access-logs|folded", topic="gateway.access-logs", kind="folded", lines=3,
        names=("outbound|80||ch at.vision.svc.cluster.local", "vision/zebra"),
        updated_at=from_epoch_ms(START_MS),
    ).model_dump(mode="json"),
    topics.DEAD_LETTERS: DeadLetter(
        id="gateway.access-logs-0-1|job", topic="gateway.access-logs", partition=0, offset=1,
        reason="start_time: missing", excerpt="{}", seen_at=from_epoch_ms(START_MS),
    ).model_dump(mode="json"),
    topics.REPLICAS: {
        "id": "vision|chat|kubernetes", "department": "vision", "task": "chat",
        "workload": "vision/service-chat", "source": "kubernetes",
        "replicas_ready": 1, "replicas_starting": 1, "replicas_terminating": 0,
        "replicas": [
            {"name": "chat-0", "address": "10.0.0.1:8080", "state": "ready"},
            {"name": "chat-1", "address": None, "state": "starting"},
        ],
        "observed_at": MOMENT,
    },
    topics.GATEWAYS: {
        "id": "vision-gateway|kubernetes", "gateway": "vision-gateway", "source": "kubernetes",
        "gateways_ready": 1, "gateways": ["vision-gateway-0"], "observed_at": MOMENT,
    },
    topics.REPLICA_CHANGES: {
        "id": "vision|chat|3", "department": "vision", "task": "chat", "workload": "vision/service-chat",
        "replicas_before": None, "replicas_after": 2, "cause": "resync",
        "first_seen_at": MOMENT, "settled_at": MOMENT, "revision": 3,
    },
    topics.RATE_LIMITS: limit_row(),
    topics.RATE_LIMITS_CURRENT: limit_row(id="vision/chat"),
    topics.LIMIT_CONTROLS: {
        "id": "*", "department": None, "task": None, "paused": True, "override_qps": None,
        "expires_at": None, "by": "ann", "reason": "load test", "set_at": MOMENT,
    },
    topics.TASKS: {
        "id": "vision/chat", "department": "vision", "task": "chat",
        "gateway": {"name": "vision-gateway", "namespace": "istio-ingress", "labels": {"istio": "vision"}},
        "route": "chat", "qps_per_replica": 12.0, "headroom": 0.9, "floor_qps": 1.0, "ceiling_qps": None,
        "burst_seconds": 1.0, "owner": None, "slo": {"p99_ms": 800.0, "error_rate": None},
        "clients": {"limit_qps": None, "named": {"batch": 5.0}}, "published_at": MOMENT,
        "autoscaling": AutoscalingPolicy(max_replicas=9, targets=Targets(qps_per_replica=8)).model_dump(mode="json"),
    },
    topics.CHANGES: {
        "id": "0001", "at": MOMENT, "actor": "ann", "role": "limit", "action": "PUT /v1/tasks/vision/chat",
        "department": "vision", "task": "chat", "gateway": "vision-gateway", "revision": 3, "dry_run": False,
        "outcome": "applied", "reason": "", "before": None, "after": {"limit_qps": 24},
    },
    topics.RESOURCE_METRICS_10S: resource_row("10s"),
    topics.RESOURCE_METRICS_1M: resource_row("1m"),
    topics.TASK_PROFILE: {
        **dict.fromkeys(TaskProfile.model_fields), "id": "vision/chat", "department": "vision", "task": "chat",
        "computed_at": MOMENT, "replicas_ready": 2, "traffic_window_seconds": 60, "qps": 12.5,
        "versions": [{"version": "v1", "qps": 12.5, "latency_p99_ms": 9.0, "error_rate": 0.0}],
        "slowest_replica": {"replica": "chat-0", "latency_p99_ms": 9.0, "median_p99_ms": 8.0, "deviations": 1.0,
                            "outlier": False},
        "freshness": {"limit": {"observed_at": None, "age_ms": None, "stale": True}}, "stale_inputs": ["limit"],
    },
    topics.ALERTS: {
        "id": f"slow|vision|chat||{START_MS}|firing", "alert_key": "slow|vision|chat|", "rule": "slow",
        "level": "interface", "severity": "warning", "state": "firing", "department": "vision", "task": "chat",
        "replica": None, "value": 900.0, "threshold": 800.0, "message": "p99 of chat is 900 ms",
        "runbook_url": None, "labels": {"team": "chat"}, "silenced": False, "started_at": MOMENT,
        "fired_at": MOMENT, "resolved_at": None, "observed_at": MOMENT,
    },
    topics.AUTOSCALING_SIGNALS: {
        "id": "vision/chat", "department": "vision", "task": "chat", "replicas": 2,
        "signals": [{"name": "qps_per_replica", "value": 12.0, "target": 10.0, "desired_replicas": 3}],
        "desired_replicas": 3, "panic": False, "held": False, "reason": "qps", "computed_at": MOMENT,
        "valid_until": MOMENT, "revision": 4,
    },
    topics.CALL_STATISTICS: {
        "id": f"1h|client|vision|chat|batch|{START_MS}", "span": "1h", "level": "client",
        "window_start": MOMENT, "window_end": MOMENT, "complete": True, "department": "vision", "task": "chat",
        "client": "batch", "clients_seen": 1, "requests": 4, "errors_4xx": 1, "errors_5xx": 0, "aborted": 0,
        "rate_limited": 1, "error_rate": 0.0, "bytes_received": 4, "bytes_sent": 4, "latency_count": 2,
        "latency_avg_ms": 15.0, "latency_max_ms": 20.0, "latency_p50_ms": 10.0, "latency_p99_ms": 20.0,
        "histogram": {"scale": 5, "zero": 0, "buckets": {"106": 1, "138": 1}},
    },
    topics.ACCESS_LOGS: record(),
    topics.LATE: record(),
    topics.INFERENCE_LOGS: {
        "timestamp": to_text(from_epoch_ms(START_MS)), "department": "vision", "task": "chat",
        "replica": "chat-0", "stream": "stdout", "message": "ready",
    },
}  # fmt: skip


def test_every_topic_is_registered_once_and_has_an_example_here() -> None:
    assert len({topic.name for topic in ALL_TOPICS}) == len(ALL_TOPICS)
    assert [contract.topic for contract in INDEX_CONTRACTS] == list(ALL_TOPICS)
    assert set(ROWS) == set(ALL_TOPICS)


@pytest.mark.parametrize("topic", ALL_TOPICS, ids=lambda topic: topic.name)
def test_a_key_is_made_of_the_rows_fields_and_no_compacted_topic_lacks_one(topic: RowTopic) -> None:
    assert set(topic.key) <= set(topic.row.model_fields)
    assert topic.key or topic.cleanup == "delete"


@pytest.mark.parametrize("topic", ALL_TOPICS, ids=lambda topic: topic.name)
def test_a_topics_schema_is_sound_and_named_for_good(topic: RowTopic) -> None:
    schema = topic_schema(topic)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    assert schema["$id"] == schema_id(topic) == f"urn:tidegate:topic:{topic.name}:v1"


@pytest.mark.parametrize("topic", ALL_TOPICS, ids=lambda topic: topic.name)
def test_model_and_schema_take_the_same_row(topic: RowTopic) -> None:
    assert errors(topic, ROWS[topic]) == []
    assert topic.row.model_validate(ROWS[topic])


@pytest.mark.parametrize("topic", [topic for topic in ALL_TOPICS if topic.name.startswith("tidegate.")])
def test_what_the_model_writes_the_schema_takes(topic: RowTopic) -> None:
    written = topic.row.model_validate(ROWS[topic]).model_dump_json()
    assert errors(topic, json.loads(written)) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"requests": -1},
        {"requests": "4"},
        {"error_rate": 1.5},
        {"level": "cluster"},
        {"span": "5m"},
        {"window_start": "2026-11-24T10:00:00+02:00"},
        {"histogram": {"scale": 4, "zero": 0, "buckets": {}}},
        {"histogram": {"scale": 5, "zero": 0, "buckets": {"1": 0}}},
    ],
)
def test_a_broken_row_passes_neither_the_schema(broken: dict[str, Any]) -> None:
    assert errors(topics.SERVICE_METRICS_1S, service_row(**broken))


def test_a_row_without_one_of_its_fields_is_broken_and_one_with_a_new_field_is_not() -> None:
    for name in service_row():
        less = {key: value for key, value in service_row().items() if key != name}
        assert errors(topics.SERVICE_METRICS_1S, less), name
    assert errors(topics.SERVICE_METRICS_1S, service_row(field_of_a_newer_tidegate=1)) == []


def test_a_row_of_the_release_without_the_first_byte_can_be_read() -> None:
    earlier = {name: value for name, value in service_row().items() if name in FIELDS_OF_0_1}
    row = ServiceMetricsRow.model_validate(earlier)
    assert (row.first_byte_count, row.first_byte_p99_ms, row.concurrency, row.grpc_status) == (
        0,
        None,
        None,
        {},
    )


FIELDS_OF_0_1 = list(service_row())[: list(service_row()).index("histogram") + 1]


def test_the_histogram_always_has_all_of_its_parts() -> None:
    assert errors(topics.SERVICE_METRICS_1S, service_row(histogram={"scale": 5}))


@pytest.mark.parametrize(
    "text",
    [
        line(),
        rate_limited(),
        aborted(),
        unrouted(),
        line(duration="-", response_code=None),
        line(size=3000),
        "{}",
    ],
)
def test_every_line_that_a_gateway_may_write_passes(text: str) -> None:
    assert errors(topics.ACCESS_LOGS, json.loads(text)) == []


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from(sorted(ACCESS_LOG_FORMAT)),
        st.none() | st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_every_form_of_a_lines_values_passes(values: dict[str, Any]) -> None:
    assert errors(topics.ACCESS_LOGS, values) == []


@pytest.mark.parametrize("contract", INDEX_CONTRACTS, ids=lambda contract: contract.topic.name)
def test_the_index_knows_the_models_fields_and_no_others(contract: IndexContract) -> None:
    schema_fields = set(topic_schema(contract.topic)["properties"])
    indexed = set(mappings(contract, Features())["properties"])
    added = {"@timestamp", *((*IDENTITY, OUTCOME) if contract.gateway else ())}
    assert indexed == schema_fields | added


@pytest.mark.parametrize("contract", INDEX_CONTRACTS, ids=lambda contract: contract.topic.name)
def test_what_names_the_document_is_a_field_of_the_model(contract: IndexContract) -> None:
    fields = contract.row.model_fields
    assert contract.time_field is None or contract.time_field in fields
    assert contract.moment in fields
    assert contract.raw or "id" in fields
    assert set(contract.numbers) <= set(fields)


def test_the_histogram_is_an_object_in_every_form() -> None:
    assert issubclass(topics.SERVICE_METRICS_1M.row, BaseModel)
    histogram = mappings(contract_of("tidegate.service-metrics.1m"), Features())["properties"]["histogram"]
    assert set(histogram["properties"]) == {"scale", "zero", "buckets"}


def test_the_command_writes_one_file_a_topic_and_the_same_ones_again(tmp_path: Path) -> None:
    from tidegate.cli.main import app

    first, second = tmp_path / "a" / "b", tmp_path / "c"
    for folder in (first, second):
        result = CliRunner().invoke(app, ["schemas", "--out", str(folder)])
        assert result.exit_code == 0, result.output
    assert {path.name for path in first.iterdir()} == {file_name(topic) for topic in ALL_TOPICS}
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
        assert json.loads(path.read_text())["$id"].startswith("urn:tidegate:topic:")


def test_a_folder_that_cannot_be_written_is_a_failure_that_says_so(tmp_path: Path) -> None:
    from tidegate.cli.app_context import CommandFailed
    from tidegate.cli.main import app

    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["schemas", "--out", str(tmp_path / "file" / "x")])
    assert isinstance(result.exception, CommandFailed)
    assert "--out" in str(result.exception)
