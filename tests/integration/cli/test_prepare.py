"""`tidegate prepare`: what is missing is made, what is there stays, and it waits for who isn't there yet."""

from __future__ import annotations

import subprocess
import time

from confluent_kafka.admin import AdminClient

from tests.support.commands import clean_environment, run_command, with_settings
from tests.support.elasticsearch_proxy import proxy_to
from tidegate.adapters.indexing.client import connect
from tidegate.schemas import topics
from tidegate.schemas.elasticsearch import INDEX_CONTRACTS
from tidegate.schemas.settings import Elasticsearch, Kafka


def given(kafka: Kafka, elasticsearch: Elasticsearch) -> dict[str, str]:
    return {
        "kafka.bootstrap_servers": kafka.bootstrap_servers,
        "kafka.topic_prefix": kafka.topic_prefix,
        "elasticsearch.url": elasticsearch.url,
        "elasticsearch.index_prefix": elasticsearch.index_prefix,
        "indexer.max_backoff_seconds": "0.5",
    }


def made_topics(kafka: Kafka) -> set[str]:
    found = AdminClient(kafka.client_config()).list_topics(timeout=30).topics
    return {name for name in found if name.startswith(kafka.topic_prefix)}


def made_templates(elasticsearch: Elasticsearch) -> dict[str, int]:
    with connect(elasticsearch, 30) as client:
        found = client.indices.get_index_template(name=f"{elasticsearch.index_prefix}*")["index_templates"]
    return {one["name"]: one["index_template"]["version"] for one in found}


def test_it_makes_every_topic_and_template_once(kafka: Kafka, elasticsearch: Elasticsearch) -> None:
    settings = given(kafka, elasticsearch)
    reported = run_command(settings, "prepare")
    assert reported.stdout == "all topics and index templates exist\n"
    topics_then, templates_then = made_topics(kafka), made_templates(elasticsearch)
    assert topics_then == {kafka.topic(topic) for topic in (*topics.ALL_TOPICS, topics.PROMETHEUS_METRICS)}
    assert templates_then.keys() == {one.alias(elasticsearch.index_prefix) for one in INDEX_CONTRACTS}
    run_command(settings, "prepare")
    assert made_topics(kafka) == topics_then
    assert made_templates(elasticsearch) == templates_then


def test_it_waits_for_an_elasticsearch_that_comes_later(kafka: Kafka, elasticsearch: Elasticsearch) -> None:
    with proxy_to(elasticsearch.url) as proxy:
        proxy.fault = "closed"
        settings = given(kafka, elasticsearch) | {"elasticsearch.url": proxy.url}
        command = [*with_settings(settings), "prepare", "--wait", "60"]
        with subprocess.Popen(command, env=clean_environment(), stdout=subprocess.PIPE, text=True) as process:
            proxy.wait_until_spoiled(2)
            proxy.fault = "none"
            out, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    assert "exist" in out


def test_it_says_who_did_not_come(kafka: Kafka, elasticsearch: Elasticsearch) -> None:
    nobody = given(kafka, elasticsearch) | {"elasticsearch.url": "http://127.0.0.1:1"}
    began = time.monotonic()
    reported = run_command(nobody, "prepare", "--wait", "2", code=1)
    assert "Elasticsearch at http://127.0.0.1:1 was not ready within 2 s" in reported.stderr
    no_kafka = given(kafka, elasticsearch) | {"kafka.bootstrap_servers": "127.0.0.1:1"}
    reported = run_command(no_kafka, "prepare", "--wait", "2", code=1)
    assert "no Kafka answers at 127.0.0.1:1" in reported.stderr
    assert time.monotonic() - began < 60
