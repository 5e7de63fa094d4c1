"""The job task-profile on Flink and the real Kafka, against a reading of the same rows in plain Python."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.support.flink_cluster import task_profile_submitted
from tests.support.kafka_messages import messages
from tests.support.limit_rows import replicas_row
from tests.support.waiting import until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.jobs import environment, task_profile
from tidegate.jobs.logic.catalog_rows import rows_of
from tidegate.schemas import catalog as catalogs
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import TaskRow
from tidegate.schemas.rows.resources import TaskProfile
from tidegate.schemas.rows.signals import AutoscalingSignals
from tidegate.schemas.settings import Flink, Kafka, Settings, Stack
from tidegate.schemas.timestamps import from_epoch_ms, to_epoch_ms, to_text
from tidegate.schemas.topics import Topic
from tidegate.stack.local import LocalStack

TASK_MANAGER = "flink-taskmanager"
START_MS = 1_795_514_400_000
SECONDS = 90
TASKS = ("chat", "tags")


class Put:
    """Writes rows as the jobs and adapters do."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        ensure_topics(kafka, topics.ALL_TOPICS)
        self._producer = Producer({**kafka.client_config(), "enable.idempotence": True})

    def __call__(self, topic: Topic, key: str, row: dict[str, Any] | str | None) -> None:
        value = json.dumps(row, separators=(",", ":")) if isinstance(row, dict) else row
        self._producer.produce(self._kafka.topic(topic), value, key)

    def done(self) -> None:
        assert self._producer.flush(30) == 0


def bucket(latency_ms: float) -> int:
    """Bucket i holds (g^i, g^(i+1)] ms."""
    return math.ceil(32 * math.log2(latency_ms)) - 1


def service_row(task: str, level: str, start_ms: int, latencies: list[float], limited: int) -> dict[str, Any]:
    """What the job reads of a service-metrics row, and a field that it doesn't know."""
    buckets: dict[str, int] = {}
    for latency in latencies:
        index = str(bucket(latency))
        buckets[index] = buckets.get(index, 0) + 1
    return {
        "span": "1s",
        "level": level,
        "department": "vision",
        "task": task,
        "version": "v1" if level == "version" else None,
        "replica": "10.0.0.1:80" if level == "replica" else None,
        "window_start": to_text(from_epoch_ms(start_ms)),
        "window_end": to_text(from_epoch_ms(start_ms + 1000)),
        "requests": len(latencies) + limited,
        "rate_limited": limited,
        "errors_5xx": 0,
        "aborted": 0,
        "latency_count": len(latencies),
        "latency_min_ms": min(latencies) if latencies else None,
        "latency_max_ms": max(latencies) if latencies else None,
        "histogram": {"scale": 5, "zero": 0, "buckets": buckets},
        "more": 1,
    }


@pytest.fixture
def profiles(kafka: Kafka, tmp_path: Path) -> tuple[dict[str, TaskProfile], dict[str, Any], list[Any]]:
    """Profiles by task, what was put in, and the dead letters."""
    put, dice = Put(kafka), random.Random(3)
    seen: dict[str, Any] = {task: [] for task in TASKS}
    for second in range(SECONDS):
        for task in TASKS:
            latencies = [math.exp(dice.gauss(4, 0.6)) for _ in range(dice.randint(0, 20))]
            limited = dice.randint(0, 3)
            if task == "tags" and second >= 40:
                continue  # it is quiet at the end, while the other one isn't
            seen[task].append((second, latencies, limited))
            for level in ("replica", "version", "task"):
                row = service_row(task, level, START_MS + 1000 * second, latencies, limited)
                put(topics.SERVICE_METRICS_1S, f"vision/{task}", row)
    put(topics.SERVICE_METRICS_1S, "vision/chat", '{"level":"task","window_end":"soon"}')
    put(topics.SERVICE_METRICS_1S, "vision/chat", "no row")
    put(topics.REPLICAS, "vision/chat", replicas_row(START_MS, 3, task="chat").model_dump_json())
    put(topics.TASKS, "vision/chat", catalog_row().model_dump_json())
    put.done()
    settings = Settings(
        kafka=kafka, stack=Stack(state_dir=tmp_path), flink=Flink(checkpoint_dir=tmp_path / "checkpoints")
    )
    where = environment.Where(bounded=True)
    tables = environment.create(settings, where, task_profile.NAME, task_profile.OPTIONS)
    task_profile.main(tables, settings, bounded=True).execute().wait()
    found = {}
    for message in messages(kafka, topics.TASK_PROFILE):
        profile = TaskProfile.model_validate_json(message.value() or b"")
        assert (message.key() or b"").decode() == profile.id
        assert profile.task not in found, "a bounded run says it once"
        found[profile.task] = profile
    letters = [json.loads(message.value() or b"") for message in messages(kafka, topics.DEAD_LETTERS)]
    (signals,) = [
        AutoscalingSignals.model_validate_json(message.value() or b"")
        for message in messages(kafka, topics.AUTOSCALING_SIGNALS)
    ]
    wanted = math.ceil((found["chat"].qps or 0) / 2 - 1e-9)
    assert (signals.id, signals.desired_replicas) == ("vision/chat", min(wanted, 3 + 4, 9))
    return found, seen, letters


def catalog_row() -> TaskRow:
    """Chat's entry in the catalog: two requests/s a replica, and nine of them at most."""
    text = """
        gateways: {edge: {}}
        departments:
          vision:
            gateway: edge
            tasks:
              chat:
                qps_per_replica: 3
                owner: team-chat
                autoscaling: {max_replicas: 9, targets: {qps_per_replica: 2}}
    """
    (row,) = rows_of(catalogs.parse(text, "catalog"), from_epoch_ms(START_MS))
    return row


def nearest_rank(values: list[float], percent: float) -> float:
    return sorted(values)[max(1, math.ceil(percent / 100 * len(values))) - 1]


def test_profiles_are_what_the_rows_say(
    profiles: tuple[dict[str, TaskProfile], dict[str, Any], list[Any]],
) -> None:
    found, seen, letters = profiles
    assert set(found) == set(TASKS)
    chat, tags = found["chat"], found["tags"]
    newest = [one for one in seen["chat"] if one[0] >= SECONDS - 60]
    requests = sum(len(latencies) + limited for _, latencies, limited in newest)
    latencies = [latency for _, some, _ in newest for latency in some]
    assert (chat.traffic_window_seconds, chat.requests) == (60, requests)
    assert chat.qps == pytest.approx(requests / 60)
    assert chat.latency_count == len(latencies)
    assert chat.latency_p50_ms == pytest.approx(nearest_rank(latencies, 50), rel=0.011)
    assert chat.latency_p99_ms == pytest.approx(nearest_rank(latencies, 99), rel=0.011)
    assert chat.replicas_ready == 3
    assert chat.qps_per_replica == pytest.approx(len(latencies) / 60 / 3)
    recent = [one for one in seen["chat"] if one[0] >= SECONDS - 6]
    assert chat.qps_recent == pytest.approx(sum(len(some) + limited for _, some, limited in recent) / 6)
    assert [version.version for version in chat.versions] == ["v1"]
    assert (chat.owner, chat.capacity_qps_per_replica) == ("team-chat", 3)

    quiet = [one for one in seen["tags"] if one[0] >= SECONDS - 60]
    assert tags.requests == sum(len(some) + limited for _, some, limited in quiet) > 0
    assert tags.replicas_ready is None
    assert set(tags.stale_inputs) == {"replicas", "limit", "resources", "catalog"}

    assert {letter["topic"] for letter in letters} == {
        letter["topic"] for letter in letters if letter["topic"].endswith("service-metrics.1s")
    }
    assert len(letters) == 2


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_after_a_crash_it_goes_on_with_what_it_knew_and_counts_traffic_anew(
    kafka: Kafka, own_stack: LocalStack, own_flink_cluster: str, tmp_path: Path
) -> None:
    settings = Settings(
        kafka=kafka,
        flink=Flink(
            checkpoint_dir=tmp_path,
            checkpoint_interval_seconds=1,
            restart_initial_backoff_seconds=0.5,
            restart_max_backoff_seconds=2,
        ),
    )
    put, second, sent = Put(kafka), round(time.time()) - 30, 0

    def go_on() -> None:
        """A request a second, up to now: rows of each second, once."""
        nonlocal second, sent
        while second < time.time() - 1:
            put(
                topics.SERVICE_METRICS_1S,
                "vision/chat",
                service_row("chat", "task", 1000 * second, [50.0], 0),
            )
            second, sent = second + 1, sent + 1
        put.done()
        time.sleep(0.2)

    def newest() -> dict[str, TaskProfile]:
        rows = [
            TaskProfile.model_validate_json(message.value() or b"")
            for message in messages(kafka, topics.TASK_PROFILE)
        ]
        return {row.task: row for row in rows}

    def chat_is(condition: Callable[[TaskProfile], bool], what: str) -> TaskProfile:
        until(lambda: "chat" in newest() and condition(newest()["chat"]), what, step=go_on)
        return newest()["chat"]

    # `tags` has no traffic at all: nothing but its timer says it again.
    put(topics.REPLICAS, "vision/tags", replicas_row(1000 * second, 2, task="tags").model_dump_json())
    put(topics.REPLICAS, "vision/chat", replicas_row(1000 * second, 3, task="chat").model_dump_json())
    put(topics.TASKS, "vision/chat", catalog_row().model_dump_json())
    with task_profile_submitted(settings, own_flink_cluster) as job:
        before = chat_is(lambda row: row.qps == 1 and row.traffic_window_seconds >= 55, "traffic before")
        assert (before.replicas_ready, before.owner) == (3, "team-chat")
        checkpoint_at = time.time()
        job.wait_for_checkpoint()
        own_stack.kill(TASK_MANAGER)
        own_stack.up([TASK_MANAGER])
        until(lambda: job.restored() >= 1 and job.is_running(), "it goes on", step=go_on)
        again = round(time.time() * 1000)
        put(topics.REPLICAS, "vision/chat", replicas_row(again, 3, task="chat").model_dump_json())
        after = chat_is(
            lambda row: to_epoch_ms(row.computed_at) > again and row.qps is not None,
            "traffic after the crash",
        )
        assert (after.qps, after.requests) == (1, after.traffic_window_seconds)
        # What was read before the checkpoint is not in it.
        assert 15 <= after.traffic_window_seconds <= time.time() - checkpoint_at
        assert (after.owner, after.capacity_qps_per_replica) == ("team-chat", 3)
        until(
            lambda: (
                to_epoch_ms(newest()["tags"].computed_at) > again and newest()["tags"].replicas_ready == 2
            ),
            "the quiet task is published, with what was known",
            step=go_on,
        )
