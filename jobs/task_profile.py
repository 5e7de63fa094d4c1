"""The job task-profile: every window, replica, limit and catalog row in; what is known of each task now out.

    input_query the messages of all inputs with their keys, each named after its topic
    Profile     by task: keeps what is known (jobs/logic/profile/task_profile.py), published at once when
                replicas or limit change, and every few seconds; the signals beside it are of
                jobs/logic/profile/autoscaling.py

Rows of a second's replicas are left out in the source: a department's replicas are most of the topic, and the profile
needs their minutes only.

What is known is in this process' memory (jobs/keyed.py). Flink's state has what must survive a restart, and is written
when that changes, not with each row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from pydantic import ValidationError
from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, OutputTag, RuntimeContext

from tidegate.jobs.kafka_tables import dead_letters_table, messages_sink, messages_table, text, timestamp_text
from tidegate.jobs.keyed import KeyedMemory
from tidegate.jobs.logic.profile.autoscaling import SignalMemory, decide
from tidegate.jobs.logic.profile.task_profile import TaskState
from tidegate.jobs.logic.profile.task_profile_state import FORMAT, ProfiledTask, Scaling
from tidegate.jobs.logic.profile.task_traffic import SETTLE_MS, SecondsObserved
from tidegate.jobs.messages import DEAD, MESSAGE, dead_letter, error_text
from tidegate.jobs.messages import OPTIONS as MESSAGE_OPTIONS
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import RateLimitRow, ReplicasRow, TaskRow
from tidegate.schemas.rows.resources import ResourceMetricsRow
from tidegate.schemas.settings import Kafka, Settings
from tidegate.schemas.settings.signals import ProfileSettings
from tidegate.schemas.timestamps import from_text, to_epoch_ms
from tidegate.schemas.topics import Topic

if TYPE_CHECKING:
    from pyflink.table import StatementSet, StreamTableEnvironment

NAME = "task-profile"
OPTIONS = MESSAGE_OPTIONS
_STORED_EVERY_MS = 60_000
"""What is not worth a write of its own is written this often: learned capacity, an autoscaler's past."""
_LAST = (1 << 63) - 1
"""A bounded run publishes each task's profile once, when everything has been read."""


SIGNALS = OutputTag("signals", MESSAGE)
"""The side output of autoscaling signals."""


class Input(NamedTuple):
    """A topic that is read. look_back_seconds: a start without a checkpoint reads so far back; None: all of it."""

    topic: Topic
    look_back_seconds: float | None


INPUTS: dict[str, Input] = {
    "seconds": Input(topics.SERVICE_METRICS_1S, 120),
    "minutes": Input(topics.SERVICE_METRICS_1M, 3600),
    "resources": Input(topics.RESOURCE_METRICS_10S, 120),
    "replicas": Input(topics.REPLICAS, 90),
    "limits": Input(topics.RATE_LIMITS_CURRENT, None),
    "tasks": Input(topics.TASKS, None),
}


class Profile(KeyedProcessFunction):  # type: ignore[misc]
    """The profiles of this instance's tasks. A task that has state has a timer."""

    def __init__(self, settings: Settings, *, bounded: bool) -> None:
        """bounded: publish each profile once, at the end."""
        self._settings: ProfileSettings = settings.task_profile
        self._valid_ms = round(1000 * settings.autoscaling.valid_seconds)
        self._prefix = settings.kafka.topic_prefix
        self._bounded = bounded
        self._tasks: KeyedMemory[ProfiledTask]
        self._seconds = self._none_observed()

    def open(self, runtime_context: RuntimeContext) -> None:
        """Declare the state: what is known of a task without its traffic, and its autoscaling."""
        self._tasks, self._seconds = KeyedMemory(runtime_context, FORMAT), self._none_observed()

    def process_element(self, value: Any, context: Any) -> Iterator[Any]:
        """value: (key, input, message, partition, offset, when Kafka got it)."""
        key, source, message, partition, offset, seen_at = value
        service = context.timer_service()
        seen_ms = to_epoch_ms(from_text(seen_at))
        now_ms = seen_ms if self._bounded else service.current_processing_time()
        task = self._tasks.find(key)
        is_new = task is None
        if task is None:
            department, _, name = key.partition("/")
            task = ProfiledTask(TaskState(department, name))
        try:
            changed = self._observe(task.known, source, message, now_ms)
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            reason = error_text(error) if isinstance(error, ValidationError) else f"not a row: {error!r}"
            topic = INPUTS[source].topic.full_name(self._prefix)
            yield DEAD, dead_letter(reason, topic, NAME, message, partition, offset, seen_at)
            return
        if is_new:
            self._tasks.add(key, task)
            self._tasks.store(key, now_ms)
            if self._bounded:
                service.register_event_time_timer(_LAST)
            else:
                self._set_timer(service)
        if changed and not self._bounded:
            yield from self._rows(key, task, now_ms)
            self._tasks.store(key, now_ms)

    def on_timer(self, timestamp: int, context: Any) -> Iterator[Any]:
        """Publish the profile anew, or forget a task that is gone."""
        key = context.get_current_key()
        task = self._tasks.find(key)
        if task is None:
            return
        if self._bounded:
            yield from self._rows(key, task, max(task.known.observed_ms, self._seconds.at_ms or 0))
            return
        service = context.timer_service()
        now_ms = service.current_processing_time()
        if task.known.gone(now_ms):
            gone = Row(key, None)
            yield gone
            yield SIGNALS, gone
            self._tasks.forget(key)
            return
        yield from self._rows(key, task, now_ms)
        self._tasks.store_when_due(key, now_ms, _STORED_EVERY_MS)
        self._set_timer(service)

    def _none_observed(self) -> SecondsObserved:
        return SecondsObserved(0 if self._bounded else SETTLE_MS)

    def _observe(self, known: TaskState, source: str, message: bytes | None, now_ms: int) -> bool:
        """Returns whether it has to be published, and stored, at once."""
        if source == "tasks":
            known.observe_task(None if message is None else TaskRow.model_validate_json(message), now_ms)
            return True
        if message is None:
            return False
        if source == "seconds":
            self._seconds.observe(known.observe_second(orjson.loads(message), now_ms, self._settings), now_ms)
        elif source == "minutes":
            known.observe_minute(orjson.loads(message), now_ms, self._settings)
        elif source == "resources":
            known.observe_resources(ResourceMetricsRow.model_validate_json(message), now_ms)
        elif source == "replicas":
            return known.observe_replicas(ReplicasRow.model_validate_json(message), now_ms)
        else:
            return known.observe_limit(RateLimitRow.model_validate_json(message), now_ms)
        return False

    def _rows(self, key: str, task: ProfiledTask, now_ms: int) -> Iterator[Any]:
        """The profile; of a task with a policy also its signals, when they changed or half of their time is over."""
        profile = task.known.profile(now_ms, self._seconds, self._settings)
        yield Row(profile.id, profile.model_dump_json())
        policy = task.known.catalog.autoscaling if task.known.catalog else None
        before = task.scaling
        if policy is None:
            if before is not None:
                yield SIGNALS, Row(profile.id, None)
                task.scaling = None
                self._tasks.store(key, now_ms)
            return
        memory = before.memory if before is not None else SignalMemory()
        signals, memory = decide(profile, policy, memory, now_ms, self._valid_ms)
        published_ms = 0 if before is None else before.published_ms
        decided = before is None or memory.revision != before.memory.revision
        if decided or now_ms - published_ms >= self._valid_ms / 2:
            published_ms = now_ms
            yield SIGNALS, Row(signals.id, signals.model_dump_json())
        task.scaling = Scaling(memory, published_ms)
        if decided:
            self._tasks.store(key, now_ms)

    def _set_timer(self, service: Any) -> None:
        fires_ms = service.current_processing_time() + round(self._settings.renew_seconds * 1000)
        service.register_processing_time_timer(fires_ms)


def input_query() -> str:
    """All inputs as one: key, input, message, and where it stood."""
    return " UNION ALL ".join(
        f"""
        SELECT
          message_key, {text(name)} AS input, message, kafka_partition, kafka_offset,
          {timestamp_text("kafka_time")} AS seen_at
        FROM input_{name} WHERE message_key IS NOT NULL{_only(name)}"""
        for name in INPUTS
    )


def _only(name: str) -> str:
    """What is needed of an input, so that nothing else goes to Python. By its text: the row's own level decides."""
    if name == "seconds":
        return """ AND POSITION('"level":"replica"' IN DECODE(message, 'UTF-8')) = 0
          AND POSITION('"level":"department"' IN DECODE(message, 'UTF-8')) = 0"""
    if name in ("minutes", "resources"):
        return """ AND POSITION('"level":"department"' IN DECODE(message, 'UTF-8')) = 0"""
    return ""


def build(environment: StreamTableEnvironment, settings: Settings, *, bounded: bool) -> StatementSet:
    """The whole job over registered tables, ready to execute."""
    everything = environment.to_data_stream(environment.sql_query(input_query()))
    function = Profile(settings, bounded=bounded)
    profiles = everything.key_by(lambda row: row[0], Types.STRING()).process(function, MESSAGE)
    profiles.uid(f"{NAME}-profile").name("Profile")
    statements = environment.create_statement_set()
    statements.add_insert("task_profiles", environment.from_data_stream(profiles))
    statements.add_insert(
        "autoscaling_signals", environment.from_data_stream(profiles.get_side_output(SIGNALS))
    )
    statements.add_insert("dead_letters", environment.from_data_stream(profiles.get_side_output(DEAD)))
    return statements


def register_inputs(environment: StreamTableEnvironment, settings: Settings, *, bounded: bool) -> None:
    """The topics that are read as tables. bounded: what is in them now."""
    for name, source in INPUTS.items():
        environment.execute_sql(
            messages_table(
                f"input_{name}",
                settings.kafka,
                source.topic,
                settings.task_profile.consumer_group,
                bounded=bounded,
                look_back_seconds=source.look_back_seconds,
                keyed=True,
            )
        )


def main(environment: StreamTableEnvironment, settings: Settings, *, bounded: bool) -> StatementSet:
    """The job on Kafka: registers the topics as tables, then builds.

    bounded: read what is in the topics now, publish each profile once, end.
    """
    kafka: Kafka = settings.kafka
    register_inputs(environment, settings, bounded=bounded)
    environment.execute_sql(messages_sink("task_profiles", kafka, topics.TASK_PROFILE))
    environment.execute_sql(messages_sink("autoscaling_signals", kafka, topics.AUTOSCALING_SIGNALS))
    environment.execute_sql(dead_letters_table("dead_letters", kafka))
    return build(environment, settings, bounded=bounded)
