"""`tidegate limits`, `catalog` and `replay-limits` on a real Kafka."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.contract.test_row_contracts import service_row
from tests.support.commands import run_here
from tests.support.limit_rows import gateway_row, replicas_row
from tests.support.waiting import until
from tidegate.adapters.catalog import topic as catalog_topic
from tidegate.adapters.kafka.writer import write
from tidegate.adapters.limiting import controls as limit_controls
from tidegate.adapters.limiting.timeline import TimelineReader, newest
from tidegate.jobs.logic.limits.envoy_limits import TaskKey
from tidegate.jobs.logic.limits.timeline import Entry, EntryFilter, timeline
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import GatewayRow, LimitControl, RateLimitRow, ReplicaChange
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
from tidegate.schemas.settings import Kafka
from tidegate.schemas.timestamps import to_epoch_ms, to_text
from tidegate.schemas.topics import Topic

CATALOG = """
gateways: {vision-gateway: {namespace: istio-ingress}}
departments:
  vision:
    gateway: vision-gateway
    tasks:
      chat: {qps_per_replica: 10, floor_qps: 5, ceiling_qps: 90}
      ocr: {qps_per_replica: 3}
"""
START = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=60)
CHAT = TaskKey("vision", "chat")


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def since() -> str:
    """So long ago it was a minute before START, however late in the session a test runs."""
    return f"{round((datetime.now(UTC) - at(-60)).total_seconds())}s"


def put(kafka: Kafka, topic: Topic, rows: Iterable[BaseModel]) -> None:
    """Rows with the key that the contract gives them."""
    write(kafka, topic, [(key_of(row), row.model_dump_json()) for row in rows])


def key_of(row: Any) -> str:
    return str(row.gateway) if isinstance(row, GatewayRow) else f"{row.department}/{row.task}"


def window(second: int, offered: int, refused: int, task: str = "chat", **fields: Any) -> ServiceMetricsRow:
    row_id = ServiceMetricsRow.id_of("1s", "task", "vision", task, None, None, to_epoch_ms(at(second)))
    ends = {"window_start": to_text(at(second)), "window_end": to_text(at(second + 1))}
    counts = {"requests": offered, "rate_limited": refused, "task": task, "id": row_id}
    return ServiceMetricsRow.model_validate(service_row(**counts | ends | fields))


def limit(qps: float, revision: int, second: float, *, applied: bool = True, **fields: Any) -> RateLimitRow:
    state = "applied" if applied else "decided"
    values: dict[str, Any] = {
        "id": f"vision|chat|{revision}|{state}",
        "department": "vision",
        "task": "chat",
        "gateway": "vision-gateway",
        "replicas": 2,
        "qps_per_replica": 10.0,
        "gateways": 2,
        "limit_qps": qps,
        "limit_qps_per_gateway": qps / 2,
        "burst": 10,
        "state": state,
        "reason": f"cut to {qps / 2:g} a gateway",
        "change_id": "vision|chat|7",
        "revision": revision,
        "decided_at": at(second),
        "applied_at": at(second + 0.4) if applied else None,
        "target": "test",
    }
    return RateLimitRow(**values | fields)


def cut() -> ReplicaChange:
    return ReplicaChange(
        id="vision|chat|7",
        department="vision",
        task="chat",
        workload="vision/service-chat",
        replicas_before=4,
        replicas_after=2,
        cause="scale_down",
        first_seen_at=at(10),
        settled_at=at(12),
        revision=7,
    )


def history(kafka: Kafka) -> None:
    """Replicas 4 -> 2 under a load of 60 requests a second, and rows of others."""
    put(kafka, topics.REPLICA_CHANGES, [cut()])
    rows = [limit(40, 4, -300, change_id=None), limit(20, 5, 12.1, applied=False), limit(20, 5, 12.1)]
    put(kafka, topics.RATE_LIMITS, rows)
    current = [row.model_copy(update={"id": "vision/chat"}) for row in rows]
    other = limit(7.5, 2, -50, task="ocr", id="vision/ocr", limit_qps_per_gateway=7.5, gateways=1)
    away = limit(9, 1, -50, department="audio", task="asr", id="audio/asr")
    put(kafka, topics.RATE_LIMITS_CURRENT, [*current, other, away])
    loads = [window(second, 60, 20 if second < 13 else 40) for second in range(9, 16)]
    put(
        kafka,
        topics.SERVICE_METRICS_1S,
        [*loads, *(window(second, 5, 0, task="ocr") for second in range(9, 16))],
    )
    word = LimitControl(
        id="vision/chat",
        department="vision",
        task="chat",
        paused=True,
        override_qps=None,
        expires_at=None,
        by="ann",
        reason="a load test",
        set_at=at(14.5),
    )
    put(kafka, topics.LIMIT_CONTROLS, [word])


def environment(kafka: Kafka, **more: str) -> dict[str, str]:
    return {
        "TIDEGATE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TIDEGATE_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
        "COLUMNS": "200",
    } | more


def run(
    kafka: Kafka, folder: Path, *arguments: str, code: int = 0, **more: str
) -> subprocess.CompletedProcess[str]:
    return run_here(*arguments, code=code, folder=folder, environment=environment(kafka, **more))


# What there is


def test_the_table_has_every_tasks_newest_limit(kafka: Kafka, tmp_path: Path) -> None:
    history(kafka)
    lines = [line.split() for line in run(kafka, tmp_path, "limits").stdout.splitlines()]
    assert " ".join(lines[0]).startswith(
        "department task gateway replicas gateways limit qps a gateway burst state"
    )
    shown = [line[:10] for line in lines[2:]]
    since = to_text(at(12.5))
    assert shown == [
        ["audio", "asr", "vision-gateway", "2", "2", "9", "4.5", "10", "applied", to_text(at(-49.6))],
        ["vision", "chat", "vision-gateway", "2", "2", "20", "10", "10", "applied", since],
        ["vision", "ocr", "vision-gateway", "2", "1", "7.5", "7.5", "10", "applied", to_text(at(-49.6))],
    ]
    assert lines[3][10:] == ["cut", "to", "10", "a", "gateway"]


def test_as_json_it_is_the_rows_of_one_department(kafka: Kafka, tmp_path: Path) -> None:
    history(kafka)
    output = run(kafka, tmp_path, "limits", "--department", "vision", "--json").stdout
    rows = [RateLimitRow.model_validate_json(line) for line in output.splitlines()]
    assert rows == [row for row in newest(kafka) if row.department == "vision"]
    assert [row.task for row in rows] == ["chat", "ocr"]


def test_without_a_topic_there_are_no_limits(kafka: Kafka, tmp_path: Path) -> None:
    done = run(kafka, tmp_path, "limits")
    assert (done.stdout, "hasn't decided any yet" in done.stderr) == ("", True)


def test_a_tasks_timeline_has_seconds_events_and_lags_in_the_order_of_time(
    kafka: Kafka, tmp_path: Path
) -> None:
    history(kafka)
    lines = run(kafka, tmp_path, "limits", "--task", "chat", "--since", since()).stdout.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("time"))
    shown = [line[26:].split() for line in lines[begin + 1 :]]
    assert shown[0] == ["60", "40", "20", "20.0", "40", "4", "1"]
    words = [" ".join(line) for line in shown if not line[0].isdigit()]
    assert words == [
        "replicas ready replicas 4 -> 2 (scale_down), first seen 2.0 s before",
        "decided 20 qps, 10 a gateway, burst 10, revision 5: cut to 10 a gateway",
        "applied 20 qps, 10 a gateway, burst 10, revision 5: cut to 10 a gateway",
        "lag revision 5, cut 40 -> 20 qps: readiness -> settled +2.00 s, decided +0.10 s, applied +0.40 s, "
        "first refused request +0.50 s; in force 2.50 s after the readiness",
        "control paused, by ann: a load test",
    ]
    moments = [line[:24] for line in lines[begin + 1 :]]
    assert moments == sorted(moments)
    assert len(moments) == 7 + 5


def test_a_timeline_as_json_has_one_object_a_line(kafka: Kafka, tmp_path: Path) -> None:
    history(kafka)
    output = run(kafka, tmp_path, "limits", "--task", "chat", "--since", since(), "--json").stdout
    entries = [json.loads(line) for line in output.splitlines()]
    seconds = [entry for entry in entries if entry["type"] == "second"]
    assert [entry["admitted"] for entry in seconds] == [40, 40, 40, 40, 20, 20, 20]
    assert [entry["limit_qps"] for entry in seconds] == [40, 40, 40, 40, 20, 20, 20]
    assert [entry["replicas"] for entry in seconds] == [4, 4, 4, 2, 2, 2, 2]
    (lag,) = (entry for entry in entries if entry["type"] == "lag")
    assert (lag["ready_at"], lag["shown_at"]) == (to_text(at(10)), to_text(at(13)))


def test_a_timeline_that_is_followed_misses_nothing(kafka: Kafka) -> None:
    history(kafka)
    reader = TimelineReader(kafka, CHAT)
    try:
        record = reader.since(at(-60))
        coming, unseen = reader.follow(record), EntryFilter()
        found: list[Entry] = []
        put(kafka, topics.RATE_LIMITS, [limit(40, 6, 16.1)])
        put(kafka, topics.SERVICE_METRICS_1S, [window(second, 60, 20) for second in (16, 17)])

        def came() -> bool:
            found.extend(unseen.new(timeline(record, at(-60), next(coming), ended=False)))
            return sum(entry.type == "lag" for entry in found) == 2

        until(came)
        assert sum(entry.type == "second" for entry in found) == 9
        assert sum(entry.type == "applied" for entry in found) == 2
    finally:
        reader.close()


def test_the_followed_command_goes_on_until_it_is_interrupted(kafka: Kafka, tmp_path: Path) -> None:
    history(kafka)
    with started(kafka, tmp_path, "limits", "--task", "chat", "--since", since(), "-f", "--json") as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first["type"] == "second"
        put(kafka, topics.SERVICE_METRICS_1S, [window(17, 77, 0)])
        assert any(json.loads(line).get("offered") == 77 for line in process.stdout)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


def test_a_reader_that_has_enough_is_no_error(kafka: Kafka, tmp_path: Path) -> None:
    history(kafka)
    with started(kafka, tmp_path, "limits", "--task", "chat", "--since", since(), "-f", "--json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        put(kafka, topics.SERVICE_METRICS_1S, [window(17, 77, 0)])
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_which_task_is_meant_is_asked_for(kafka: Kafka, tmp_path: Path) -> None:
    put(kafka, topics.RATE_LIMITS_CURRENT, [limit(9, 1, 0), limit(9, 1, 0, department="audio")])
    assert "audio, vision" in run(kafka, tmp_path, "limits", "--task", "chat", code=2).stderr
    assert "give --department" in run(kafka, tmp_path, "limits", "--task", "nobody", code=2).stderr
    assert "give --task" in run(kafka, tmp_path, "limits", "--follow", code=2).stderr


# An operator's word


def test_a_pause_and_its_end_are_in_kafka_when_the_command_is_done(kafka: Kafka, tmp_path: Path) -> None:
    catalog_file(tmp_path)
    where = {"TIDEGATE_CATALOG__FILE": "catalog.yaml"}
    chat = ("--task", "chat", "--department", "vision")
    run(kafka, tmp_path, "limits", "pause", *chat, "--reason", "a test", "--by", "ann", **where)
    word = limit_controls.newest(kafka)["vision/chat"]
    assert (word.paused, word.by, word.reason, word.department, word.task) == (True, "ann", "a test", *CHAT)
    refused = run(
        kafka,
        tmp_path,
        "limits",
        "override",
        *chat,
        "--qps",
        "50",
        "--for",
        "30m",
        "--reason",
        "x",
        code=2,
        **where,
    )
    assert "is paused by ann" in refused.stderr
    run(
        kafka,
        tmp_path,
        "limits",
        "resume",
        "--task",
        "chat",
        "--reason",
        "done",
        USER="bob",
        LOGNAME="bob",
        **where,
    )
    word = limit_controls.newest(kafka)["vision/chat"]
    assert (word.paused, word.by, word.override_qps) == (False, "bob", None)
    again = run(kafka, tmp_path, "limits", "resume", *chat, "--reason", "done", **where)
    assert "not paused" in again.stderr


def test_a_pause_of_all_is_one_word(kafka: Kafka, tmp_path: Path) -> None:
    run(kafka, tmp_path, "limits", "pause", "--all", "--reason", "an incident")
    word = limit_controls.newest(kafka)["*"]
    assert (word.paused, word.department, word.task) == (True, None, None)
    catalog_file(tmp_path)
    reported = run(
        kafka,
        tmp_path,
        *("limits", "override", "--task", "chat", "--qps", "50", "--for", "30m", "--reason", "x"),
        TIDEGATE_CATALOG__FILE="catalog.yaml",
    )
    assert "all tasks are paused" in reported.stderr


def test_an_override_ends_in_its_time_or_when_it_is_cleared(kafka: Kafka, tmp_path: Path) -> None:
    catalog_file(tmp_path)
    where = {"TIDEGATE_CATALOG__FILE": "catalog.yaml"}
    before = datetime.now(UTC)
    run(
        kafka,
        tmp_path,
        *("limits", "override", "--task", "chat", "--qps", "50", "--for", "30m", "--reason", "a test"),
        **where,
    )
    word = limit_controls.newest(kafka)["vision/chat"]
    assert word.override_qps == 50
    assert word.expires_at is not None
    assert word.expires_at - word.set_at == timedelta(minutes=30)
    assert word.set_at >= before - timedelta(milliseconds=1)
    run(kafka, tmp_path, "limits", "override", "--task", "chat", "--clear", **where)
    word = limit_controls.newest(kafka)["vision/chat"]
    assert (word.override_qps, word.expires_at) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (
            ("override", "--task", "chat", "--qps", "4", "--for", "1m", "--reason", "x"),
            "floor of vision/chat is 5 qps",
        ),
        (("override", "--task", "chat", "--qps", "91", "--for", "1m", "--reason", "x"), "its ceiling 90"),
        (("override", "--task", "chat", "--qps", "nan", "--for", "1m", "--reason", "x"), "positive number"),
        (("override", "--task", "chat", "--qps", "-1", "--for", "1m", "--reason", "x"), "positive number"),
        (("override", "--task", "chat", "--qps", "50", "--reason", "x"), "needs --for"),
        (("override", "--task", "chat", "--qps", "50", "--for", "25h", "--reason", "x"), "at most 24h"),
        (
            ("override", "--task", "chat", "--qps", "50", "--for", "0m", "--reason", "x"),
            "more than 0s and at most 24h",
        ),
        (("override", "--task", "chat", "--qps", "50", "--for", "soon", "--reason", "x"), "such as 5m"),
        (("override", "--task", "chat", "--clear", "--qps", "50"), "leave out --qps and --for"),
        (
            ("pause", "--task", "nobody", "--reason", "x"),
            "--task nobody is not in the catalog, which has vision/chat, vision/ocr",
        ),
        (("pause", "--reason", "x"), "give --task"),
        (("pause", "--all", "--task", "chat", "--reason", "x"), "not both"),
        (("pause", "--task", "chat", "--reason", " "), "--reason is empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(
    kafka: Kafka, tmp_path: Path, arguments: tuple[str, ...], wrong: str
) -> None:
    catalog_file(tmp_path)
    done = run(
        kafka, tmp_path, "limits", *arguments, code=2, TIDEGATE_CATALOG__FILE="catalog.yaml", COLUMNS="400"
    )
    assert wrong in done.stderr
    assert limit_controls.newest(kafka) == {}


def test_without_a_catalog_a_word_is_taken_for_a_whole_name(kafka: Kafka, tmp_path: Path) -> None:
    run(kafka, tmp_path, "limits", "pause", "--task", "chat", "--reason", "x", code=2)
    done = run(
        kafka, tmp_path, "limits", "pause", "--task", "chat", "--department", "vision", "--reason", "x"
    )
    assert "no task catalog is available" in done.stderr
    assert limit_controls.newest(kafka)["vision/chat"].paused


def test_kafka_away_is_reported_and_is_no_success(tmp_path: Path) -> None:
    away = Kafka(bootstrap_servers="127.0.0.1:1")
    done = run(away, tmp_path, "limits", "pause", "--all", "--reason", "x", code=1)
    assert "127.0.0.1:1" in done.stderr
    assert "tidegate up" in done.stderr


# The catalog


def catalog_file(folder: Path, text: str = CATALOG) -> None:
    (folder / "catalog.yaml").write_text(text)


def test_a_file_is_checked_without_a_server(tmp_path: Path) -> None:
    catalog_file(tmp_path)
    nowhere = Kafka(bootstrap_servers="127.0.0.1:1")
    done = run(nowhere, tmp_path, "catalog", "check", "catalog.yaml")
    assert [line.split()[:5] for line in done.stdout.splitlines()[2:]] == [
        ["vision", "chat", "vision-gateway", "chat", "10"],
        ["vision", "ocr", "vision-gateway", "ocr", "3"],
    ]
    assert "2 tasks of 1 department, 1 gateway" in done.stderr
    catalog_file(tmp_path, CATALOG.replace("10,", "0,").replace("qps_per_replica: 3", "headroom: 3"))
    wrong = run(nowhere, tmp_path, "catalog", "check", "catalog.yaml", code=1).stderr
    assert "departments.vision.tasks.chat.qps_per_replica" in wrong
    assert "departments.vision.tasks.ocr.headroom" in wrong


def test_publishing_says_what_changed_and_writes_only_that(kafka: Kafka, tmp_path: Path) -> None:
    catalog_file(tmp_path)
    first = run(kafka, tmp_path, "catalog", "publish", "catalog.yaml")
    assert first.stdout.splitlines() == ["+ vision/chat", "+ vision/ocr"]
    before = catalog_topic.read(kafka).rows
    again = run(kafka, tmp_path, "catalog", "publish", "catalog.yaml")
    assert (again.stdout, "nothing has changed" in again.stderr) == ("", True)
    catalog_file(
        tmp_path, CATALOG.replace("qps_per_replica: 10", "qps_per_replica: 12").replace("ocr:", "asr:")
    )
    dry = run(kafka, tmp_path, "catalog", "publish", "catalog.yaml", "--dry-run")
    assert catalog_topic.read(kafka).rows == before
    changed = run(kafka, tmp_path, "catalog", "publish", "catalog.yaml")
    assert changed.stdout == dry.stdout
    assert changed.stdout.splitlines() == [
        "+ vision/asr",
        "~ vision/chat: qps_per_replica 10 -> 12",
        "- vision/ocr",
    ]
    shown = [
        json.loads(line) for line in run(kafka, tmp_path, "catalog", "show", "--json").stdout.splitlines()
    ]
    assert [(row["id"], row["qps_per_replica"]) for row in shown] == [("vision/asr", 3), ("vision/chat", 12)]
    assert "vision-gateway" in run(kafka, tmp_path, "catalog", "show").stdout


def test_a_wrong_file_publishes_nothing(kafka: Kafka, tmp_path: Path) -> None:
    catalog_file(tmp_path)
    run(kafka, tmp_path, "catalog", "publish", "catalog.yaml")
    before = catalog_topic.read(kafka).rows
    catalog_file(tmp_path, CATALOG.replace("qps_per_replica: 10", "qps_per_replica: 20").replace("3}", "-3}"))
    assert "ocr.qps_per_replica" in run(kafka, tmp_path, "catalog", "publish", "catalog.yaml", code=1).stderr
    assert catalog_topic.read(kafka).rows == before


def test_tasks_that_swap_their_routes_can_be_published(kafka: Kafka, tmp_path: Path) -> None:
    catalog_file(tmp_path)
    run(kafka, tmp_path, "catalog", "publish", "catalog.yaml")
    swapped = CATALOG.replace("ceiling_qps: 90", "ceiling_qps: 90, route: ocr").replace(
        "3}", "3, route: chat}"
    )
    catalog_file(tmp_path, swapped)
    run(kafka, tmp_path, "catalog", "publish", "catalog.yaml")
    held = catalog_topic.read(kafka).catalog.tasks
    assert {name: task.route for (_, name), task in held.items()} == {"chat": "ocr", "ocr": "chat"}


def test_what_nobody_can_use_is_shown_and_published_over(kafka: Kafka, tmp_path: Path) -> None:
    catalog_file(tmp_path)
    write(kafka, topics.TASKS, [("vision/chat", "no row"), ("vision/gone", "{}")])
    assert "vision/chat, vision/gone" in run(kafka, tmp_path, "catalog", "show").stderr
    done = run(kafka, tmp_path, "catalog", "publish", "catalog.yaml")
    assert done.stdout.splitlines() == ["+ vision/chat", "- vision/gone", "+ vision/ocr"]
    assert sorted(catalog_topic.read(kafka).rows) == ["vision/chat", "vision/ocr"]


# Recordings


def recorded(kafka: Kafka) -> None:
    # After the catalog was published, which is when its rows say that they hold from.
    now_ms = to_epoch_ms(datetime.now(UTC).replace(microsecond=0)) + 1000
    counts = [(0, 4), (20, 1), (30, 1), (40, 8)]
    put(kafka, topics.REPLICAS, [replicas_row(now_ms + second * 1000, count) for second, count in counts])
    put(kafka, topics.GATEWAYS, [gateway_row(now_ms + second * 1000, 1) for second in (0, 30)])


def test_what_was_recorded_replays_to_the_same_bytes_each_time(kafka: Kafka, tmp_path: Path) -> None:
    catalog_file(tmp_path)
    run(kafka, tmp_path, "catalog", "publish", "catalog.yaml")
    recorded(kafka)
    write(kafka, topics.REPLICAS, [("vision/chat", "no row")])
    reported = run(kafka, tmp_path, "limits", "record", "--out", "events.jsonl.gz", "--since", "10m").stderr
    assert "kubernetes.replicas: 4" in reported
    assert "1 messages are not valid rows" in reported
    lines = gzip.decompress((tmp_path / "events.jsonl.gz").read_bytes()).splitlines()
    assert len(lines) == 2 + 4 + 2
    nowhere = Kafka(bootstrap_servers="127.0.0.1:1")
    first = run(nowhere, tmp_path, "replay-limits", "events.jsonl.gz")
    (tmp_path / "shuffled.jsonl").write_bytes(b"\n".join(sorted(lines)))
    second = run(nowhere, tmp_path, "replay-limits", "shuffled.jsonl")
    assert (first.stdout, first.stderr) == (second.stdout, second.stderr)
    rows = [RateLimitRow.model_validate_json(line) for line in first.stdout.splitlines()]
    assert [row.limit_qps for row in rows] == [40, 10, 20, 40, 80]
    assert "vision/chat: pushes 5, cuts 1, raises 3" in first.stderr
    tried = run(
        nowhere, tmp_path, "replay-limits", "shuffled.jsonl", "--max-raise", "8", "--down-window", "15"
    )
    tried_rows = [RateLimitRow.model_validate_json(line) for line in tried.stdout.splitlines()]
    assert [row.limit_qps for row in tried_rows] == [40, 10, 80]
    existing = run(kafka, tmp_path, "limits", "record", "--out", "events.jsonl.gz", "--since", "10m", code=2)
    assert "the file exists already" in existing.stderr


def test_a_recording_takes_the_catalogs_file_and_goes_on_until_it_is_ended(
    kafka: Kafka, tmp_path: Path
) -> None:
    catalog_file(tmp_path)
    where = {"TIDEGATE_CATALOG__FILE": "catalog.yaml"}
    for topic in (topics.REPLICAS, topics.GATEWAYS):
        write(kafka, topic, [])
    arguments = ("limits", "record", "--out", "events.jsonl", "--for", "1h")
    with started(kafka, tmp_path, *arguments, **where) as process:
        part = tmp_path / "events.jsonl.part"
        until(part.exists)
        recorded(kafka)
        until(lambda: part.read_text().count("kubernetes.") == 6)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    found = [json.loads(line)["topic"] for line in lines]
    assert found.count("tidegate.tasks") == 2
    assert found.count("kubernetes.replicas") == 4
    assert not (tmp_path / "events.jsonl.part").exists()


def test_a_wrong_line_is_reported_with_file_line_and_field(kafka: Kafka, tmp_path: Path) -> None:
    good = replicas_row(1_795_514_400_000, 4).model_dump_json()
    lines = [
        f'{{"topic":"kubernetes.replicas","value":{good}}}',
        '{"topic":"kubernetes.replicas","value":{"id":1}}',
    ]
    (tmp_path / "events.jsonl").write_text("\n\n".join(lines))
    reported = run(kafka, tmp_path, "replay-limits", "events.jsonl", code=1).stderr
    assert "events.jsonl: line 3: value.id: Input should be a valid string" in reported
    assert "can't be read" in run(kafka, tmp_path, "replay-limits", "nothing.jsonl", code=1).stderr
    (tmp_path / "broken.gz").write_bytes(gzip.compress(b"{}")[:-9])
    assert "broken.gz: can't be read" in run(kafka, tmp_path, "replay-limits", "broken.gz", code=1).stderr


def test_without_a_catalog_a_replay_fails_and_says_what_it_needs(kafka: Kafka, tmp_path: Path) -> None:
    row = replicas_row(1_795_514_400_000, 4).model_dump_json()
    (tmp_path / "events.jsonl").write_text(f'{{"topic":"kubernetes.replicas","value":{row}}}')
    catalog_file(tmp_path)
    assert "give --catalog FILE" in run(kafka, tmp_path, "replay-limits", "events.jsonl", code=1).stderr
    given = ("replay-limits", "events.jsonl", "--catalog", "catalog.yaml")
    assert "give --gateways N" in run(kafka, tmp_path, *given).stderr
    assert json.loads(run(kafka, tmp_path, *given, "--gateways", "2").stdout)["limit_qps_per_gateway"] == 20
    assert "max_raise" in run(kafka, tmp_path, *given, "--max-raise", "0.5", code=2).stderr


@contextmanager
def started(kafka: Kafka, folder: Path, *arguments: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tidegate.cli.main", *arguments],
        env=os.environ | environment(kafka, **more),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
