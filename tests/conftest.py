"""Real servers for the tests: started once in a session, with names of its own for each test.

They come from the local stack, in a state folder of their own. With TIDEGATE_TEST_CONTAINERS=1 and a Docker
daemon that answers, Kafka, Elasticsearch and Kubernetes (k3s) are the official images instead, the first two as
docker-compose.yml sets them up. A test that lacks a part is skipped with the part's name; with CI=true it fails, so
that a green run has run everything.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tests.support import compose
from tests.support.kubernetes_api import KubernetesApi
from tests.support.waiting import until
from tidegate.artifacts.maven import ArtifactUnavailable
from tidegate.schemas.settings import Elasticsearch, Kafka, Settings, Stack
from tidegate.stack import debian_programs
from tidegate.stack import local_stack as stack_of
from tidegate.stack.errors import PartMissing
from tidegate.stack.kubernetes_api import API_SERVER, ETCD, add_kubernetes_api
from tidegate.stack.local import LocalStack
from tidegate.stack.ports import HOST

# No test asserts a time: a property's first text has hypothesis make its table of characters, a second's work in a
# clean clone, and a busy machine is slow at anything.
settings.register_profile("tidegate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tidegate")

K3S_IMAGE = "rancher/k3s:v1.34.1-k3s1"
CONTAINERS_VARIABLE = "TIDEGATE_TEST_CONTAINERS"

GRAFANA_VARIABLE = "TIDEGATE_GRAFANA_URL"
GRAFANA_TOKEN_VARIABLE = "TIDEGATE_GRAFANA_TOKEN"  # noqa: S105 - a variable's name

WHEEL_VARIABLE = "TIDEGATE_TEST_WHEEL"
"""Names the wheel to test, such as the one of a release; else test_wheel.py builds one of the tree."""

_KEPT = {
    CONTAINERS_VARIABLE,
    GRAFANA_VARIABLE,
    GRAFANA_TOKEN_VARIABLE,
    WHEEL_VARIABLE,
    *debian_programs.VARIABLES,
}
for _name in [name for name in os.environ if name.startswith("TIDEGATE_") and name not in _KEPT]:
    del os.environ[_name]  # the tests' servers are their own, whatever this shell is set to use


@pytest.fixture(scope="session")
def local_stack() -> Iterator[LocalStack]:
    """The local stack of this session; nothing runs until a test asks for it. Removed afterwards."""
    with _state_folder() as folder:
        stack = stack_of(Settings(stack=Stack(state_dir=folder, start_timeout_seconds=240)))
        try:
            yield stack
        finally:
            stack.down(purge=True)


@pytest.fixture(scope="session")
def kafka_server(request: pytest.FixtureRequest) -> Iterator[Kafka]:
    """How to reach the session's Kafka. Tests want `kafka`, which has a topic prefix of the test's own."""
    with ExitStack() as cleanup:
        if _containers_wanted():
            port = cleanup.enter_context(compose.server("kafka", 9092, KAFKA_PORT="PORT"))
            settings = Kafka(bootstrap_servers=f"{HOST}:{port}")
            until(lambda: _answers(settings), "Kafka answers")
            yield settings
        else:
            yield up(request.getfixturevalue("local_stack"), "kafka").kafka


@pytest.fixture
def kafka(kafka_server: Kafka) -> Iterator[Kafka]:
    """Kafka with a topic prefix that no other test has. Its topics are removed after the test."""
    mine = kafka_server.model_copy(update={"topic_prefix": f"t{uuid.uuid4().hex[:8]}."})
    yield mine
    _delete_topics(mine)


@pytest.fixture(scope="session")
def elasticsearch_server(request: pytest.FixtureRequest) -> Iterator[Elasticsearch]:
    """How to reach the session's Elasticsearch. Tests want `elasticsearch`, which has an index prefix."""
    with ExitStack() as cleanup:
        if _containers_wanted():
            url = f"http://{HOST}:{cleanup.enter_context(compose.server('elasticsearch', 9200))}"
            until(lambda: _healthy(url), "Elasticsearch answers")
            yield Elasticsearch(url=url)
        else:
            yield up(request.getfixturevalue("local_stack"), "elasticsearch").elasticsearch


@pytest.fixture
def elasticsearch(elasticsearch_server: Elasticsearch) -> Iterator[Elasticsearch]:
    """Elasticsearch with an index prefix that no other test has. Removed after the test."""
    mine = elasticsearch_server.model_copy(update={"index_prefix": f"t{uuid.uuid4().hex[:8]}-"})
    yield mine
    _delete_indices(mine)


@pytest.fixture(scope="session")
def flink_cluster(local_stack: LocalStack) -> str:
    """The REST address (host:port) of a Flink cluster with one TaskManager, always from the local stack.

    A test that kills the TaskManager does so by `local_stack.kill("flink-taskmanager")`, and has it back by
    `local_stack.up(["flink-taskmanager"])`.
    """
    return up(local_stack, "flink-jobmanager", "flink-taskmanager").flink.rest_address


@pytest.fixture(scope="session")
def kubernetes_api(request: pytest.FixtureRequest) -> Iterator[KubernetesApi]:
    """A real Kubernetes API with Istio's kinds: the local stack's kube-apiserver, or k3s in a container.

    `new_namespace` gives a test a namespace of its own.
    """
    with ExitStack() as cleanup:
        folder = cleanup.enter_context(_state_folder())
        if _containers_wanted():
            from testcontainers.community.k3s import K3SContainer

            container = cleanup.enter_context(K3SContainer(K3S_IMAGE))
            admin = folder / "kubeconfig"
            admin.write_text(container.config_yaml())
        else:
            stack: LocalStack = request.getfixturevalue("local_stack")
            add_kubernetes_api(stack)
            found = up(stack, ETCD, API_SERVER).kubernetes.kubeconfig
            assert found is not None
            admin = Path(found)
        api = KubernetesApi(admin, folder)
        api.install_istio_kinds()
        yield api


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test that needs the Kubernetes API may have to wait until it is built."""
    for item in items:
        if "kubernetes_api" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(1800))


@contextmanager
def _state_folder() -> Iterator[Path]:
    """A folder that other users may enter (pytest's own may be shut), as Elasticsearch's under root."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-tests-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def up(stack: LocalStack, *names: str) -> Settings:
    """These servers run: the settings that reach them. A server that breaks fails the test.

    One that lacks a part skips it.
    """
    try:
        stack.up(names)
    except (PartMissing, ArtifactUnavailable) as error:
        cannot_run(f"needs {', '.join(names)}: {error}")
    return stack.settings


def cannot_run(reason: str) -> NoReturn:
    """A test lacks a part: it is skipped with the reason, and fails on CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have every part. {reason}")
    pytest.skip(reason)


def _containers_wanted() -> bool:
    if os.environ.get(CONTAINERS_VARIABLE) != "1":
        return False
    try:
        from testcontainers.core.docker_client import DockerClient

        DockerClient().client.ping()
    except Exception as error:
        cannot_run(f"{CONTAINERS_VARIABLE}=1, but no Docker daemon answers: {error}")
    return True


def _answers(kafka: Kafka) -> bool:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        return bool(AdminClient({**kafka.client_config(), "log_level": 2}).list_topics(timeout=2).brokers)
    except KafkaException:
        return False


def _healthy(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/_cluster/health", timeout=5).close()  # noqa: S310 (the test's own)
    except OSError:
        return False
    return True


def _delete_topics(kafka: Kafka) -> None:
    from confluent_kafka.admin import AdminClient

    client = AdminClient({**kafka.client_config()})
    names = [name for name in client.list_topics(timeout=30).topics if name.startswith(kafka.topic_prefix)]
    for deleted in client.delete_topics(names).values() if names else ():
        deleted.result(30)


def _delete_indices(settings: Elasticsearch) -> None:
    from elasticsearch import Elasticsearch as Client

    with Client(settings.url, basic_auth=settings.basic_auth()) as client:
        for index in client.indices.get(index=f"{settings.index_prefix}*"):
            client.indices.delete(index=index)
        # A wildcard that matches no template is answered with 404, unlike one that matches no index.
        client.options(ignore_status=404).indices.delete_index_template(name=f"{settings.index_prefix}*")
