"""Department, task, version and replica as the roles in Python read them: by hand, and as the oracle reads them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from tests.oracle import OracleSettings
from tests.oracle.identity import identity, replica
from tests.support.cluster_names import ALL, DEPARTMENTS, HOSTS, Identity, odd_hosts, odd_names
from tidegate.jobs.logic.identity import (
    address_of,
    name_of_line,
    of_cluster,
    of_service,
    replica_of,
    workload_of_pod,
)
from tidegate.schemas.settings import AccessLog

SETTINGS = AccessLog(departments=DEPARTMENTS)
PATTERN = r"(?P<department>[a-z]+(?:-[0-9])?)[-/](?P<task>[a-z]*)(?:@(?P<version>.*))?"


def read(name: str | None, **settings: Any) -> Identity:
    cluster = of_cluster(name, AccessLog(**({"departments": DEPARTMENTS} | settings)))
    return (*cluster.identity, cluster.version)


@pytest.mark.parametrize(("name", "expected"), ALL)
def test_a_name_gives_department_task_and_version(name: str, expected: Identity) -> None:
    assert read(name) == expected


def test_without_a_cluster_a_request_is_unrouted() -> None:
    assert read(None) == ("__unrouted__", "__unrouted__", None)


@given(name=odd_names())
def test_every_name_is_read_as_the_oracle_reads_it(name: str) -> None:
    assert read(name) == identity(name, OracleSettings(departments=DEPARTMENTS))


@given(name=odd_names())
def test_every_name_is_read_as_the_oracle_reads_it_by_a_pattern(name: str) -> None:
    own = OracleSettings(departments=DEPARTMENTS, name_pattern=PATTERN)
    assert read(name, name_pattern=PATTERN) == identity(name, own)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("models-chat", ("models", "chat", None)),
        ("models/chat@v2", ("models", "chat", "v2")),
        ("ns/service@v/2", ("ns", "service", "v.2")),  # no prefix is cut
        ("models-", ("default", "models-", None)),
        ("models-chat@", ("models", "chat", None)),
        ("Models-chat", ("default", "Models-chat", None)),  # the whole name must match
        ("models-chat;", ("models", "chat", None)),
        ("outbound|80||chat.vision.svc", ("vision", "chat", None)),
    ],
)
def test_a_pattern_names_what_it_matches(name: str, expected: Identity) -> None:
    assert read(name, name_pattern=PATTERN) == expected


def test_a_pattern_without_a_department_means_the_default_one_and_namespaces_are_mapped() -> None:
    assert read("x/chat", name_pattern=r".*/(?P<task>.*)") == ("default", "chat", None)
    assert read("ns-9/chat", name_pattern=r"(?P<department>.*)/(?P<task>.*)") == ("payments", "chat", None)


def test_a_pattern_costs_time_linear_in_the_name() -> None:
    read("a" * 50_000 + "!", name_pattern=r"(?P<task>(?:a*)*b)")  # a backtracking engine would never return


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"route_name": "chat", "upstream_cluster": "c"}, "chat"),
        ({"route_name": "-", "upstream_cluster": "c"}, "c"),
        ({"route_name": 7, "upstream_cluster": "c"}, "c"),
        ({"upstream_cluster": "c"}, "c"),
        ({"route_name": None, "upstream_cluster": " - "}, None),
        ({}, None),
    ],
)
def test_another_key_names_a_line_and_the_cluster_does_where_it_says_nothing(
    fields: dict[str, Any], name: str | None
) -> None:
    assert name_of_line(fields, AccessLog(name_key="route_name")) == name


def test_the_watcher_finds_the_services_tasks() -> None:
    assert of_service("ns-9", "service-chat", SETTINGS) == ("payments", "chat")
    assert of_service("bugs", "vllm-llama-ip-84240035", SETTINGS) == ("bugs", "vllm-llama")
    assert workload_of_pod("chat-6f7c9d5b8-x2x7q") == "chat"


@pytest.mark.parametrize(("host", "expected"), HOSTS)
def test_a_replica_is_the_endpoint_whatever_wraps_it(host: str, expected: str) -> None:
    assert replica_of(host) == expected


@given(host=odd_hosts())
def test_every_host_is_read_as_the_oracle_reads_it(host: str) -> None:
    assert replica_of(host) == replica(host)
    assert replica_of(replica_of(host)) == replica_of(host)


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert address_of("10.0.0.1", 80) == "10.0.0.1:80"
    assert address_of("2001:db8::1", 80) == "[2001:db8::1]:80"
