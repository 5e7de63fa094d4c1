"""What `tidegate doctor` makes of what it sees."""

from __future__ import annotations

import pytest

from tidegate.cli.local.doctor_findings import (
    VECTOR_MODULE,
    Finding,
    judge_disk,
    judge_java,
    judge_memory,
    judge_packages,
    judge_ports,
)
from tidegate.cli.local.doctor_servers import (
    judge_flink,
    judge_health,
    judge_names,
    judge_templates,
    judge_topics,
)
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import ALL_TOPICS

MODULES = ["java.base", VECTOR_MODULE]


@pytest.mark.parametrize(
    ("version", "modules", "state"),
    [
        ('openjdk version "17.0.15" 2025-04-15', MODULES, "ok"),
        ('openjdk version "21.0.1" 2023-10-17', MODULES, "warn"),
        ('openjdk version "11.0.2" 2019-01-15', MODULES, "fail"),
        ('java version "1.8.0_292"', MODULES, "fail"),
        ('openjdk version "17.0.15" 2025-04-15', ["java.base"], "fail"),
        ("", MODULES, "fail"),
        ("command not found", MODULES, "fail"),
    ],
)
def test_java_must_be_17_and_whole(version: str, modules: list[str], state: str) -> None:
    assert judge_java(version, modules).state == state


@pytest.mark.parametrize(
    ("available", "needed", "state"),
    [(5000, 4400, "ok"), (4000, 4400, "warn"), (2000, 4400, "fail"), (100, 0, "ok")],
)
def test_memory_must_hold_the_servers_that_do_not_run_yet(available: int, needed: int, state: str) -> None:
    assert judge_memory(available, needed).state == state


@pytest.mark.parametrize(("free", "state"), [(50.0, "ok"), (5.0, "warn"), (0.5, "fail")])
def test_the_disk_must_have_room(free: float, state: str) -> None:
    assert judge_disk(free, "/state").state == state


def test_a_fixed_port_is_free_or_ours_or_a_failure() -> None:
    fixed = {"kafka_port": 9092, "envoy_port": 8080, "flink_rest_port": 8081}
    states = [finding.state for finding in judge_ports(fixed, ours={8080}, taken={8080, 8081})]
    assert states == ["ok", "ok", "fail"]


def test_two_servers_never_get_the_same_port() -> None:
    findings = judge_ports({"kafka_port": 9092, "envoy_port": 9092}, ours=set(), taken=set())
    assert [finding.state for finding in findings] == ["fail", "fail"]


def test_no_fixed_port_is_fine() -> None:
    assert [finding.state for finding in judge_ports({}, ours=set(), taken=set())] == ["ok"]


def test_packages_that_are_missing_are_named_with_the_extra_that_brings_them() -> None:
    finding = judge_packages({"pyflink": "jobs", "jgo": "jobs", "psutil": "stack"})
    assert finding.state == "warn"
    assert "tidegate[jobs,stack]" in finding.todo
    assert judge_packages({}).state == "ok"


def test_missing_topics_are_a_failure_only_where_nobody_may_make_them() -> None:
    kafka = Kafka(topic_prefix="eu.")
    all_of_them = {kafka.topic(topic): object() for topic in ALL_TOPICS}
    assert judge_topics(kafka, all_of_them, 1).state == "ok"
    one_less = dict(list(all_of_them.items())[1:])
    assert judge_topics(kafka, one_less, 1).state == "warn"
    assert "eu.gateway.access-logs" in judge_topics(kafka, one_less, 1).found
    assert judge_topics(kafka.model_copy(update={"create_topics": False}), one_less, 1).state == "fail"
    assert judge_topics(kafka.model_copy(update={"replication_factor": 3}), one_less, 1).state == "fail"


def test_names_that_folded_are_shown_with_what_to_do() -> None:
    finding = judge_names(["ch at", "vision/zebra"])
    assert finding.state == "warn"
    assert "the first 2: 'ch at', 'vision/zebra'" in finding.found
    assert "access_log.name_pattern" in finding.todo
    assert judge_names([]).state == "ok"


@pytest.mark.parametrize(("status", "state"), [("green", "ok"), ("yellow", "warn"), ("red", "fail")])
def test_the_cluster_is_as_healthy_as_it_says(status: str, state: str) -> None:
    assert judge_health("http://es", status, 1).state == state


@pytest.mark.parametrize(("found", "state"), [("current", "ok"), ("missing", "warn"), ("newer", "warn")])
def test_templates_are_ours_or_a_warning(found: str, state: str) -> None:
    assert judge_templates({"a": "current", "b": found}).state == state


@pytest.mark.parametrize(
    ("version", "slots", "state"), [("2.2.1", 4, "ok"), ("2.2.1", 0, "warn"), ("1.20.0", 4, "fail")]
)
def test_flink_is_of_the_right_version_and_has_slots(version: str, slots: int, state: str) -> None:
    assert judge_flink("127.0.0.1:8081", version, slots, slots).state == state


def test_whatever_is_not_ok_says_what_to_do() -> None:
    findings: list[Finding] = [
        judge_java("", []),
        judge_java('openjdk version "21"', MODULES),
        judge_memory(1, 4000),
        judge_memory(3000, 4000),
        judge_disk(0, "/"),
        *judge_ports({"kafka_port": 1}, ours=set(), taken={1}),
        judge_health("u", "red", 0),
        judge_flink("a", "1.0", 0, 0),
        judge_templates({"a": "older"}),
    ]
    assert all(finding.state != "ok" and finding.todo for finding in findings)
