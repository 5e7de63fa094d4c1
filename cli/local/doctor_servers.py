"""Asks the servers for `tidegate doctor`: Kafka and its topics, Elasticsearch and its templates, Flink."""

from __future__ import annotations

import http.client
import importlib.util
import json
from typing import TYPE_CHECKING, Any

from tidegate.cli.local.doctor_findings import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from elasticsearch import Elasticsearch as Client

    from tidegate.schemas.settings import Elasticsearch, Flink, Kafka, Settings

_TIMEOUT_SECONDS = 5
_CRITICAL = 2


def check_servers(settings: Settings) -> list[Finding]:
    """Each server at the address that the settings give it."""
    return [
        *check_kafka(settings.kafka),
        *check_elasticsearch(settings.elasticsearch),
        check_flink(settings.flink),
    ]


def check_kafka(kafka: Kafka) -> list[Finding]:
    """Whether brokers answer, and whether the topics are as tidegate makes them."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    config: dict[str, Any] = kafka.client_config() | {"log_level": _CRITICAL}
    try:
        client = AdminClient(config)
        metadata = client.list_topics(timeout=_TIMEOUT_SECONDS)
    except KafkaException as error:
        todo = "start one with `tidegate up`, or set kafka.bootstrap_servers and kafka.security_protocol"
        found = f"nothing answers at {kafka.bootstrap_servers} ({error.args[0].str()})"
        return [Finding("Kafka", "fail", found, todo)]
    count = len(metadata.brokers)
    answer = Finding("Kafka", "ok", f"{count} broker{'s' if count > 1 else ''} at {kafka.bootstrap_servers}")
    return [answer, judge_topics(kafka, metadata.topics, count)]


def judge_topics(kafka: Kafka, existing: Mapping[str, object], brokers: int) -> Finding:
    """existing: by name, with the prefix."""
    from tidegate.schemas.topics import ALL_TOPICS

    missing = [kafka.topic(topic) for topic in ALL_TOPICS if kafka.topic(topic) not in existing]
    if not missing:
        return Finding("topics", "ok", f"all {len(ALL_TOPICS)} are there")
    found = f"missing: {', '.join(missing)}"
    if not kafka.create_topics:
        todo = "create them, or set kafka.create_topics = true; a wrong kafka.topic_prefix looks the same"
        return Finding("topics", "fail", found, todo)
    if kafka.replication_factor > brokers:
        todo = f"set kafka.replication_factor to at most {brokers}, the number of brokers"
        return Finding("topics", "fail", f"{found}; they can't be made", todo)
    return Finding("topics", "warn", found, "nothing, if this is new: whoever needs one makes it at start")


def check_elasticsearch(elasticsearch: Elasticsearch) -> list[Finding]:
    """Whether it answers and takes writes, and whether the index templates are ours."""
    if importlib.util.find_spec("elasticsearch") is None:
        todo = 'pip install "tidegate[elasticsearch]"'
        return [Finding("Elasticsearch", "warn", "not asked: its client isn't installed", todo)]
    from elastic_transport import TransportError
    from elasticsearch import ApiError

    from tidegate.adapters.indexing.client import connect

    client = connect(elasticsearch, _TIMEOUT_SECONDS)
    try:
        health = client.cluster.health(timeout="3s")
        return [
            judge_health(elasticsearch.url, health["status"], health["number_of_data_nodes"]),
            _templates(client, elasticsearch),
            *_rebuilds(client, elasticsearch),
        ]
    except TransportError as error:
        found = f"nothing answers at {elasticsearch.url} ({type(error).__name__}: {error.message})"
        todo = "start one with `tidegate up`, or set elasticsearch.url"
    except ApiError as error:
        found = f"{elasticsearch.url} answers {error.status_code} ({error.message})"
        todo = "check elasticsearch.url, elasticsearch.username and its password"
    finally:
        client.close()
    return [Finding("Elasticsearch", "fail", found, todo)]


def judge_health(url: str, status: str, data_nodes: int) -> Finding:
    """The cluster's health in a word."""
    found = f"{status}, {data_nodes} data node{'s' if data_nodes != 1 else ''} at {url}"
    if status == "green":
        return Finding("Elasticsearch", "ok", found)
    if status == "yellow":
        todo = "replicas have no node to be on: add one, or set elasticsearch.replicas = 0"
        return Finding("Elasticsearch", "warn", found, todo)
    return Finding(
        "Elasticsearch", "fail", found, "primary shards are missing: see GET /_cluster/allocation/explain"
    )


def _templates(client: Client, elasticsearch: Elasticsearch) -> Finding:
    from tidegate.adapters.indexing.templates import find_template
    from tidegate.schemas.elasticsearch import INDEX_CONTRACTS

    found = [find_template(client, contract, elasticsearch.index_prefix) for contract in INDEX_CONTRACTS]
    return judge_templates({template.name: template.state for template in found})


def judge_templates(states: Mapping[str, str]) -> Finding:
    """states: by the template's name, as `InstalledTemplate.state` says."""
    odd = {name: state for name, state in states.items() if state != "current"}
    if not odd:
        return Finding("index templates", "ok", f"all {len(states)} are there, in this version")
    found = ", ".join(f"{name} {state}" for name, state in odd.items())
    if set(odd.values()) == {"newer"}:
        return Finding("index templates", "warn", found, "a newer tidegate installed them: upgrade this one")
    todo = "`tidegate index` installs them when it starts; a wrong elasticsearch.index_prefix looks the same"
    return Finding("index templates", "warn", found, todo)


def _rebuilds(client: Client, elasticsearch: Elasticsearch) -> list[Finding]:
    """Of `tidegate reindex` that has not ended; nothing where there is none."""
    from tidegate.adapters.indexing.reindexing.place import unfinished

    found = []
    for topic, blocked in unfinished(client, elasticsearch.index_prefix).items():
        so = f"; meanwhile no writes to {', '.join(blocked)}" if blocked else ""
        todo = f"if none runs, it was killed: run `tidegate reindex {topic}` again"
        found.append(Finding("reindexing", "warn", f"{topic} is being rebuilt{so}", todo))
    return found


def check_flink(flink: Flink) -> Finding:
    """Whether a JobManager answers. Only `submit` needs one: `run` brings its own."""
    host, _, port = flink.rest_address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/overview")
        overview = json.loads(connection.getresponse().read())
        slots, free = int(overview["slots-total"]), int(overview["slots-available"])
        version = overview["flink-version"]
    except (OSError, http.client.HTTPException) as error:
        todo = "`tidegate up` starts one, or set flink.rest_address; `tidegate run` works without"
        return Finding("Flink", "warn", f"nothing answers at {flink.rest_address} ({error})", todo)
    except (ValueError, KeyError, TypeError):
        todo = "set flink.rest_address to a JobManager's REST port"
        return Finding("Flink", "fail", f"what answers at {flink.rest_address} is not Flink", todo)
    finally:
        connection.close()
    return judge_flink(flink.rest_address, version, slots, free)


def judge_flink(address: str, version: str, slots: int, free: int) -> Finding:
    """The cluster's version and its task slots."""
    found = f"{version} at {address}, {free} of {slots} slots free"
    if not version.startswith("2."):
        return Finding("Flink", "fail", found, "tidegate's jobs need Flink 2.2")
    if slots == 0:
        return Finding("Flink", "warn", found, "no TaskManager has joined: start one")
    return Finding("Flink", "ok", found)
