"""Hosts of Envoy's admin page: whose they are, and their addresses as the log's rows name them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.cluster_names import POOLS, ROUTES
from tidegate.jobs.logic.identity import replica_of
from tidegate.jobs.logic.replicas.envoy_hosts import hosts_of
from tidegate.schemas.settings import AccessLog


def answer(cluster: str, *addresses: dict[str, Any]) -> dict[str, Any]:
    return {"cluster_statuses": [{"name": cluster, "host_statuses": [{"address": one} for one in addresses]}]}


def socket(address: str, port: int = 8080) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def internal(endpoint: str) -> dict[str, Any]:
    listener = "connect_originate"
    return {"envoy_internal_address": {"server_listener_name": listener, "endpoint_id": endpoint}}


@pytest.mark.parametrize(
    ("address", "upstream_host"),
    [
        (socket("10.0.0.1"), "10.0.0.1:8080"),
        (socket("2001:db8::1"), "[2001:db8::1]:8080"),
        (internal("10.0.0.1:8080"), "envoy://connect_originate/10.0.0.1:8080"),
        (internal("[2001:db8::1]:8080"), "envoy://connect_originate/[2001:db8::1]:8080"),
    ],
)
def test_a_host_has_the_name_that_rows_have(address: dict[str, Any], upstream_host: str) -> None:
    (task,) = hosts_of([answer("chat", address)], AccessLog()).values()
    assert list(task.hosts) == [replica_of(upstream_host)]


def test_a_host_without_an_address_of_its_own_is_left_out() -> None:
    found = hosts_of([answer("chat", {"pipe": {"path": "/run/x"}}, internal(""))], AccessLog())
    assert [dict(task.hosts) for task in found.values()] == [{}]


@pytest.mark.parametrize(("cluster", "expected"), [POOLS[0], ROUTES[0]])
def test_clusters_of_pools_and_routes_have_the_tasks_of_the_rows(
    cluster: str, expected: tuple[str, str, None]
) -> None:
    assert list(hosts_of([answer(cluster, socket("10.0.0.1"))], AccessLog())) == [expected[:2]]
