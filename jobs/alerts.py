"""The job alerts: rows of every kind in; alerts that begin, go on and end out.

    input_query the messages of the topics that the rules look at, with their keys
    Evaluate    by message key: keeps each alert's state (jobs/logic/alerts/evaluation.py)

As in task-profile the state is in memory. Flink's is written when an alert is published, with each minute that a burn
rate counts, and else once a minute: after a restart, what was well for less than that has to be well a little longer.

The rules are read when the job is submitted, and are part of it: other rules are another submission, which goes on with
the alerts that are in the topic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from pyflink.common import Row, Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext

from tidegate.jobs.kafka_tables import dead_letters_table, messages_sink, messages_table, text, timestamp_text
from tidegate.jobs.keyed import KeyedMemory
from tidegate.jobs.logic.alerts.evaluation import Evaluation
from tidegate.jobs.logic.alerts.evaluation_state import FORMAT, EvaluatedKey
from tidegate.jobs.messages import DEAD, MESSAGE, dead_letter
from tidegate.jobs.task_profile import OPTIONS
from tidegate.schemas import topics
from tidegate.schemas.alert_rules import RulesFile
from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.settings import Settings
from tidegate.schemas.timestamps import from_text, to_epoch_ms
from tidegate.schemas.topics import Topic

if TYPE_CHECKING:
    from pyflink.table import StatementSet, StreamTableEnvironment

__all__ = ["NAME", "OPTIONS", "Evaluate", "build", "main", "sources_of"]

NAME = "alerts"
_STORED_EVERY_MS = 60_000
_LOOK_MS = 30_000
"""How often it is looked whether rows have stopped."""


class Input(NamedTuple):
    """A topic that rules may look at. look_back_seconds: a start without a checkpoint reads so far back."""

    topic: Topic
    look_back_seconds: float


INPUTS: Mapping[str, Input] = {
    "service-metrics.1s": Input(topics.SERVICE_METRICS_1S, 120),
    "service-metrics.1m": Input(topics.SERVICE_METRICS_1M, 3600),
    "resource-metrics.10s": Input(topics.RESOURCE_METRICS_10S, 120),
    "resource-metrics.1m": Input(topics.RESOURCE_METRICS_1M, 600),
    "task-profile": Input(topics.TASK_PROFILE, 120),
    "line-counts": Input(topics.LINE_COUNTS, 120),
}


class Evaluate(KeyedProcessFunction):  # type: ignore[misc]
    """The alerts of this instance's message keys."""

    def __init__(
        self, rules: RulesFile, prefix: str, history: Mapping[str, Sequence[AlertRow]], *, bounded: bool
    ) -> None:
        """prefix: of the topics' names. history: by message key the alerts that haven't ended, for a start without
        a checkpoint."""
        self._rules = rules.model_dump_json()
        self._prefix = prefix
        self._history = {key: [row.model_dump_json() for row in rows] for key, rows in history.items()}
        self._bounded = bounded
        self._parsed: RulesFile | None = None
        self._keys: KeyedMemory[EvaluatedKey]

    def open(self, runtime_context: RuntimeContext) -> None:
        """Declare the state: the alerts of a message key, and whether a timer is set."""
        self._parsed = RulesFile.model_validate_json(self._rules)
        self._keys = KeyedMemory(runtime_context, FORMAT)

    def process_element(self, value: Any, context: Any) -> Iterator[Any]:
        """value: (key, source, message, partition, offset, when Kafka got it)."""
        key, source, message, partition, offset, seen_at = value
        if message is None:
            return
        one = self._keys.find_or_add(key, lambda: EvaluatedKey(self._begun(key)))
        seen_ms = to_epoch_ms(from_text(seen_at))
        try:
            # Whole before anything is kept: a row that can't be read changes nothing.
            rows = list(one.known.observe(self._rules_now, source, orjson.loads(message), seen_ms))
        except (ValueError, KeyError, TypeError) as error:
            topic = INPUTS[source].topic.full_name(self._prefix)
            reason = f"not a row: {error!r}"
            yield DEAD, dead_letter(reason, topic, NAME, message, partition, offset, seen_at)
            return
        yield from map(_message, rows)
        must_store = bool(rows) or (source == "service-metrics.1m" and bool(self._rules_now.burn_rates))
        if not self._bounded and not one.timer and not one.known.idle:
            self._set_timer(one, context.timer_service())
            must_store = True
        if must_store:
            self._keys.store(key, seen_ms)
        else:
            self._keys.store_when_due(key, seen_ms, _STORED_EVERY_MS)

    def on_timer(self, timestamp: int, context: Any) -> Iterator[Any]:
        """Look whether its rows have stopped."""
        key = context.get_current_key()
        one = self._keys.find_or_add(key, lambda: EvaluatedKey(self._begun(key)))
        service = context.timer_service()
        now_ms = service.current_processing_time()
        yield from map(_message, list(one.known.expire(self._rules_now, now_ms)))
        one.timer = False
        if not one.known.idle:
            self._set_timer(one, service)
        self._keys.store(key, now_ms)

    @property
    def _rules_now(self) -> RulesFile:
        if self._parsed is None:
            raise RuntimeError("open() has not been called")
        return self._parsed

    def _begun(self, key: str) -> Evaluation:
        known = Evaluation()
        for row in self._history.get(key, ()):
            known.restore(AlertRow.model_validate_json(row))
        return known

    def _set_timer(self, one: EvaluatedKey, service: Any) -> None:
        service.register_processing_time_timer(service.current_processing_time() + _LOOK_MS)
        one.timer = True


def sources_of(rules: RulesFile) -> list[str]:
    """The sources that these rules need."""
    needed: set[str] = {rule.source for rule in rules.rules}
    if rules.burn_rates:
        needed.add("service-metrics.1m")
    if rules.burn_rates or any(isinstance(rule.when.value, str) for rule in rules.rules):
        needed.add("task-profile")  # it has the task's SLO
    return sorted(needed)


def input_query(rules: RulesFile) -> str:
    """All sources as one: key, source, message, and where it stood."""
    return " UNION ALL ".join(
        f"""
        SELECT
          message_key, {text(source)} AS source, message, kafka_partition, kafka_offset,
          {timestamp_text("kafka_time")} AS seen_at
        FROM {_table_of(source)} WHERE message_key IS NOT NULL{_only(source, rules)}"""
        for source in sources_of(rules)
    )


def _only(source: str, rules: RulesFile) -> str:
    """What no rule looks at stays out of Python. By its text: the row's own level decides."""
    if not source.startswith(("service", "resource")):
        return ""
    wanted: set[str] = {rule.row_level for rule in rules.rules if rule.source == source}
    if source == "service-metrics.1m" and rules.burn_rates:
        wanted.add("task")
    return "".join(
        f""" AND POSITION('"level":"{level}"' IN DECODE(message, 'UTF-8')) = 0"""
        for level in ("department", "task", "version", "replica")
        if level not in wanted
    )


def build(
    environment: StreamTableEnvironment,
    settings: Settings,
    rules: RulesFile,
    history: Mapping[str, Sequence[AlertRow]],
    *,
    bounded: bool,
) -> StatementSet:
    """The whole job over registered tables, ready to execute."""
    everything = environment.to_data_stream(environment.sql_query(input_query(rules)))
    function = Evaluate(rules, settings.kafka.topic_prefix, history, bounded=bounded)
    alerts = everything.key_by(lambda row: row[0], Types.STRING()).process(function, MESSAGE)
    alerts.uid(f"{NAME}-evaluate").name("Evaluate")
    statements = environment.create_statement_set()
    statements.add_insert("alerts", environment.from_data_stream(alerts))
    statements.add_insert("dead_letters", environment.from_data_stream(alerts.get_side_output(DEAD)))
    return statements


def main(
    environment: StreamTableEnvironment,
    settings: Settings,
    rules: RulesFile,
    history: Mapping[str, Sequence[AlertRow]],
    *,
    bounded: bool,
) -> StatementSet:
    """The job on Kafka: registers the topics as tables, then builds.

    history: by message key the alerts that haven't ended. bounded: read what is in the topics now, end.
    """
    for source in sources_of(rules):
        environment.execute_sql(
            messages_table(
                _table_of(source),
                settings.kafka,
                INPUTS[source].topic,
                settings.alerts.consumer_group,
                bounded=bounded,
                look_back_seconds=INPUTS[source].look_back_seconds,
                keyed=True,
            )
        )
    environment.execute_sql(messages_sink("alerts", settings.kafka, topics.ALERTS))
    environment.execute_sql(dead_letters_table("dead_letters", settings.kafka))
    return build(environment, settings, rules, history, bounded=bounded)


def _table_of(source: str) -> str:
    """The table of a source's messages."""
    return "input_" + source.replace("-", "_").replace(".", "_")


def _message(row: AlertRow) -> Row:
    return Row(row.alert_key, row.model_dump_json())
