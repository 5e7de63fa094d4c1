"""The job resource-metrics: Prometheus' samples in; what each replica and each task uses in 10 s and a minute out.

    samples     the messages of prometheus.metrics, and who is ready (kubernetes.replicas), as they are
    Read        the samples that matter, by pod; or dead letters
    Pods        by pod: its samples into windows (jobs/logic/resources/windows.py), and the pod's task
    Tasks       by task: its pods' windows, and the task's (jobs/logic/resources/task_resources.py)

A pod's task is in the watcher's rows, else in the pod's own name: a deployment's or a stateful set's, read as a service
of its name would be.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import ValidationError
from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, OutputTag, ProcessFunction, RuntimeContext

from tidegate.jobs.kafka_tables import dead_letters_table, messages_sink, messages_table, timestamp_text
from tidegate.jobs.keyed import KeyedMemory
from tidegate.jobs.logic.identity import of_service, workload_of_pod
from tidegate.jobs.logic.resources import task_resources_state
from tidegate.jobs.logic.resources import windows_state as resource_windows_state
from tidegate.jobs.logic.resources.raw_samples import BadSample
from tidegate.jobs.logic.resources.samples import DESIRED, KINDS, ResourceSample, sample_of
from tidegate.jobs.logic.resources.task_resources import TaskWindows
from tidegate.jobs.logic.resources.task_resources_state import WaitingTask
from tidegate.jobs.logic.resources.windows import Closed, Pod, row_of
from tidegate.jobs.logic.resources.windows_state import ObservedPod
from tidegate.jobs.messages import DEAD, MESSAGE, dead_letter, error_text
from tidegate.jobs.messages import OPTIONS as MESSAGE_OPTIONS
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import ReplicasRow
from tidegate.schemas.rows.resources import ResourceMetricsRow
from tidegate.schemas.settings import AccessLog, Settings
from tidegate.schemas.settings.signals import ResourceMetrics
from tidegate.schemas.timestamps import from_text, to_epoch_ms

if TYPE_CHECKING:
    from pyflink.table import StatementSet, StreamTableEnvironment

__all__ = ["NAME", "OPTIONS", "Pods", "Read", "Tasks", "build", "main"]

NAME = "resource-metrics"
OPTIONS = {
    **MESSAGE_OPTIONS,
    # A pod's samples of a scrape come together: state is written once for all of them, and windows of 10 s can wait.
    "python.fn-execution.bundle.time": "300",
}
_LAST = (1 << 63) - 1
_AHEAD_MS = 600_000
"""A sample so far ahead of Kafka's clock is refused: it would close all of its pod's windows."""
_LOOK_BACK_SECONDS = 120
_NAMES = tuple(f'"{name}"'.encode() for name in KINDS)
_SAMPLE = Types.ROW(
    [Types.STRING(), Types.STRING(), Types.STRING(), Types.LONG(), Types.DOUBLE(), Types.LONG()]
)
"""Pod's key, metric's name, series' text, moment in ms, value, when Kafka got it in ms."""
_IDENTITY = "@task"
"""In place of a metric's name: `part` is the pod's task."""
_WINDOW = Types.ROW([Types.STRING(), Types.STRING(), Types.STRING()])
"""Task's key, what it is (a span, or `desired`), a row's text or a number's."""
_MINUTES = OutputTag("minutes", MESSAGE)
_AVRO_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Metric",
    "fields": [
        {"name": "timestamp", "type": "string"},
        {"name": "value", "type": "string"},
        {"name": "name", "type": "string"},
        {"name": "labels", "type": {"type": "map", "values": "string"}},
    ],
}


class Read(ProcessFunction):  # type: ignore[misc]
    """A message as the samples that matter, keyed by pod."""

    def __init__(self, settings: ResourceMetrics, topic: str) -> None:
        self._avro = settings.format == "avro"
        self._topic = topic
        self._scraper_labels = frozenset(settings.scraper_labels)
        self._schema: Any = None

    def process_element(self, value: Any, context: Any) -> Iterator[Any]:
        """value: (message, partition, offset, when Kafka got it)."""
        message, partition, offset, seen_at = value
        seen_ms = to_epoch_ms(from_text(seen_at))
        message = message or b""
        if not self._avro and not any(name in message for name in _NAMES):
            return  # most samples are of other metrics
        try:
            sample = sample_of(self._parsed(message), self._scraper_labels)
            if sample is None:
                return
            if sample.at_ms > seen_ms + _AHEAD_MS:
                raise BadSample(f"timestamp: {(sample.at_ms - seen_ms) / 1000:.0f} s ahead of Kafka's clock")
        except (BadSample, ValueError, EOFError) as error:
            yield DEAD, dead_letter(str(error), self._topic, NAME, message, partition, offset, seen_at)
            return
        yield Row(_key(sample), sample.name, sample.part, sample.at_ms, sample.value, seen_ms)

    def _parsed(self, message: bytes) -> Any:
        if not self._avro:
            return orjson.loads(message)
        import fastavro

        if self._schema is None:
            self._schema = fastavro.parse_schema(_AVRO_SCHEMA)
        try:
            return fastavro.schemaless_reader(io.BytesIO(message), self._schema, None)
        except Exception as error:  # it raises whatever its parts raise
            raise BadSample(f"not a sample's Avro record: {error!r}") from error


class ReadPods(ProcessFunction):  # type: ignore[misc]
    """Who is ready, as the task of each pod."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def process_element(self, value: Any, context: Any) -> Iterator[Any]:
        """value: as of Read."""
        message, partition, offset, seen_at = value
        try:
            row = ReplicasRow.model_validate_json(message or b"")
        except ValidationError as error:
            yield DEAD, dead_letter(error_text(error), self._topic, NAME, message, partition, offset, seen_at)
            return
        namespace = row.workload.partition("/")[0]
        if row.source != "kubernetes":
            return  # only the API's names are pods'
        for replica in row.replicas:
            yield Row(f"{namespace}/{replica.name}", _IDENTITY, f"{row.department}/{row.task}", 0, 0.0, 0)


class Pods(KeyedProcessFunction):  # type: ignore[misc]
    """The samples of this instance's pods into their windows. Everything is in memory, and in Flink's state."""

    def __init__(self, settings: ResourceMetrics, access_log: AccessLog, *, bounded: bool) -> None:
        self._delay_ms = round(1000 * settings.watermark_delay_seconds)
        self._access_log = access_log
        self._bounded = bounded
        self._pods: KeyedMemory[ObservedPod]
        self._late: Any = None

    def open(self, runtime_context: RuntimeContext) -> None:
        """Declare the state, all of a pod."""
        self._pods = KeyedMemory(runtime_context, resource_windows_state.FORMAT)
        self._late = runtime_context.get_metrics_group().counter("lateSamples")

    def process_element(self, value: Any, context: Any) -> Iterator[Any]:
        """value: (key, name, part, at_ms, value, seen_ms)."""
        key, name, part, at_ms, number, _ = value
        if name == DESIRED:
            yield Row(self._named(*key.split("//")), "desired", str(number))
            return
        one = self._pods.find_or_add(key, ObservedPod)
        service = context.timer_service()
        if name == _IDENTITY:
            if one.task != part:
                one.task = part
                if one.timer is None and not self._bounded:
                    self._set_timer(service, one)
                self._pods.store(key)
            return
        if one.pod is None:
            one.pod = Pod()
        late = one.pod.late
        one.pod.add(ResourceSample("", "", "", name, part, at_ms, number))
        if one.pod.late > late:
            self._late.inc(one.pod.late - late)
        if self._bounded:
            if one.timer is None:
                service.register_event_time_timer(_LAST)
                one.timer = (_LAST, 0)
        else:
            yield from self._rows(key, one, list(one.pod.close(one.pod.newest_ms - self._delay_ms)))
            if one.timer is None:
                self._set_timer(service, one)
        self._pods.store(key)

    def on_timer(self, timestamp: int, context: Any) -> Iterator[Any]:
        """Where nothing has come since it was set, the pod is gone: what is open is closed, and it is forgotten.

        So is one of which there are no samples; where it lives, the watcher publishes its task again.
        """
        key = context.get_current_key()
        one = self._pods.find_or_add(key, ObservedPod)
        if one.pod is not None:
            if not self._bounded and one.timer is not None and one.pod.newest_ms > one.timer[1]:
                self._set_timer(context.timer_service(), one)
                self._pods.store(key)
                return
            yield from self._rows(key, one, list(one.pod.end()))
        self._pods.forget(key)

    def _rows(self, key: str, one: ObservedPod, closed: list[Closed]) -> Iterator[Row]:
        if not closed:
            return
        namespace, _, pod = key.partition("/")
        task_key = one.task or self._named(namespace, workload_of_pod(pod))
        department, _, task = task_key.partition("/")
        for window in closed:
            yield Row(task_key, window.span, row_of(window, department, task, pod).model_dump_json())

    def _named(self, namespace: str, workload: str) -> str:
        identity = of_service(namespace, workload, self._access_log)
        return f"{identity.department}/{identity.task}"

    def _set_timer(self, service: Any, one: ObservedPod) -> None:
        fires_ms = service.current_processing_time() + 3 * self._delay_ms + 30_000
        service.register_processing_time_timer(fires_ms)
        one.timer = (fires_ms, 0 if one.pod is None else one.pod.newest_ms)


class Tasks(KeyedProcessFunction):  # type: ignore[misc]
    """The windows of this instance's tasks. Their pods' rows are passed on as they come."""

    def __init__(self, settings: ResourceMetrics, *, bounded: bool) -> None:
        self._wait_ms = round(1000 * settings.watermark_delay_seconds)
        self._bounded = bounded
        self._tasks: KeyedMemory[WaitingTask]

    def open(self, runtime_context: RuntimeContext) -> None:
        """Declare the state, all of a task."""
        self._tasks = KeyedMemory(runtime_context, task_resources_state.FORMAT)

    def process_element(self, value: Any, context: Any) -> Iterator[Any]:
        """value: (key, what, text)."""
        key, what, text = value
        one = self._tasks.find_or_add(key, _new_task)
        if what == "desired":
            number = float(text)
            one.known.desired = int(number) if number >= 0 else None  # NaN: no longer published
            self._tasks.store(key)
            return
        row = ResourceMetricsRow.model_validate_json(text)
        yield from _messages([row])
        # A bounded run reads pod by pod: a task's window is whole at the end only.
        closed = one.known.observe(row)
        if closed is not None and not self._bounded:
            yield from _messages([closed])
        service = context.timer_service()
        if self._bounded:
            one.known.published.clear()
            one.known.pods.clear()
            if not one.timer:
                service.register_event_time_timer(_LAST)
                one.timer = True
        elif one.known.waiting and not one.timer:
            service.register_processing_time_timer(service.current_processing_time() + self._wait_ms)
            one.timer = True
        self._tasks.store(key)

    def on_timer(self, timestamp: int, context: Any) -> Iterator[Any]:
        """Not all pods have come, and it has been long enough."""
        key = context.get_current_key()
        one = self._tasks.find_or_add(key, _new_task)
        one.timer = False
        yield from _messages(one.known.overdue())
        self._tasks.store(key)


def build(environment: StreamTableEnvironment, settings: Settings, *, bounded: bool) -> StatementSet:
    """The whole job over registered tables, ready to execute."""
    kafka, own = settings.kafka, settings.resource_metrics
    columns = f"message, kafka_partition, kafka_offset, {timestamp_text('kafka_time')}"
    samples, pods = (
        environment.to_data_stream(environment.sql_query(f"SELECT {columns} FROM {table}"))
        .process(function, _SAMPLE)
        .uid(f"{NAME}-{uid}")
        .name(type(function).__name__)
        for table, function, uid in (
            ("prometheus_samples", Read(own, kafka.topic(topics.PROMETHEUS_METRICS)), "read-samples"),
            ("input_replicas", ReadPods(kafka.topic(topics.REPLICAS)), "read-replicas"),
        )
    )
    windows = (
        samples.union(pods)
        .key_by(lambda row: row[0], Types.STRING())
        .process(Pods(own, settings.access_log, bounded=bounded), _WINDOW)
        .uid(f"{NAME}-pods")
        .name("Pods")
    )
    rows = windows.key_by(lambda row: row[0], Types.STRING()).process(Tasks(own, bounded=bounded), MESSAGE)
    rows.uid(f"{NAME}-tasks").name("Tasks")
    dead = samples.get_side_output(DEAD).union(pods.get_side_output(DEAD))
    statements = environment.create_statement_set()
    statements.add_insert("resource_metrics_10s", environment.from_data_stream(rows))
    statements.add_insert("resource_metrics_1m", environment.from_data_stream(rows.get_side_output(_MINUTES)))
    statements.add_insert("dead_letters", environment.from_data_stream(dead))
    return statements


def main(environment: StreamTableEnvironment, settings: Settings, *, bounded: bool) -> StatementSet:
    """The job on Kafka: registers the topics as tables, then builds.

    bounded: read what is in the topics now, close every window, end.
    """
    kafka, group = settings.kafka, settings.resource_metrics.consumer_group
    for name, topic in (
        ("prometheus_samples", topics.PROMETHEUS_METRICS),
        ("input_replicas", topics.REPLICAS),
    ):
        environment.execute_sql(
            messages_table(name, kafka, topic, group, bounded=bounded, look_back_seconds=_LOOK_BACK_SECONDS)
        )
    environment.execute_sql(messages_sink("resource_metrics_10s", kafka, topics.RESOURCE_METRICS_10S))
    environment.execute_sql(messages_sink("resource_metrics_1m", kafka, topics.RESOURCE_METRICS_1M))
    environment.execute_sql(dead_letters_table("dead_letters", kafka))
    return build(environment, settings, bounded=bounded)


def _new_task() -> WaitingTask:
    return WaitingTask(TaskWindows())


def _key(sample: ResourceSample) -> str:
    """A pod's key; a deployment's has two slashes."""
    return (
        f"{sample.namespace}//{sample.deployment}"
        if sample.deployment
        else f"{sample.namespace}/{sample.pod}"
    )


def _messages(rows: list[ResourceMetricsRow]) -> Iterator[Any]:
    for row in rows:
        message = Row(f"{row.department}/{row.task}", row.model_dump_json())
        if row.span == "1m":
            yield _MINUTES, message
        else:
            yield message
