"""Real servers for the tests: started once in a test run, with names of its own for each test.

They come from one local stack, which all workers of the run share; a test that kills, freezes or reconfigures a server
has a stack of its own (`own_stack`). They end after the last process of the run (`tests.support.run_folder`). With
TIDEGATE_TEST_CONTAINERS=1 and a Docker daemon that answers, Kafka, Elasticsearch and Kubernetes (k3s) are the official
images instead, for each worker its own, the first two as docker-compose.yml sets them up. A test that lacks a part is
skipped with the part's name; with CI=true it fails, so that a green run has run everything.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.request
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tests.support import compose
from tests.support.examples import examples
from tests.support.kubernetes_api import KubernetesApi
from tests.support.run_folder import RunFolder, SharedStack
from tests.support.waiting import until
from tidegate.artifacts.maven import ArtifactUnavailable
from tidegate.schemas.settings import Elasticsearch, Kafka, Settings
from tidegate.stack import debian_programs, kubernetes_programs
from tidegate.stack.errors import PartMissing
from tidegate.stack.kubernetes_api import API_SERVER, ETCD, EtcdServer, KubernetesApiServer
from tidegate.stack.local import LocalStack
from tidegate.stack.ports import HOST

# No test asserts a time: a property's first text has hypothesis make its table of characters, a second's work in a
# clean clone, and a busy machine is slow at anything.
settings.register_profile(
    "tidegate", max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tidegate")

K3S_IMAGE = "rancher/k3s:v1.34.1-k3s1"
FLINK = ("flink-jobmanager", "flink-taskmanager")
CONTAINERS_VARIABLE = "TIDEGATE_TEST_CONTAINERS"

GRAFANA_VARIABLE = "TIDEGATE_GRAFANA_URL"
GRAFANA_TOKEN_VARIABLE = "TIDEGATE_GRAFANA_TOKEN"  # noqa: S105 - a variable's name

# The JVMs of the tests live for seconds. Compiled by the quick compiler alone, one starts with a third less of a core.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")


WHEEL_VARIABLE = "TIDEGATE_TEST_WHEEL"
"""Names the wheel to test, such as the one of a release; else test_wheel.py builds one of the tree."""

THOROUGH_VARIABLE = "TIDEGATE_TEST_THOROUGH"
"""Set to 1, property tests try all their examples (tests/support/examples.py)."""

_KEPT = {
    CONTAINERS_VARIABLE,
    THOROUGH_VARIABLE,
    GRAFANA_VARIABLE,
    GRAFANA_TOKEN_VARIABLE,
    WHEEL_VARIABLE,
    *debian_programs.VARIABLES,
}
for _name in [name for name in os.environ if name.startswith("TIDEGATE_") and name not in _KEPT]:
    del os.environ[_name]  # the tests' servers are their own, whatever this shell is set to use


_RUN = pytest.StashKey[RunFolder]()
_RUN_INPUT = "tidegate_run_folder"


def pytest_configure(config: pytest.Config) -> None:
    """Hold the folder of this test run: pytest itself creates it, a worker of xdist gets it."""
    given = getattr(config, "workerinput", {}).get(_RUN_INPUT)
    config.stash[_RUN] = RunFolder(Path(given)) if given else RunFolder.create()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass the folder to a worker of xdist."""
    node.workerinput[_RUN_INPUT] = str(node.config.stash[_RUN].path)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the folder; pytest itself returns once the servers of the run are down."""
    run = config.stash.get(_RUN, None)
    if run is None:  # the configuration of pytest itself failed
        return
    run.leave()
    if not hasattr(config, "workerinput"):
        run.wait_until_removed()


@pytest.fixture(scope="session")
def run_folder(pytestconfig: pytest.Config) -> RunFolder:
    """The folder of this test run."""
    return pytestconfig.stash[_RUN]


@pytest.fixture(scope="session")
def local_stack(run_folder: RunFolder) -> SharedStack:
    """The local stack that all workers share; nothing runs until a test asks for it.

    A test that kills, freezes or reconfigures a server does so on `own_stack`.
    """
    return SharedStack(run_folder.stack("shared"))


@pytest.fixture(scope="session")
def own_stack(run_folder: RunFolder, worker_id: str) -> Iterator[LocalStack]:
    """A local stack that no other worker uses, for tests that kill or freeze servers; nothing runs yet.

    It serves all tests of this worker, one after the other. Each starts what it needs (`up`), which also restarts
    what the test before has killed.
    """
    stack = run_folder.stack(f"own-{worker_id}")
    yield stack
    stack.down(purge=True)


@pytest.fixture
def own_kafka(own_stack: LocalStack) -> Kafka:
    """The Kafka of `own_stack`, with a topic prefix that no other test has: it may be killed (`own_stack.kill`)."""
    return with_own_prefix(up(own_stack, "kafka").kafka)


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
    mine = with_own_prefix(kafka_server)
    yield mine
    delete_topics(mine)


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
def flink_cluster(local_stack: SharedStack) -> str:
    """The REST address (host:port) of a Flink cluster with one TaskManager, always from the local stack.

    Other workers have jobs there. A test that kills the TaskManager has a cluster of its own: `own_flink_cluster`.
    """
    return up(local_stack, *FLINK).flink.rest_address


@pytest.fixture
def own_flink_cluster(own_stack: LocalStack) -> str:
    """The REST address of the Flink cluster of `own_stack`, whose TaskManager may be killed and started again."""
    return up(own_stack, *FLINK).flink.rest_address


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
            admin = _kubeconfig(request.getfixturevalue("local_stack"))
        api = KubernetesApi(admin, folder)
        api.install_istio_kinds()
        yield api


@pytest.fixture(scope="session")
def own_kubernetes_api(own_stack: LocalStack) -> Iterator[KubernetesApi]:
    """The Kubernetes API of `own_stack`, always from the local stack: its servers may be killed and frozen."""
    with _state_folder() as folder:
        api = KubernetesApi(_kubeconfig(own_stack), folder)
        api.install_istio_kinds()
        yield api


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test that needs the Kubernetes API may have to wait until it is built."""
    for item in items:
        if {"kubernetes_api", "own_kubernetes_api"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(1800))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How long the tests of each folder have taken, over all workers: their set-up and tear-down included."""
    seconds: defaultdict[str, float] = defaultdict(float)
    tests: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                folder = str(Path(report.nodeid.partition("::")[0]).parent)
                seconds[folder] += report.duration
                tests[folder] += report.when == "call"
    if seconds:
        terminalreporter.section("seconds by folder")
    for folder, taken in sorted(seconds.items(), key=lambda one: -one[1]):
        terminalreporter.write_line(f"{taken:8.1f}s {tests[folder]:5} tests  {folder}")


@contextmanager
def _state_folder() -> Iterator[Path]:
    """A folder that other users may enter (pytest's own may be shut), as Elasticsearch's under root."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-tests-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def with_own_prefix(kafka: Kafka) -> Kafka:
    """The same Kafka with a topic prefix that no other test has."""
    return kafka.model_copy(update={"topic_prefix": f"t{uuid.uuid4().hex[:8]}."})


def up(stack: LocalStack | SharedStack, *names: str) -> Settings:
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


def _kubeconfig(stack: LocalStack | SharedStack) -> Path:
    """The administrator's kubeconfig of this stack's API server, which runs afterwards."""
    try:  # the first build takes minutes, and must not lock the stack against the other workers meanwhile
        kubernetes_programs.etcd()
        kubernetes_programs.kube_apiserver()
    except PartMissing as error:
        cannot_run(f"needs {ETCD}, {API_SERVER}: {error}")
    stack.add(EtcdServer())
    stack.add(KubernetesApiServer())
    found = up(stack, ETCD, API_SERVER).kubernetes.kubeconfig
    assert found is not None
    return Path(found)


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


def delete_topics(kafka: Kafka) -> None:
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
