"""`tidegate keep` on a Flink cluster: each job once, and from its checkpoint when the cluster has lost it."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.oracle import OracleSettings, Position, RawLine, compare, recompute
from tests.support.commands import clean_environment, with_settings
from tests.support.flink_jobs import put, written
from tests.support.lines import at, line
from tests.support.waiting import until
from tidegate.adapters.queries import line_counts
from tidegate.jobs import cluster
from tidegate.jobs.cluster import Job, newest_checkpoint
from tidegate.schemas.settings import Flink, Kafka, Settings

JOB = "service-metrics"
PARTITIONS = 3


@contextmanager
def keeper(kafka: Kafka, rest_address: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`tidegate keep service-metrics`, until the block ends."""
    given = {
        "kafka.bootstrap_servers": kafka.bootstrap_servers,
        "kafka.topic_prefix": kafka.topic_prefix,
        "flink.rest_address": rest_address,
        "flink.checkpoint_dir": str(folder),
        "flink.checkpoint_interval_seconds": "1",
        "service_metrics.consumer_group": f"{kafka.topic_prefix}group",
    }
    with subprocess.Popen([*with_settings(given), "keep", JOB], env=clean_environment()) as process:
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(30) == 0


def lines(first_second: int, seconds: int) -> list[bytes]:
    """Ten each second, each that long after the tests' clock began."""
    return [
        line(start_time=at(first_second + number / 10), duration=number % 7).encode()
        for number in range(10 * seconds)
    ]


def placed(values: list[bytes], after: int) -> list[RawLine]:
    """In one partition, behind so many others."""
    return [RawLine(value, Position("", 0, after + number)) for number, value in enumerate(values)]


def running(rest_address: str) -> list[Job]:
    return [job for job in cluster.jobs(rest_address) or () if job.name == JOB and not job.ended]


def cancel(rest_address: str, job: Job) -> None:
    url = f"http://{rest_address}/jobs/{job.identifier}"
    urllib.request.urlopen(urllib.request.Request(url, method="PATCH"), timeout=10).close()


@pytest.fixture
def lone_cluster(own_flink_cluster: str) -> Iterator[str]:
    """A cluster on which nothing is left of the job afterwards."""
    assert running(own_flink_cluster) == []
    yield own_flink_cluster
    for job in running(own_flink_cluster):
        cancel(own_flink_cluster, job)
    until(lambda: running(own_flink_cluster) == [], "the job has ended")


@pytest.mark.slow
def test_a_job_that_the_cluster_lost_goes_on_from_its_checkpoint_and_no_line_is_counted_twice(
    kafka: Kafka, lone_cluster: str, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    settings = Settings(kafka=kafka, flink=Flink(checkpoint_dir=tmp_path))
    first = put(kafka, placed(lines(0, 30), after=0))
    with keeper(kafka, lone_cluster, tmp_path):
        until(lambda: cluster.running(lone_cluster, JOB), "the job runs")
        until(lambda: line_counts.newest(kafka).get("counted", 0) >= 200, "closed seconds are counted")
        (before,) = running(lone_cluster)
        seen = newest_checkpoint(tmp_path / JOB)
        until(lambda: newest_checkpoint(tmp_path / JOB) not in (None, seen), "one more checkpoint")
    (still,) = running(lone_cluster)
    assert still == before  # a keeper that ends takes no job along

    with keeper(kafka, lone_cluster, tmp_path):
        cancel(lone_cluster, before)
        until(lambda: [job for job in running(lone_cluster) if job != before] != [], "it is submitted again")
        second = put(kafka, placed(lines(30, 30), after=len(first)))
        closing = [
            RawLine(line(start_time=at(200), duration=0).encode(), Position("", number, 0))
            for number in range(1, PARTITIONS)
        ]
        put(kafka, [*closing, *placed(lines(200, 1)[:1], after=len(first) + len(second))])
        real = [*first, *second]
        until(lambda: line_counts.newest(kafka).get("counted", 0) >= len(real), "every line is counted")
        expected = recompute(real, OracleSettings.of(settings)).rows
        until(
            lambda: expected.keys() <= {row["id"] for row in written(kafka).rows},
            "a row for every window and group",
        )
        assert len(running(lone_cluster)) == 1
    newest = {row["id"]: row for row in written(kafka).rows}
    assert compare([newest[one] for one in expected], expected) == []
    assert line_counts.newest(kafka)["counted"] == len(real)
