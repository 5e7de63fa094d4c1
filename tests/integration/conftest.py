"""Servers of tidegate's own that several tests share: one process for a module, a part of it for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import delete_topics, with_own_prefix
from tests.support.kubernetes_api import KubernetesApi
from tests.support.kubernetes_proxy import KubernetesProxy, proxy_to
from tests.support.manager import Managed, Manager
from tests.support.manager import manager as started
from tidegate.schemas.settings import Kafka


@pytest.fixture(scope="module")
def manager(
    kafka_server: Kafka, kubernetes_api: KubernetesApi, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Manager]:
    """A K8S manager for the tests of a module."""
    kafka, folder = with_own_prefix(kafka_server), tmp_path_factory.mktemp("manager")
    with started(folder, kafka, kubernetes_api, kubernetes_api.settings) as one:
        yield one
    delete_topics(kafka)


@pytest.fixture
def managed(manager: Manager) -> Managed:
    """A department and a gateway of the test's own at the module's manager."""
    return manager.managed()


@pytest.fixture(scope="module")
def proxied_manager(
    kafka_server: Kafka, kubernetes_api: KubernetesApi, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Manager, KubernetesProxy]]:
    """A K8S manager for the tests of a module, whose API server is behind a proxy that spoils requests."""
    kafka, folder = with_own_prefix(kafka_server), tmp_path_factory.mktemp("proxied-manager")
    with (
        proxy_to(kubernetes_api.admin, folder, request_timeout_seconds=1) as proxy,
        started(folder, kafka, kubernetes_api, proxy.settings) as one,
    ):
        yield one, proxy
    delete_topics(kafka)


@pytest.fixture
def managed_through_proxy(
    proxied_manager: tuple[Manager, KubernetesProxy],
) -> Iterator[tuple[Managed, KubernetesProxy]]:
    """A department and a gateway of the test's own, and the proxy, which passes everything on at first."""
    manager, proxy = proxied_manager
    yield manager.managed(), proxy
    proxy.fault = "none"
