"""Identity in the job: its Java functions over many names in one query; real gateways' names through the whole job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.oracle import OracleSettings, raw_lines
from tests.oracle.identity import OVERFLOW, identity, replica
from tests.support import cluster_names
from tests.support.cluster_names import DEPARTMENTS, odd_hosts, odd_names
from tests.support.flink_cluster import Job, submitted
from tests.support.flink_jobs import Written, problems, put, run_bounded
from tests.support.kept_topics import make_topics
from tests.support.lines import T0_MS, at, line, unrouted
from tests.support.waiting import until
from tidegate.adapters.queries.line_counts import FoldedNames
from tidegate.jobs import environment
from tidegate.jobs.kafka_tables import text
from tidegate.schemas.settings import AccessLog, Flink, Kafka, Settings

PATTERN = r"(?P<department>[a-z]+(?:-[0-9])?)[-/](?P<task>[a-z]*)(?:@(?P<version>.*))?"
NAMES = 1500


def drawn(strategy: st.SearchStrategy[tuple[str, str]]) -> list[tuple[str, str]]:
    """Examples of a strategy, the same ones in each run: for one query over all of them."""
    found = []

    @hypothesis_settings(
        max_examples=NAMES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(example=strategy)
    def draw(example: tuple[str, str]) -> None:
        found.append(example)

    draw()
    return found


def test_the_jobs_functions_read_every_name_as_the_oracle_does(tmp_path: Path) -> None:
    settings = Settings(flink=Flink(checkpoint_dir=tmp_path))
    tables = environment.create(settings, environment.Where(bounded=True), "identity")
    pairs = drawn(st.tuples(odd_names(), odd_hosts()))
    tables.create_temporary_view("given_names", tables.from_elements(pairs, ["name", "host"]))

    def reading(pattern: str | None, alias: str) -> str:
        own = {"service_prefix": "service-", "departments": DEPARTMENTS, "name_pattern": pattern}
        columns = "department, task, version, folded"
        return f"LATERAL TABLE(IDENTITY_OF(name, {text(json.dumps(own))})) AS {alias}({columns})"

    rows = tables.execute_sql(
        "SELECT name, host, REPLICA_OF(host), t.department, t.task, t.version, t.folded, p.department, p.task, "
        f"p.version, p.folded FROM given_names, {reading(None, 't')}, {reading(PATTERN, 'p')}"
    )

    checked = 0
    for row in rows.collect():
        name, host, endpoint, *parts = row
        table = identity(name, OracleSettings(departments=DEPARTMENTS))
        by_pattern = identity(name, OracleSettings(departments=DEPARTMENTS, name_pattern=PATTERN))
        assert endpoint == replica(host), host
        assert parts == [*table, OVERFLOW in table, *by_pattern, OVERFLOW in by_pattern], name
        checked += 1
    assert checked == len(pairs)


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path) -> Settings:
    return Settings(
        kafka=kafka,
        flink=Flink(checkpoint_dir=tmp_path / "checkpoints"),
        access_log=AccessLog(departments=DEPARTMENTS, max_tasks_per_department=40),
    )


def tasks(written: Written) -> set[tuple[str, str]]:
    return {(row["department"], row["task"]) for row in written.rows if row["level"] == "task"}


def test_every_form_of_a_name_is_its_own_task_and_names_that_fold_are_shown(settings: Settings) -> None:
    values = [
        line(start_time=at(i / 100), upstream_cluster=name, upstream_host=host)
        for i, (name, _) in enumerate(cluster_names.ALL)
        for host in ("10.0.0.1:80", "envoy://connect_originate/10.0.0.1:80")
    ]
    values += [
        line(start_time=at(10), upstream_cluster=f"outbound|80||t{i}.crowded.svc", upstream_host="[::1]:80")
        for i in range(10, 52)
    ]
    placed = put(settings.kafka, raw_lines(values, timestamp_ms=T0_MS + 100_000))

    written = run_bounded(settings)

    assert problems(written, placed, settings) == []
    assert {
        *(("external", host) for host in ("api.example.com", "api.example.org", "sts.amazonaws.com")),
        *(("models", route) for route in ("chat", "ocr", "asr")),
        ("bugs", "vllm-llama"),
        ("bugs", "a21"),
    } <= tasks(written)
    assert {row["replica"] for row in written.rows if row["level"] == "replica"} == {
        "10.0.0.1:80",
        "[::1]:80",
    }
    by_form = {name for name, expected in cluster_names.ALL if OVERFLOW in expected}
    assert set(written.folded_names) == by_form | {"crowded/t50", "crowded/t51"}


def test_names_come_from_another_key_and_a_pattern_and_only_the_first_twenty_that_fold_are_kept(
    settings: Settings,
) -> None:
    settings = settings.model_copy(
        update={"access_log": AccessLog(name_key="x_task", name_pattern=PATTERN, departments=DEPARTMENTS)}
    )
    values = [
        line(start_time=at(1), extra={"x_task": "ns-9/chat@v2"}),
        line(start_time=at(1), extra={"x_task": {"nested": "models-chat"}}),  # by its cluster
        line(start_time=at(1), extra={"x_task": "-"}),
        line(start_time=at(1), extra={"x_task": 7}),
        line(start_time=at(1), extra={"x_task": "grpcroute/models/asr/rule/0"}),
        unrouted(start_time=at(1)),
        *(line(start_time=at(2), extra={"x_task": f"no name {i}" + "x" * 300}) for i in range(30)),
    ]
    placed = put(settings.kafka, raw_lines(values, timestamp_ms=T0_MS + 100_000))

    written = run_bounded(settings)

    assert problems(written, placed, settings) == []
    assert tasks(written) == {
        ("payments", "chat"),
        ("vision", "chat"),
        ("models", "asr"),
        ("default", OVERFLOW),
        ("__unrouted__", "__unrouted__"),
    }
    assert len(set(written.folded_names)) == 20
    assert all(len(name) == 256 and name.startswith("no name ") for name in written.folded_names)


def test_while_the_job_runs_each_name_that_folds_is_reported_once_and_is_a_metric(
    settings: Settings, flink_cluster: str
) -> None:
    def lines(name: str, second: int) -> list[str]:
        return [
            line(start_time=at(second), upstream_cluster=name),
            *(line(start_time=at(second + 9)) for _ in range(8)),
        ]

    make_topics(settings.kafka)
    seen: list[str] = []
    with FoldedNames(settings.kafka) as names, submitted(settings, flink_cluster) as job:

        def reported(count: int) -> bool:
            seen.extend(names.new(0.1))
            return len(seen) >= count

        put(settings.kafka, raw_lines(lines("first name", 0), timestamp_ms=T0_MS + 100_000))
        until(lambda: reported(1), "the first name")
        again = [*lines("first name", 20), *lines("second name", 40)]
        put(settings.kafka, raw_lines(again, timestamp_ms=T0_MS + 100_000))
        until(lambda: reported(2), "the second name")
        assert seen == ["first name", "second name"]
        until(lambda: len(folded_metrics(job)) == 2, "a metric of each name")


def folded_metrics(job: Job) -> set[str]:
    return {name for name in job.metric_names() if ".tidegate.name." in name and name.endswith(".folded")}
