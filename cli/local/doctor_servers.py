"""Checks the servers for `tidegate doctor`: Kafka and its topics, Elasticsearch and its templates, Flink."""

from __future__ import annotations

import http.client
import importlib.util
import json
from typing import TYPE_CHECKING, Any

from tidegate.cli.local.doctor_findings import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from elasticsearch import Elasticsearch as Client

    from tidegate.schemas.settings import Elasticsearch, Flink, Kafka, Settings

_TIMEOUT_SECONDS = 5
_CRITICAL = 2


def check_servers(settings: Settings) -> list[Finding]:
    """Check each server at its address in the settings."""
    return [
        *check_kafka(settings.kafka),
        *check_elasticsearch(settings.elasticsearch),
        check_flink(settings.flink),
    ]


def check_kafka(kafka: Kafka) -> list[Finding]:
    """Check whether brokers answer, whether the topics exist, and which names folded."""
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
    return [answer, judge_topics(kafka, metadata.topics, count), *_names(kafka)]


def _names(kafka: Kafka) -> list[Finding]:
    """Which names the job service-metrics has folded; no finding where that can't be read."""
    from tidegate.adapters.kafka.client import KafkaUnavailable
    from tidegate.adapters.queries import line_counts

    try:
        return [judge_names(line_counts.folded_names(line_counts.rows(kafka)))]
    except KafkaUnavailable:
        return []


def judge_names(folded: Sequence[str]) -> Finding:
    """Judge the names of departments, tasks and versions. folded: those that went into `__overflow__`."""
    if not folded:
        return Finding("names", "ok", "none has folded into __overflow__")
    found = f"folded into __overflow__, the first {len(folded)}: {', '.join(map(repr, folded))}"
    todo = (
        "a name has up to 128 characters of A-Za-z0-9._-: see access_log.name_key and access_log.name_pattern; for "
        "tasks past a department's number (department/task) raise access_log.max_tasks_per_department"
    )
    return Finding("names", "warn", found, todo)


def judge_topics(kafka: Kafka, existing: Mapping[str, object], brokers: int) -> Finding:
    """Judge the topics. existing: by name, with the prefix."""
    from tidegate.schemas.topics import ALL_TOPICS

    missing = [kafka.topic(topic) for topic in ALL_TOPICS if kafka.topic(topic) not in existing]
    if not missing:
        return Finding("topics", "ok", f"all {len(ALL_TOPICS)} exist")
    found = f"missing: {', '.join(missing)}"
    if not kafka.create_topics:
        todo = "create them, set kafka.create_topics = true, or correct kafka.topic_prefix"
        return Finding("topics", "fail", found, todo)
    if kafka.replication_factor > brokers:
        todo = f"set kafka.replication_factor to at most {brokers}, the number of brokers"
        return Finding("topics", "fail", f"{found}; they can't be created", todo)
    return Finding(
        "topics", "warn", found, "nothing on a new installation: each command creates its topics at start"
    )


def check_elasticsearch(elasticsearch: Elasticsearch) -> list[Finding]:
    """Check whether it answers and accepts writes, and whether the index templates are current."""
    if importlib.util.find_spec("elasticsearch") is None:
        todo = 'pip install "tidegate[elasticsearch]"'
        return [Finding("Elasticsearch", "warn", "not checked: its client isn't installed", todo)]
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
        found = f"{elasticsearch.url} responds with status {error.status_code} ({error.message})"
        todo = "check elasticsearch.url, elasticsearch.username and its password"
    finally:
        client.close()
    return [Finding("Elasticsearch", "fail", found, todo)]


def judge_health(url: str, status: str, data_nodes: int) -> Finding:
    """Judge the cluster's health."""
    found = f"{status}, {data_nodes} data node{'s' if data_nodes != 1 else ''} at {url}"
    if status == "green":
        return Finding("Elasticsearch", "ok", found)
    if status == "yellow":
        todo = "replica shards are unassigned: add a node, or set elasticsearch.replicas = 0"
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
    """Judge the index templates. states: `InstalledTemplate.state` by the template's name."""
    odd = {name: state for name, state in states.items() if state != "current"}
    if not odd:
        return Finding("index templates", "ok", f"all {len(states)} exist in this version")
    found = ", ".join(f"{name} {state}" for name, state in odd.items())
    if set(odd.values()) == {"newer"}:
        return Finding("index templates", "warn", found, "a newer tidegate installed them: upgrade this one")
    todo = "`tidegate index` installs them when it starts; otherwise correct elasticsearch.index_prefix"
    return Finding("index templates", "warn", found, todo)


def _rebuilds(client: Client, elasticsearch: Elasticsearch) -> list[Finding]:
    """A finding for each unfinished `tidegate reindex`."""
    from tidegate.adapters.indexing.reindexing.place import unfinished

    found = []
    for topic, blocked in unfinished(client, elasticsearch.index_prefix).items():
        writes = f"; writes to {', '.join(blocked)} are blocked meanwhile" if blocked else ""
        todo = f"if no `tidegate reindex` is running, it was killed: run `tidegate reindex {topic}` again"
        found.append(Finding("reindexing", "warn", f"{topic} is being rebuilt{writes}", todo))
    return found


def check_flink(flink: Flink) -> Finding:
    """Check whether a JobManager answers. Only `submit` and `keep` need one: `run` starts its own."""
    host, _, port = flink.rest_address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/overview")
        overview = json.loads(connection.getresponse().read())
        slots, free = int(overview["slots-total"]), int(overview["slots-available"])
        version = overview["flink-version"]
    except (OSError, http.client.HTTPException) as error:
        todo = "start one with `tidegate up`, or set flink.rest_address; `tidegate run` doesn't need one"
        return Finding("Flink", "warn", f"nothing answers at {flink.rest_address} ({error})", todo)
    except (ValueError, KeyError, TypeError):
        todo = "set flink.rest_address to a JobManager's REST port"
        return Finding("Flink", "fail", f"the server at {flink.rest_address} is not Flink", todo)
    finally:
        connection.close()
    return judge_flink(flink.rest_address, version, slots, free)


def judge_flink(address: str, version: str, slots: int, free: int) -> Finding:
    """Judge the cluster's version and its task slots."""
    found = f"{version} at {address}, {free} of {slots} slots free"
    if not version.startswith("2."):
        return Finding("Flink", "fail", found, "tidegate's jobs need Flink 2.2")
    if slots == 0:
        return Finding("Flink", "warn", found, "no TaskManager is registered: start one")
    return Finding("Flink", "ok", found)
