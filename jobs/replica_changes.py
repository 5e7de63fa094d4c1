"""The job replica-changes: who is ready, as the sources observe, in; settled changes out.

    replica_rows      the messages of kubernetes.replicas, as they are
    rows              by their model, or dead letters (jobs/messages.py)
    Settle            by task: keeps what is known (jobs/logic/replicas/task_replicas.py), with a timer

Time is the sources': a row's `observed_at`, and from there on at the speed of this machine's clock. So neither a clock
that differs nor a backlog that is read late makes a blip look like a change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext

from tidegate.jobs.kafka_tables import dead_letters_table, messages_sink, messages_table
from tidegate.jobs.keyed import KeyedMemory
from tidegate.jobs.logic.replicas.changes import State, Windows, next_due_ms
from tidegate.jobs.logic.replicas.task_replicas import TaskReplicas
from tidegate.jobs.logic.replicas.task_replicas_state import FORMAT, SettlingTask
from tidegate.jobs.messages import DEAD, MESSAGE, OPTIONS, rows
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import ReplicaChange, ReplicasRow
from tidegate.schemas.settings import Settings
from tidegate.schemas.settings.limits import ReplicaChanges

if TYPE_CHECKING:
    from pyflink.table import StatementSet, StreamTableEnvironment


__all__ = ["NAME", "OPTIONS", "Settle", "build", "main", "windows_of"]

NAME = "replica-changes"
_LOOK_BACK_SECONDS = 60
"""A start without a checkpoint reads so far back: every task has a row of the last half minute."""


class Settle(KeyedProcessFunction):  # type: ignore[misc]
    """One task's replicas, stored with each row: there are few, and no limit may depend on what a restart forgot.

    A timer is set for when the next change is due, unless another row comes first.
    """

    def __init__(
        self, windows: Windows, stale_ms: int, history: Mapping[str, ReplicaChange], *, bounded: bool
    ) -> None:
        """history: each task's newest change, for a start without a checkpoint.

        bounded: what is pending when everything has been read settles then.
        """
        self._windows = windows
        self._stale_ms = stale_ms
        self._history = {key: change.model_dump_json() for key, change in history.items()}
        self._bounded = bounded
        self._tasks: KeyedMemory[SettlingTask]

    def open(self, runtime_context: RuntimeContext) -> None:
        """Declare the state: a task's replicas and its timer."""
        self._tasks = KeyedMemory(runtime_context, FORMAT)

    def process_element(self, value: Any, context: Any) -> Iterator[Any]:
        """value: (key, row's text)."""
        key, text = value
        row = ReplicasRow.model_validate_json(text)
        one = self._tasks.find_or_add(key, lambda: SettlingTask(self._begun(key, row)))
        one.known, changes = one.known.observe(row, self._windows, self._stale_ms)
        yield from self._go_on(key, one, changes, context)

    def on_timer(self, timestamp: int, context: Any) -> Iterator[Any]:
        """Nothing came before what was pending is due."""
        key = context.get_current_key()
        one = self._tasks.find(key)
        if one is None or one.timer is None or one.timer[0] != timestamp:
            return
        one.known, changes = one.known.wait(self._windows, one.timer[1])
        yield from self._go_on(key, one, changes, context)

    def _begun(self, key: str, row: ReplicasRow) -> TaskReplicas:
        if before := self._history.get(key):
            return TaskReplicas.restored(ReplicaChange.model_validate_json(before))
        return TaskReplicas(row.department, row.task)

    def _go_on(
        self, key: str, one: SettlingTask, changes: list[ReplicaChange], context: Any
    ) -> Iterator[Any]:
        for change in changes:
            yield Row(f"{change.department}/{change.task}", change.model_dump_json())
        service = context.timer_service()
        if one.timer is not None:
            self._delete(service, one.timer[0])
        one.timer = self._set_timer(service, one.known.state)
        self._tasks.store(key)

    def _set_timer(self, service: Any, state: State) -> tuple[int, int] | None:
        due_ms = next_due_ms(state, self._windows)
        if due_ms is None:
            return None
        if self._bounded:
            service.register_event_time_timer(due_ms)
            return due_ms, due_ms
        fires_ms = service.current_processing_time() + max(1, due_ms - state.now_ms)
        service.register_processing_time_timer(fires_ms)
        return fires_ms, due_ms

    def _delete(self, service: Any, fires_ms: int) -> None:
        if self._bounded:
            service.delete_event_time_timer(fires_ms)
        else:
            service.delete_processing_time_timer(fires_ms)


def build(
    environment: StreamTableEnvironment,
    settings: Settings,
    history: Mapping[str, ReplicaChange],
    *,
    bounded: bool,
) -> StatementSet:
    """The whole job over registered tables, ready to execute."""
    changes = settings.replica_changes
    prefix = settings.kafka.topic_prefix
    observed = rows(environment, "replica_rows", topics.REPLICAS, prefix, ReplicasRow, NAME)
    settled = observed.key_by(lambda row: row[0], Types.STRING()).process(
        Settle(windows_of(changes), round(changes.stale_seconds * 1000), history, bounded=bounded), MESSAGE
    )
    settled.uid(f"{NAME}-settle").name("Settle")
    statements = environment.create_statement_set()
    statements.add_insert("replica_changes", environment.from_data_stream(settled))
    statements.add_insert("dead_letters", environment.from_data_stream(observed.get_side_output(DEAD)))
    return statements


def main(
    environment: StreamTableEnvironment,
    settings: Settings,
    history: Mapping[str, ReplicaChange],
    *,
    bounded: bool,
) -> StatementSet:
    """The job on Kafka: registers the topics as tables, then builds.

    history: each task's newest change, by `department/task`: revisions go on from there.
    bounded: read what is in the topic now, settle what is pending, end.
    """
    kafka = settings.kafka
    for statement in (
        messages_table(
            "replica_rows",
            kafka,
            topics.REPLICAS,
            settings.replica_changes.consumer_group,
            bounded=bounded,
            look_back_seconds=_LOOK_BACK_SECONDS,
        ),
        messages_sink("replica_changes", kafka, topics.REPLICA_CHANGES),
        dead_letters_table("dead_letters", kafka),
    ):
        environment.execute_sql(statement)
    return build(environment, settings, history, bounded=bounded)


def windows_of(settings: ReplicaChanges) -> Windows:
    """The de-jitter's windows, by the settings."""
    return Windows(round(settings.down_window_seconds * 1000), round(settings.up_window_seconds * 1000))
