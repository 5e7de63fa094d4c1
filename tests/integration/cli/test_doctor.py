"""`tidegate doctor` against real servers, and against none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.commands import run_here
from tests.support.indexing import client_of
from tidegate.adapters.indexing.templates import install_templates
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.schemas.elasticsearch import INDEX_CONTRACTS
from tidegate.schemas.settings import Elasticsearch, Kafka
from tidegate.schemas.topics import ALL_TOPICS


def doctor(folder: Path, **settings: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Its exit code, and its findings by check."""
    environment = {f"TIDEGATE_{name.upper()}": value for name, value in settings.items()}
    result = run_here("doctor", "--json", code=None, folder=folder, environment=environment)
    report = json.loads(result.stdout)
    assert report["ok"] == (result.returncode == 0)
    return result.returncode, {finding["check"]: finding for finding in report["findings"]}


def test_servers_that_are_ready_are_found_so(
    kafka: Kafka, elasticsearch: Elasticsearch, tmp_path: Path
) -> None:
    reach = {
        "kafka__bootstrap_servers": kafka.bootstrap_servers,
        "kafka__topic_prefix": kafka.topic_prefix,
        "elasticsearch__url": elasticsearch.url,
        "elasticsearch__index_prefix": elasticsearch.index_prefix,
    }
    _, before = doctor(tmp_path, **reach)
    assert before["Kafka"]["state"] == before["Java"]["state"] == "ok"
    assert before["topics"]["state"] == before["index templates"]["state"] == "warn"
    ensure_topics(kafka, ALL_TOPICS)
    with client_of(elasticsearch) as client:
        install_templates(client, elasticsearch, INDEX_CONTRACTS)
    _, after = doctor(tmp_path, **reach)
    assert after["topics"]["state"] == after["index templates"]["state"] == "ok"


def test_servers_that_are_away_fail_and_each_says_what_to_do(tmp_path: Path) -> None:
    nowhere = "127.0.0.1:1"
    code, findings = doctor(
        tmp_path,
        kafka__bootstrap_servers=nowhere,
        elasticsearch__url=f"http://{nowhere}",
        flink__rest_address=nowhere,
    )
    assert code == 1
    assert findings["Kafka"]["state"] == findings["Elasticsearch"]["state"] == "fail"
    assert findings["Flink"]["state"] == "warn"
    assert all(nowhere in findings[check]["found"] for check in ("Kafka", "Elasticsearch", "Flink"))
    assert all(finding["todo"] for finding in findings.values() if finding["state"] != "ok")


def test_what_answers_in_flinks_place_must_be_flink(elasticsearch: Elasticsearch, tmp_path: Path) -> None:
    address = elasticsearch.url.removeprefix("http://")
    _, findings = doctor(tmp_path, flink__rest_address=address, kafka__bootstrap_servers="127.0.0.1:1")
    assert findings["Flink"]["state"] == "fail"
