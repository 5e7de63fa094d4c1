"""The images at work: built from this folder, confined as in the compose file, on the tests' own servers."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.oracle import Position, RawLine
from tests.support import containers
from tests.support.flink_jobs import problems, put, written
from tests.support.indexing import ROWS_TOPIC, documents, produce, row
from tests.support.kafka_messages import messages
from tests.support.kept_topics import make_topics
from tests.support.lines import aborted, at, cluster, line, rate_limited, unrouted
from tests.support.waiting import until
from tidegate.schemas import topics
from tidegate.schemas.settings import Elasticsearch, Kafka, Settings

pytestmark = pytest.mark.timeout(containers.BUILD_SECONDS + 300)

IMAGES = ("jobs", "adapters")


@pytest.fixture(autouse=True, scope="session")
def _docker() -> None:
    """Before any server is started for nothing."""
    if (reason := containers.missing()) is not None:
        pytest.skip(reason)


def lines(count: int) -> list[RawLine]:
    """Of all kinds, over two minutes and more, and some that are none."""
    draw = random.Random(11)
    kinds = [line, line, line, rate_limited, aborted, unrouted]
    values = [
        draw.choice(kinds)(start_time=at(number * 130 / count), duration=draw.choice([0, 4, 90, 700]))
        if number % 50
        else "not JSON"
        for number in range(count)
    ]
    values += [line(upstream_cluster=cluster(task="embed", version="v2"), start_time=at(131))]
    return [RawLine(value.encode(), Position("", 0, number)) for number, value in enumerate(values)]


def test_a_bounded_job_in_its_image_writes_the_oracles_rows(kafka: Kafka) -> None:
    image = containers.image("jobs")
    settings = Settings(kafka=kafka)
    placed = put(kafka, lines(3000))
    reported = containers.run(
        image, "run", "service-metrics", "--bounded", environment=containers.environment(kafka)
    )
    assert "service-metrics has read its topics to the end" in reported
    found = written(kafka)
    assert sum(found.counts.get(kind, 0) for kind in ("counted", "late", "dead", "skipped", "tcp")) == len(
        placed
    )
    assert found.counts["dead"] == 60
    assert problems(found, placed, settings) == []


def test_the_indexer_in_its_image_makes_each_row_a_document(
    kafka: Kafka, elasticsearch: Elasticsearch
) -> None:
    image = containers.image("adapters")
    reported = containers.environment(kafka, elasticsearch)
    reported["TIDEGATE_INDEXER__CONSUMER_GROUP"] = f"{kafka.topic_prefix}indexer"
    assert "are there" in containers.run(image, "prepare", environment=reported)
    produce(kafka, ROWS_TOPIC, [row(number) for number in range(500)])
    containers.run(image, "index", ROWS_TOPIC, "--bounded", environment=reported)
    assert documents(elasticsearch, ROWS_TOPIC).keys() == {row(number)["id"] for number in range(500)}


def test_the_shipper_in_its_image_is_healthy_ships_and_ends_when_reported(
    kafka: Kafka, tmp_path: Path
) -> None:
    image = containers.image("adapters")
    make_topics(kafka)
    log = tmp_path / "access.log"
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    tmp_path.chmod(0o755)
    with containers.running(
        image,
        *("ship", "/logs/access.log", "--state-dir", "/var/lib/tidegate/ship"),
        environment=containers.environment(kafka),
        flags=("--volume", f"{tmp_path}:/logs:ro", "--volume", "/var/lib/tidegate/ship"),
    ) as shipper:
        until(lambda: len(list(messages(kafka, topics.ACCESS_LOGS))) >= 1000, "all lines are in Kafka")
        containers.await_health(shipper)
        with log.open("a") as file:
            file.write("the last line\n")
        assert containers.stop(shipper) == 0
    values = {message.value() for message in messages(kafka, topics.ACCESS_LOGS)}
    assert len(values) in (1000, 1001)  # whether the last one was seen is a matter of milliseconds


@pytest.mark.parametrize("name", IMAGES)
def test_nobody_runs_it_and_nothing_of_it_can_be_changed(name: str) -> None:
    image = containers.image(name)
    script = (
        'echo "user $(id -u):$(id -g)"; '
        "for place in /etc/passwd /opt/tidegate/bin/tidegate /opt/tidegate/healthy.py /usr/bin/python3; do "
        '[ -w "$place" ] && echo "can write $place"; done; '
        "for place in / /etc /opt/tidegate /opt/tidegate/m2 /var /var/lib/tidegate; do "
        'touch "$place/new" 2>/dev/null && echo "can write in $place"; done; touch /tmp/new && echo "tmp is there"'
    )
    reported = containers.run(image, "-c", script, flags=("--entrypoint", "sh"))
    assert reported.splitlines() == ["user 10001:10001", "tmp is there"]
    open_files = containers.docker(
        *("run", "--rm", "--entrypoint", "find", image, "/", "-xdev"),
        *("(", "-perm", "-4000", "-o", "-perm", "-2000", ")", "-user", "10001"),
        check=False,
    )
    assert open_files.stdout == ""


@pytest.mark.parametrize("name", IMAGES)
def test_the_build_leaves_no_installer_and_no_secret_behind(name: str) -> None:
    image = containers.image(name)
    places = "/run/secrets /root/.cache /opt/tidegate/lib/*/site-packages/pip"
    script = f"command -v pip gcc javac; ls {places} 2>/dev/null; true"
    assert containers.run(image, "-c", script, flags=("--entrypoint", "sh")) == ""


def test_the_adapters_have_no_java() -> None:
    image = containers.image("adapters")
    script = "command -v java; find / -xdev -name 'libjvm*' 2>/dev/null; true"
    assert containers.run(image, "-c", script, flags=("--entrypoint", "sh")) == ""
