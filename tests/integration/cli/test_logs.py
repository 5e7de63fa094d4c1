"""From files to a search: both logs are shipped and indexed, and `tidegate logs` and `tidegate trace` find them."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.oracle import OracleSettings, Position, RawLine, recompute
from tests.support.commands import run_command
from tests.support.indexing import index_all, produce, settings_of
from tests.support.kafka_messages import messages
from tests.support.lines import cluster, line
from tests.support.signal_rows import alert
from tests.support.waiting import until
from tidegate.adapters.indexing.client import connect
from tidegate.adapters.shipping.shipper import LogShipper, access_logs, service_logs
from tidegate.schemas import topics
from tidegate.schemas.rows.lines import InferenceLogLine
from tidegate.schemas.settings import Elasticsearch, Kafka, ServiceLogs, Settings, Shipper
from tidegate.schemas.timestamps import to_text

REQUEST, TRACE = "8f14e45f-ceea-467f-9f6b-1d3a5c7e9b02", "4bf92f3577b34da6a3ce929d0e0e4736"
NOW = datetime.now(UTC).replace(microsecond=0)
BEGAN = NOW - timedelta(seconds=60)
STACK = """Traceback (most recent call last):
  File "/app/model.py", line 12, in infer
    return self.head(batch)
ValueError: shapes (3,4) and (5,) not aligned"""
RECORD = f"{BEGAN:%Y-%m-%d %H:%M:%S},700 ERROR infer request_id={REQUEST} failed\n{STACK}"
ALIGNED = f"{BEGAN:%Y-%m-%d %H:%M:%S},650 WARNING trace_id={TRACE} the batch is not aligned"


def gateway_line(**fields: object) -> bytes:
    ordinary = {
        "request_id": "another-0001",
        "start_time": to_text(BEGAN),
        "duration": 20,
        "upstream_cluster": cluster(task="chat", department="vision", version="v2"),
        "traceparent": "-",
    }
    return line(**ordinary | fields).encode()


GATEWAY = [
    gateway_line(
        request_id=REQUEST, duration=800, response_code=500, traceparent=f"00-{TRACE}-00f067aa0ba902b7-01"
    ),
    gateway_line(request_id="quick-0001"),
    gateway_line(request_id="slow-00001", duration=4000),
    gateway_line(request_id="other-0001", upstream_cluster=cluster(task="embed", department="search")),
    gateway_line(request_id="lost-00001", upstream_cluster=None, upstream_host=None, response_code=404),
    gateway_line(request_id="grpc-00001", start_time=to_text(BEGAN - timedelta(seconds=30)), grpc_status=14),
    gateway_line(
        request_id="refused-01",
        start_time=to_text(BEGAN - timedelta(seconds=30)),
        response_code=429,
        response_flags="RateLimited",
        upstream_host=None,
    ),
]


@pytest.fixture
def logged(kafka: Kafka, elasticsearch: Elasticsearch, tmp_path: Path) -> Settings:
    """Both logs were written by programs, shipped, and indexed; the rows of the same lines too."""
    folder = tmp_path / "models" / "vision" / "chat"
    folder.mkdir(parents=True)
    (folder / "chat-0.log").write_text(f"INFO ready\n{ALIGNED}\n{RECORD}\nINFO next\n")
    gateway = tmp_path / "access.log"
    gateway.write_bytes(b"".join(text + b"\n" for text in GATEWAY))
    settings = settings_of(kafka, elasticsearch).model_copy(
        update={
            "shipper": Shipper(files=(str(gateway),), state_dir=tmp_path / "ship", poll_ms=10),
            "service_logs": ServiceLogs(
                files=(f"{tmp_path}/models/{{department}}/{{task}}/{{replica}}.log",),
                state_dir=tmp_path / "ship-services",
                record_wait_seconds=0.2,
            ),
        }
    )
    for cargo, lines in ((access_logs(settings), len(GATEWAY)), (service_logs(settings), 4)):
        with LogShipper(settings, cargo) as shipper:
            until(lambda: shipper.counts.lines >= lines, step=lambda: shipper.step(time.monotonic()))  # noqa: B023
            assert shipper.counts.dead == 0
    placed = [
        RawLine(text, Position("x", 0, number), round(NOW.timestamp() * 1000))
        for number, text in enumerate(GATEWAY)
    ]
    rows = recompute(placed, OracleSettings.of(settings)).rows
    produce(kafka, topics.SERVICE_METRICS_1S.name, [row for row in rows.values() if row["span"] == "1s"])
    began_ms = round(BEGAN.timestamp() * 1000) - 10_000
    alerts = [alert("firing", "errors", began_ms), alert("resolved", "older", began_ms - 3_600_000)]
    for one in alerts:
        produce(kafka, topics.ALERTS.name, [one.model_dump_json().encode()], key=one.alert_key)
    counters = index_all(
        settings,
        *(
            topic.name
            for topic in (
                topics.ACCESS_LOGS, topics.INFERENCE_LOGS, topics.SERVICE_METRICS_1S, topics.ALERTS
            )
        ),
    )  # fmt: skip
    assert counters.refused == 0
    with connect(elasticsearch, 30) as client:
        client.indices.refresh(index=f"{elasticsearch.index_prefix}*")
    return settings


def run(settings: Settings, *arguments: str, code: int = 0) -> str:
    given = {
        "elasticsearch.url": settings.elasticsearch.url,
        "elasticsearch.index_prefix": settings.elasticsearch.index_prefix,
        "lookup.trace_url": "https://jaeger.example.com/trace/{trace_id}",
    }
    done = run_command(given, *arguments, code=code)
    return done.stdout if code == 0 else done.stderr


def found(settings: Settings, *arguments: str) -> list[str]:
    """The request ids, or messages' first lines, that `tidegate logs` gives."""
    reported = run(settings, "logs", "--json", "--since", "1d", *arguments)
    lines = [json.loads(text) for text in reported.splitlines()]
    return [one.get("message", "").partition("\n")[0] or one["request_id"] for one in lines]


def test_a_stack_trace_is_one_message_with_its_request_and_its_trace(logged: Settings) -> None:
    kept = list(messages(logged.kafka, topics.INFERENCE_LOGS))
    assert {message.key() for message in kept} == {b"chat"}
    rows = [InferenceLogLine.model_validate_json(message.value() or b"") for message in kept]
    assert [(row.severity, row.request_id, row.trace_id) for row in rows] == [
        ("INFO", None, None),
        ("WARN", None, TRACE),
        ("ERROR", REQUEST, None),
        ("INFO", None, None),
    ]
    assert rows[2].message == RECORD
    assert rows[2].timestamp == BEGAN + timedelta(milliseconds=700)
    assert (rows[2].department, rows[2].task, rows[2].replica) == ("vision", "chat", "chat-0")
    assert rows[0].timestamp is None


def test_logs_are_found_by_what_they_say(logged: Settings) -> None:
    assert set(found(logged, "--kind", "access")) == {
        REQUEST, "quick-0001", "slow-00001", "other-0001", "lost-00001", "grpc-00001", "refused-01"
    }  # fmt: skip
    assert found(logged, "--task", "embed") == ["other-0001"]
    assert found(logged, "--task", "__unrouted__", "--status", "4xx") == ["lost-00001"]
    assert found(logged, "--status", "5xx") == ["grpc-00001", REQUEST]
    assert found(logged, "--status", "grpc:14") == found(logged, "--status", "grpc:*") == ["grpc-00001"]
    assert found(logged, "--status", "429") == found(logged, "--status", "rate_limited") == ["refused-01"]
    assert set(found(logged, "--status", "500", "--status", "404")) == {REQUEST, "lost-00001"}
    assert found(logged, "--task", "chat", "--slower-than", "1.5s") == ["slow-00001"]
    assert set(found(logged, "--severity", "warn")) == {ALIGNED, RECORD.partition("\n")[0]}
    assert found(logged, "--task", "chat", "--grep", r"shapes \(3,4\)") == [RECORD.partition("\n")[0]]
    assert found(logged, "--grep", "QUICK-0") == ["quick-0001"]
    text = run(logged, "logs", "--since", "1d", "--task", "chat", "--severity", "error")
    assert "ValueError: shapes (3,4) and (5,) not aligned" in text
    assert "no line matches" in run(logged, "logs", "--task", "nobody", code=1)
    assert "not a valid status" in run(logged, "logs", "--status", "often", code=2)
    assert "not a valid regular expression" in run(logged, "logs", "--grep", "(", code=2)


@pytest.mark.parametrize(
    "identifier", [REQUEST, TRACE, f"00-{TRACE}-00f067aa0ba902b7-01"], ids=["request", "trace", "traceparent"]
)
def test_from_any_of_its_ids_to_the_stack_trace_and_the_windows(logged: Settings, identifier: str) -> None:
    story = json.loads(run(logged, "trace", identifier, "--json"))
    (request,) = story["requests"]
    assert request["line"]["request_id"] == REQUEST
    assert [record["message"] for record in story["records"]] == [ALIGNED, RECORD]
    assert story["links"] == [f"https://jaeger.example.com/trace/{TRACE}"]
    ended = BEGAN + timedelta(milliseconds=800)
    own = [row for row in request["windows"] if row["window_start"] == to_text(ended.replace(microsecond=0))]
    assert {(row["level"], row["errors_5xx"]) for row in own} == {("task", 1), ("replica", 1)}
    assert [one["rule"] for one in request["alerts"]] == ["errors"]


def test_a_story_for_people(logged: Settings) -> None:
    text = run(logged, "trace", REQUEST)
    for part in (
        REQUEST,
        "vision/chat, version v2",
        "<- its second",
        STACK.splitlines()[-1],
        "jaeger.example",
    ):
        assert part in text
    assert "is not found" in run(logged, "trace", "00000000-unknown", code=1)


def test_an_elasticsearch_that_is_away_is_reported(logged: Settings) -> None:
    away = logged.model_copy(update={"elasticsearch": Elasticsearch(url="http://127.0.0.1:9")})
    assert "doesn't answer" in run(away, "logs", code=1)
    assert "doesn't answer" in run(away, "trace", REQUEST, code=1)
