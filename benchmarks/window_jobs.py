"""How fast task-profile and alerts are on Flink, against only reading: `python -m benchmarks.window_jobs`.

Starts a Kafka for itself and writes rows of 2,000 tasks of five replicas into it, as service-metrics does: for each
second and task a row of the task, of its version and of each replica. Flink's local cluster reads them to the end,
parallelism 1, one core for Java and one for Python. The first floor reads and filters the topic as task-profile does
and writes to nowhere; the second hands what is left to a Python function that does nothing; the jobs are whole. alerts
has four rules, all of them on each task's seconds: the shipped ones look at far fewer rows.

Each runs over a third of the seconds, then over all: the difference is what further rows cost, without start-up.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

import orjson
from pyflink.common import Row, Types

from benchmarks.index import START_MS, metrics_rows
from benchmarks.service_metrics import Run, Work, fill, further, in_turns, kafka_for, measured
from tidegate.jobs import alerts, environment, task_profile
from tidegate.schemas import alert_rules, topics
from tidegate.schemas.settings import Settings
from tidegate.schemas.timestamps import from_epoch_ms, to_text

if TYPE_CHECKING:
    from pyflink.table import StreamTableEnvironment

REPLICAS = 5
_BOUNDED = environment.Where(bounded=True)
_RULES = """
rules:
""" + "\n".join(
    f"""
  - name: {field.replace("_", "-")}
    level: interface
    source: service-metrics.1s
    when: {{field: {field}, op: ">", value: 1.0e+9}}
    for_seconds: 10
    severity: warning
    message: "{{department}}/{{task}}: {{value}}"
"""
    for field in ("qps", "latency_p99_ms", "error_rate", "rate_limited_ratio")
)
_START, _END = b'"@start@"', b'"@end@"'


def rows(tasks: int, seconds: range) -> Iterator[tuple[str, bytes]]:
    """The rows of these seconds with their keys."""
    templates = [(key, one) for task in range(tasks) for key, one in _templates(task)]
    for second in seconds:
        start, end = (
            orjson.dumps(to_text(from_epoch_ms(START_MS + 1000 * moment))) for moment in (second, second + 1)
        )
        for key, template in templates:
            yield key, template.replace(_START, start).replace(_END, end)


def _templates(task: int) -> Iterator[tuple[str, bytes]]:
    """A task's rows of one second: its own, its version's, and each replica's."""
    row = orjson.loads(next(metrics_rows(1))) | {
        "department": f"d{task % 20}",
        "task": f"t{task}",
        "window_start": "@start@",
        "window_end": "@end@",
    }
    names = [("task", None, None), ("version", "v1", None)]
    names += [("replica", "v1", f"10.0.{number}.7:8080") for number in range(REPLICAS)]
    for level, version, replica in names:
        yield (
            f"{row['department']}/{row['task']}",
            orjson.dumps(row | {"level": level, "version": version, "replica": replica}),
        )


def read_only(settings: Settings, count: int) -> Run:
    """Read, filter, forget."""
    tables = _reading(settings, "read-only")
    columns = """
        message_key STRING, input STRING, message BYTES, kafka_partition INT, kafka_offset BIGINT, seen_at STRING"""
    tables.execute_sql(f"CREATE TEMPORARY TABLE nothing ({columns}) WITH ('connector' = 'blackhole')")
    everything = task_profile.input_query()
    return measured(count, lambda: tables.execute_sql(f"INSERT INTO nothing {everything}"))


def through_python(settings: Settings, count: int) -> Run:
    """Read, filter, hand to Python, forget."""
    tables = _reading(settings, "through-python")
    tables.execute_sql("CREATE TEMPORARY TABLE nothing (f0 STRING) WITH ('connector' = 'blackhole')")
    everything = tables.to_data_stream(tables.sql_query(task_profile.input_query()))
    keys = everything.map(lambda row: Row(row[0]), Types.ROW([Types.STRING()]))
    statements = tables.create_statement_set()
    statements.add_insert("nothing", tables.from_data_stream(keys))
    return measured(count, statements.execute)


def profiles(settings: Settings, count: int) -> Run:
    """The whole job task-profile."""
    tables = environment.create(settings, _BOUNDED, task_profile.NAME, task_profile.OPTIONS)
    return measured(count, task_profile.main(tables, settings, bounded=True).execute)


def alerting(settings: Settings, count: int) -> Run:
    """The whole job alerts, with four rules."""
    tables = environment.create(settings, _BOUNDED, alerts.NAME, alerts.OPTIONS)
    rules = alert_rules.parse(_RULES, "rules")
    return measured(count, alerts.main(tables, settings, rules, {}, bounded=True).execute)


def _reading(settings: Settings, name: str) -> StreamTableEnvironment:
    tables = environment.create(settings, _BOUNDED, name, task_profile.OPTIONS)
    task_profile.register_inputs(tables, settings, bounded=True)
    return tables


def main() -> None:
    """Print each run, and the job's speed as a part of the floors'."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=90)
    chosen = parser.parse_args()
    first = chosen.seconds // 3
    parts = (rows(chosen.tasks, seconds) for seconds in (range(first), range(first, chosen.seconds)))
    works: dict[str, Work] = {work.__name__: work for work in (read_only, through_python, profiles, alerting)}
    with kafka_for(*topics.ALL_TOPICS) as settings:
        fill(settings.kafka, topics.SERVICE_METRICS_1S, rows(chosen.tasks, range(-1, 0)))
        read_only(settings, 0)  # a cold JVM and a cold disk are nobody's
        more = further(in_turns(settings, topics.SERVICE_METRICS_1S, parts, works))
    print(f"a line is a row: {2 + REPLICAS} of each task and second, of which {REPLICAS} stay out of Python")
    for name, run in more.items():
        part = run.speed / more["read_only"].speed
        print(f"{run}  {name:14}  further rows, {part:.2f} of only reading")
    need = chosen.tasks * (2 + REPLICAS)
    print(f"{chosen.tasks:,} tasks of {REPLICAS} replicas write {need:,} rows/s: ", end="")
    print(f"task-profile takes {more['profiles'].speed / need:.1f} times as many, ", end="")
    print(f"alerts {more['alerting'].speed / need:.1f} times")


if __name__ == "__main__":
    main()
