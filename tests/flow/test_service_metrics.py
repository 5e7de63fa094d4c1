"""The job on Flink's mini-cluster and the real Kafka, against the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings

from tests.oracle import RawLine, raw_lines
from tests.support.flink_jobs import Written, problems, put, run_bounded
from tests.support.indexing import documents, index_all, settings_of
from tests.support.lines import (
    aborted,
    at,
    cluster,
    grpc,
    line,
    rate_limited,
    streamed,
    tcp,
    unrouted,
    upgraded,
)
from tests.support.strategies import T0_MS, streams
from tidegate.jobs import environment, service_metrics
from tidegate.schemas.response_flags import RESPONSE_FLAGS
from tidegate.schemas.rows.service_metrics import OVERFLOW, ServiceMetricsRow
from tidegate.schemas.settings import AccessLog, Elasticsearch, Flink, Kafka, Settings

RECEIVED_MS = T0_MS + 200_000  # after every line's end: nothing here is from the future


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path) -> Settings:
    return Settings(
        kafka=kafka,
        flink=Flink(checkpoint_dir=tmp_path / "checkpoints"),
        access_log=AccessLog(departments={"vision-prod": "vision"}),
    )


def lines_accounted_for(written: Written) -> int:
    return sum(lines for kind, lines in written.counts.items() if kind != "folded")


def test_every_kind_of_line_ends_where_the_contract_says(settings: Settings) -> None:
    forged = 'curl", "taskid": "other", "upstream_cluster": "outbound|80||service-other.other.svc'
    values = [
        *(
            line(start_time=at(i / 7), duration=i % 90, upstream_host=f"10.0.0.{i % 3}:80")
            for i in range(700)
        ),
        *(rate_limited(start_time=at(20 + i / 10)) for i in range(30)),
        *(aborted(start_time=at(40 + i / 10)) for i in range(30)),
        *(unrouted(start_time=at(60 + i / 10), taskid="chat") for i in range(30)),
        line(start_time=at(100), user_agent=forged),
        line(start_time=at(100), taskid="elsewhere"),
        line(
            start_time=at(100), upstream_cluster=cluster(task="chat", department="vision-prod", version="v2")
        ),
        line(start_time=at(100), upstream_cluster="outbound|80||service-a b.vision.svc"),
        line(start_time=at(100), upstream_cluster=f"{cluster(task='chat')};"),  # Istio's %UPSTREAM_CLUSTER%
        line(start_time=at(100), upstream_cluster="BlackHoleCluster"),
        line(start_time=at(100), upstream_cluster="inbound|8080||"),
        line(start_time=at(100), response_flags="UF,URX,XX"),
        line(start_time=at(100), response_flags="RL\t"),
        line(start_time=at(100), duration="1." + "3" * 900_000),
        line(start_time=at(100), bytes_sent="1" + "0" * 5000),
        line(start_time=at(100), extra={"k" * 60_000: 1}),
        line(start_time=at(100), extra={"access_log_type": "DownstreamPeriodic"}),
        *(tcp(start_time=at(100)) for _ in range(5)),
        *(grpc(start_time=at(90 + i / 10), grpc_status=i % 17) for i in range(34)),
        *(
            grpc(start_time=at(94), grpc_status=status)
            for status in ("Unavailable", "DATA_LOSS", "Canceled", " OK ", "unavailable")
        ),
        *(
            grpc(start_time=at(95), response_flags=flags)
            for flags in ("UF", "UH", "UT", "UPE", "DC", "NEW_FLAG")
        ),
        *(line(start_time=at(96), response_flags=f"{flag.short}") for flag in RESPONSE_FLAGS),
        *(line(start_time=at(97), response_flags=f"{flag.long},DI") for flag in RESPONSE_FLAGS),
        *(streamed(start_time=at(98 + i / 10), output_tokens=i, request_id=f"s-{i:02d}") for i in range(20)),
        upgraded(start_time=at(99 - 4 * 3600)),
        line(start_time=at(99 - 900), method="CONNECT", duration=900_000, upstream_host="10.0.0.9:80"),
        line(start_time=at(99), user_agent="caf\u00e9 \u00ff", path="/v1/查询/😀"),
        line(start_time=at(99), user_agent="@@").replace("@@", "caf\\u00e9"),
        line(start_time=at(99), response_code_details="rate_limited_by_quota"),
        line(start_time=at(99), request_id='"q"', duration=9999),
        line(start_time=at(99), upstream_request_attempt_count=4, duration=9999, request_id="b"),
        line(
            start_time=at(99),
            upstream_request_attempt_count=4,
            duration=9999,
            request_id="a",
            traceparent=None,
        ),
        line(start_time=at(100), duration="-"),
        line(start_time=at(100), duration=-1),
        line(start_time="yesterday"),
        line(start_time="0189-11-24T10:00:00.000Z", duration="soon"),  # the first fault is reported
        line(start_time="1969-12-31T23:59:59.500Z", duration=1000),
        "not JSON",
        "",
        line(upstream_service_time="@@").replace('"@@"', "-"),
        line(duration="@@").replace('"@@"', " -"),
        line(user_agent="@@").replace("@@", "caf\\351"),
        line(user_agent="@@").encode().replace(b"@@", b"caf\xe9"),
    ]
    placed = put(settings.kafka, raw_lines(values, timestamp_ms=RECEIVED_MS))

    written = run_bounded(settings)

    assert problems(written, placed, settings) == []
    assert written.counts["skipped"] == 1
    assert written.counts["tcp"] == 5
    assert written.counts["dead"] == 12
    unquoted = [reason for reason in written.dead.values() if "unquoted" in reason]
    assert [reason.split()[3] for reason in sorted(unquoted)] == ["duration", "upstream_service_time"]
    assert lines_accounted_for(written) == len(values)


def test_a_line_after_its_second_has_closed_goes_whole_to_the_late_topic(settings: Settings) -> None:
    # The watermark moves ten times a second of real time, so the late line must come well behind in the topic.
    filler = [line(start_time=at(100 + i / 2000), duration=1) for i in range(80_000)]
    late = line(start_time=at(50), duration=1)
    placed = put(settings.kafka, raw_lines([*filler, late], timestamp_ms=RECEIVED_MS))

    written = run_bounded(settings)

    assert list(written.late.values()) == [late.encode()]
    assert problems(written, placed, settings) == []


@pytest.mark.slow
def test_a_replayed_topic_gives_the_same_rows_and_documents(
    settings: Settings, elasticsearch: Elasticsearch
) -> None:
    values = [line(start_time=at(i / 9), duration=i % 300) for i in range(500)]
    put(settings.kafka, raw_lines(values, timestamp_ms=RECEIVED_MS))
    index = settings_of(settings.kafka, elasticsearch)
    topic = "tidegate.service-metrics.1s"

    once = {row["id"]: row for row in run_bounded(settings).rows}
    index_all(index, topic)
    documents_once = documents(elasticsearch, topic)
    twice = run_bounded(settings).rows
    index_all(index, topic)

    assert len(twice) == 2 * len(once)
    assert all(row == once[row["id"]] for row in twice)
    assert documents_once == {name: row for name, row in once.items() if row["span"] == "1s"}
    assert documents(elasticsearch, topic) == documents_once


def test_tasks_past_a_departments_number_fold_and_are_counted(settings: Settings) -> None:
    tasks_allowed = 3
    settings = settings.model_copy(
        update={"access_log": AccessLog(max_tasks_per_department=tasks_allowed, departments={})}
    )
    names = ["ant", "bee", "cat", "dog", "eel"]
    values = [
        line(
            start_time=at(second + i / 100),
            upstream_cluster=cluster(task=name, department=department),
            upstream_host=f"10.0.0.{i}:80",
        )
        for second in range(70)
        for department in ("vision", "search")
        # Now all five, now the last three, which then keep their names.
        for i, name in enumerate(names if second % 3 else names[-tasks_allowed:])
    ]
    placed = put(settings.kafka, raw_lines(values, timestamp_ms=RECEIVED_MS))

    written = run_bounded(settings)

    assert problems(written, placed, settings) == []
    crowded_seconds = sum(1 for second in range(70) if second % 3)
    assert written.counts["folded"] == crowded_seconds * 2 * (len(names) - tasks_allowed)
    in_a_second: dict[tuple[str, str], set[str]] = {}
    for row in written.rows:
        if row["span"] == "1s" and row["level"] == "task":
            in_a_second.setdefault((row["window_start"], row["department"]), set()).add(row["task"])
    assert {len(tasks - {OVERFLOW}) for tasks in in_a_second.values()} == {tasks_allowed}


def test_the_lines_are_aggregated_once(settings: Settings) -> None:
    """Flink's planner would do it once for each use of a view, were the use not in a sink of its own."""
    tables = environment.create(settings, environment.Where(bounded=True), service_metrics.NAME)

    plan = service_metrics.main(tables, settings, bounded=True).explain()

    executed = plan.partition("== Optimized Execution Plan ==")[2]
    assert executed.count("GlobalWindowAggregate(groupBy=[upstream_cluster, upstream_host]") == 1
    assert executed.count("TableSourceScan") == 1


def test_the_job_writes_the_columns_of_the_contract() -> None:
    assert list(service_metrics.ROW_TYPES) == list(ServiceMetricsRow.model_fields)


@hypothesis_settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(stream=streams(max_size=400))
def test_whatever_a_line_holds_it_is_accounted_for(settings: Settings, stream: list[RawLine]) -> None:
    # Each example gets topics of its own below the test's prefix.
    settings = settings.model_copy(
        update={"kafka": settings.kafka.model_copy(update={"topic_prefix": _next_prefix(settings.kafka)})}
    )
    placed = put(settings.kafka, stream)

    written = run_bounded(settings)

    assert problems(written, placed, settings) == []
    assert lines_accounted_for(written) == len(placed)


_examples = iter(range(1_000_000))


def _next_prefix(kafka: Kafka) -> str:
    return f"{kafka.topic_prefix}e{next(_examples)}."
