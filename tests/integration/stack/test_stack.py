"""The local stack with real servers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import psutil
import pytest
from confluent_kafka import Consumer, Producer
from elasticsearch import Elasticsearch as Client

from tests.support.run_folder import SharedStack
from tests.support.waiting import until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.artifacts import checksums, coordinates, maven
from tidegate.schemas.access_log import ACCESS_LOG_FORMAT
from tidegate.schemas.settings import Elasticsearch, Kafka
from tidegate.schemas.topics import ACCESS_LOGS
from tidegate.stack.local import LocalStack, ServerStatus

TASK_MANAGER = "flink-taskmanager"


def test_kafka_keeps_what_it_is_given(kafka: Kafka) -> None:
    ensure_topics(kafka, [ACCESS_LOGS])
    producer = Producer(kafka.client_config())
    producer.produce(kafka.topic(ACCESS_LOGS), b"a line")
    assert producer.flush(30) == 0
    consumer = Consumer({**kafka.client_config(), "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.subscribe([kafka.topic(ACCESS_LOGS)])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert message.value() == b"a line"


def test_elasticsearch_keeps_what_it_is_given(elasticsearch: Elasticsearch) -> None:
    index = f"{elasticsearch.index_prefix}kept"
    with Client(elasticsearch.url) as client:
        client.index(index=index, id="1", document={"requests": 3}, refresh="wait_for")
        assert client.get(index=index, id="1")["_source"] == {"requests": 3}


@pytest.mark.usefixtures("elasticsearch")
def test_elasticsearch_never_runs_as_root(local_stack: SharedStack) -> None:
    (server,) = [server for server in local_stack.status() if server.name == "elasticsearch"]
    assert server.pid is not None
    assert psutil.Process(server.pid).uids().effective != 0


@pytest.mark.slow  # test_on_a_cluster kills one under a job
def test_a_killed_task_manager_joins_the_cluster_again(own_flink_cluster: str, own_stack: LocalStack) -> None:
    before = pids(own_stack)
    own_stack.kill(TASK_MANAGER)
    assert pids(own_stack)[TASK_MANAGER] == before[TASK_MANAGER]  # as it was, and dead
    own_stack.up([TASK_MANAGER])
    after = pids(own_stack)
    assert after[TASK_MANAGER] != before[TASK_MANAGER]
    assert after["flink-jobmanager"] == before["flink-jobmanager"]
    with urllib.request.urlopen(f"http://{own_flink_cluster}/overview", timeout=10) as response:
        assert json.load(response)["slots-total"] >= 1


def test_envoy_answers_and_logs_the_request(local_stack: SharedStack) -> None:
    envoy = with_server(local_stack, "envoy")
    assert envoy.addresses is not None
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{envoy.addresses['gateway']}/v1?model=x", timeout=10)  # noqa: S310 (loopback)
    log = local_stack.state_dir / "envoy" / "access.log"
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    line = json.loads(log.read_text().splitlines()[-1])
    assert set(line) == set(ACCESS_LOG_FORMAT)
    assert (line["response_code"], line["path"]) == (404, "/v1?model=x")


@pytest.mark.usefixtures("kafka", "elasticsearch", "flink_cluster")
def test_every_server_listens_on_loopback_only(local_stack: SharedStack) -> None:
    with_server(local_stack, "envoy")
    processes = [psutil.Process(pid) for pid in pids(local_stack).values() if pid is not None]
    listening = [
        connection.laddr.ip.removeprefix("::ffff:")
        for process in processes
        for member in (process, *process.children(recursive=True))
        for connection in member.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 10
    assert set(listening) == {"127.0.0.1"}


@pytest.mark.usefixtures("kafka", "elasticsearch", "flink_cluster")
def test_the_servers_together_stay_within_their_memory(local_stack: SharedStack) -> None:
    with_server(local_stack, "envoy")
    used = {server.name: server.memory_bytes or 0 for server in local_stack.status()}
    assert all(used.values()), used
    assert sum(used.values()) < 6 * 2**30, used


def with_server(stack: SharedStack, name: str) -> ServerStatus:
    stack.up([name])
    (found,) = [server for server in stack.status() if server.name == name]
    return found


def pids(stack: LocalStack | SharedStack) -> dict[str, int | None]:
    return {server.name: server.pid for server in stack.status()}


@pytest.mark.usefixtures("kafka")  # then its parts are here
def test_all_of_kafka_is_pinned_in_the_versions_that_ran_together() -> None:
    jars = maven.resolve(*coordinates.KAFKA)
    assert set(jars) <= set(checksums.pinned())
    assert "org.apache.kafka:kafka-clients:jar:4.1.1" in jars
