"""The indexer on a real Kafka and a real Elasticsearch: once each, nothing lost, nothing committed early."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.call_rows import calls_row
from tests.support.elasticsearch_proxy import Fault, proxy_to
from tests.support.indexing import (
    DAY_MS,
    ROWS_TOPIC,
    client_of,
    committed,
    documents,
    index_all,
    messages,
    produce,
    row,
    running,
    settings_of,
    values,
)
from tests.support.lines import aborted, at, line, rate_limited, record, unrouted
from tests.support.waiting import until
from tidegate.schemas import topics
from tidegate.schemas.elasticsearch import contract_of
from tidegate.schemas.rows.accounting import DeadLetter
from tidegate.schemas.rows.lines import ACCESS_LOG_NUMBERS, ACCESS_LOG_TIME
from tidegate.schemas.settings import Elasticsearch, Kafka, Settings

LINES_TOPIC = "gateway.access-logs"
LETTERS_TOPIC = "tidegate.dead-letters"


def test_a_row_that_is_written_twice_is_one_document_in_its_last_form(
    kafka: Kafka, elasticsearch: Elasticsearch
) -> None:
    settings = settings_of(kafka, elasticsearch)
    produce(kafka, ROWS_TOPIC, [row(1), row(2), row(1, requests=11)], partition=0)
    assert index_all(settings, ROWS_TOPIC).indexed.total() == 2
    produce(kafka, ROWS_TOPIC, [row(2, requests=22)], partition=0)
    assert index_all(settings, ROWS_TOPIC).indexed.total() == 1
    found = documents(elasticsearch, ROWS_TOPIC)
    assert {name: document["requests"] for name, document in found.items()} == {
        row(1)["id"]: 11,
        row(2)["id"]: 22,
    }


def test_an_open_hours_row_is_replaced_by_each_newer_one(kafka: Kafka, elasticsearch: Elasticsearch) -> None:
    contract = contract_of("tidegate.call-statistics")
    hour = calls_row(at=DAY_MS, requests=4)
    written = [
        hour
        | {"requests": number, "window_end": f"2026-11-24T10:{5 * number:02d}:00.000Z", "complete": False}
        for number in (1, 2)
    ]
    settings = settings_of(kafka, elasticsearch)
    produce(kafka, contract.topic.name, written, partition=0)
    index_all(settings, contract.topic.name)
    assert documents(elasticsearch, contract.topic.name) == {hour["id"]: written[-1]}
    produce(kafka, contract.topic.name, [hour], partition=0)
    index_all(settings, contract.topic.name)
    assert documents(elasticsearch, contract.topic.name) == {hour["id"]: hour}


def test_an_index_that_is_rebuilt_from_its_topic_equals_the_first(
    kafka: Kafka, elasticsearch: Elasticsearch
) -> None:
    produce(kafka, ROWS_TOPIC, [row(number % 70, requests=number) for number in range(200)], partition=1)
    lines = [line(start_time=at(number), duration=number).encode() for number in range(50)]
    produce(kafka, LINES_TOPIC, lines)
    index_all(settings_of(kafka, elasticsearch), ROWS_TOPIC, LINES_TOPIC)
    first = documents(elasticsearch, ROWS_TOPIC), documents(elasticsearch, LINES_TOPIC)
    assert (len(first[0]), len(first[1])) == (70, 50)
    with client_of(elasticsearch) as client:
        client.indices.delete(index=list(client.indices.get(index=f"{elasticsearch.index_prefix}*")))
    again = settings_of(kafka, elasticsearch, consumer_group=f"{kafka.topic_prefix}rebuild", bulk_documents=7)
    index_all(again, ROWS_TOPIC, LINES_TOPIC)
    assert (documents(elasticsearch, ROWS_TOPIC), documents(elasticsearch, LINES_TOPIC)) == first


def test_a_poisoned_document_is_a_dead_letter_and_the_rest_goes_on(
    kafka: Kafka, elasticsearch: Elasticsearch
) -> None:
    settings = settings_of(kafka, elasticsearch)
    good = [row(number) for number in range(9)]
    poisoned = [row(100, window_end="never"), row(101, histogram="none"), b"{broken", row(102, id=None)]
    produce(kafka, ROWS_TOPIC, [*good[:4], *poisoned, *good[4:]], partition=0)
    counters = index_all(settings, ROWS_TOPIC)
    assert (counters.read, counters.indexed.total(), counters.refused) == (13, 9, 4)
    assert set(documents(elasticsearch, ROWS_TOPIC)) == {one["id"] for one in good}
    assert committed(kafka, settings.indexer.consumer_group, ROWS_TOPIC) == 13
    letters = [DeadLetter.model_validate(letter) for letter in messages(kafka, topics.DEAD_LETTERS)]
    name = kafka.topic(topics.SERVICE_METRICS_1S)
    assert {letter.id for letter in letters} == {f"{name}-0-{offset}|indexer" for offset in (4, 5, 6, 7)}
    reasons = {letter.offset: letter.reason for letter in letters}
    assert "window_end" in reasons[4]
    assert "histogram" in reasons[5]
    assert reasons[6].startswith("value: not JSON")
    assert reasons[7].startswith("id: ")
    assert {letter.offset: letter.excerpt for letter in letters}[6] == "{broken"


def test_a_dead_letter_that_is_refused_itself_is_not_written_again(
    kafka: Kafka, elasticsearch: Elasticsearch
) -> None:
    settings = settings_of(kafka, elasticsearch)
    sound: dict[str, Any] = {"id": "x-0-1|job", "topic": "x", "seen_at": "2026-11-24T10:00:00.000Z"}
    produce(kafka, LETTERS_TOPIC, [b"no JSON", sound, sound | {"id": "y", "partition": "one"}])
    counters = index_all(settings, LETTERS_TOPIC)
    assert (counters.indexed.total(), counters.refused) == (1, 2)
    assert len(values(kafka, topics.DEAD_LETTERS)) == 3
    assert set(documents(elasticsearch, LETTERS_TOPIC)) == {"x-0-1|job"}


@pytest.mark.parametrize("fault", ["429", "503", "closed", "answer-lost", "half-429"])
def test_while_elasticsearch_fails_nothing_is_committed_and_afterwards_nothing_is_missing(
    kafka: Kafka, elasticsearch: Elasticsearch, fault: Fault
) -> None:
    produce(kafka, ROWS_TOPIC, [row(number) for number in range(60)])
    with proxy_to(elasticsearch.url) as proxy:
        behind = elasticsearch.model_copy(update={"url": proxy.url})
        settings = settings_of(kafka, behind, bulk_documents=60)
        group = settings.indexer.consumer_group
        with running(settings, ROWS_TOPIC) as indexer:
            until(lambda: committed(kafka, group, ROWS_TOPIC) == 60, "the first rows")
            proxy.fault = fault
            produce(kafka, ROWS_TOPIC, [row(number) for number in range(60, 120)])
            proxy.wait_until_spoiled(1 if fault == "half-429" else 3)
            if fault != "half-429":  # that one lets a half of what is left pass with every try
                assert committed(kafka, group, ROWS_TOPIC) == 60
            proxy.fault = "none"
            until(lambda: committed(kafka, group, ROWS_TOPIC) == 120, "the rows of the outage")
    assert len(documents(elasticsearch, ROWS_TOPIC)) == 120
    assert indexer.counters is not None
    assert (indexer.counters.indexed.total(), indexer.counters.refused) == (120, 0)
    assert indexer.counters.retried > 0


def test_an_indexer_that_is_stopped_in_an_outage_leaves_its_batch_to_the_next(
    kafka: Kafka, elasticsearch: Elasticsearch
) -> None:
    produce(kafka, ROWS_TOPIC, [row(number) for number in range(30)])
    with proxy_to(elasticsearch.url) as proxy:
        settings = settings_of(kafka, elasticsearch.model_copy(update={"url": proxy.url}))
        proxy.fault = "503"
        with running(settings, ROWS_TOPIC):
            proxy.wait_until_spoiled(2)
    assert committed(kafka, settings.indexer.consumer_group, ROWS_TOPIC) == 0
    assert index_all(settings_of(kafka, elasticsearch), ROWS_TOPIC).indexed.total() == 30
    assert len(documents(elasticsearch, ROWS_TOPIC)) == 30


def test_a_long_outage_does_not_cost_the_place_in_the_group(
    kafka: Kafka, elasticsearch: Elasticsearch
) -> None:
    produce(kafka, ROWS_TOPIC, [row(number) for number in range(2000)])
    with proxy_to(elasticsearch.url) as proxy:
        behind = elasticsearch.model_copy(update={"url": proxy.url})
        settings = settings_of(kafka, behind, bulk_documents=50)
        proxy.fault = "503"
        with running(settings, ROWS_TOPIC) as indexer:
            proxy.wait_until_spoiled(8)
            proxy.fault = "none"
            group = settings.indexer.consumer_group
            until(lambda: committed(kafka, group, ROWS_TOPIC) == 2000, "all rows")
    assert indexer.counters is not None
    assert (indexer.counters.given_back, indexer.counters.read) == (0, 2000)
    assert len(documents(elasticsearch, ROWS_TOPIC)) == 2000


def test_a_bulk_that_is_too_large_is_halved_until_it_fits(kafka: Kafka, elasticsearch: Elasticsearch) -> None:
    produce(kafka, ROWS_TOPIC, [row(number) for number in range(9)], partition=0)
    with proxy_to(elasticsearch.url) as proxy:
        proxy.fault = "413-over-one"
        behind = elasticsearch.model_copy(update={"url": proxy.url})
        counters = index_all(settings_of(kafka, behind), ROWS_TOPIC)
        assert proxy.spoiled > 0
    assert (counters.indexed.total(), counters.refused) == (9, 0)
    assert len(documents(elasticsearch, ROWS_TOPIC)) == 9


def test_a_cluster_with_no_room_for_a_shard_holds_the_rows_and_refuses_none(
    kafka: Kafka, elasticsearch: Elasticsearch
) -> None:
    produce(kafka, ROWS_TOPIC, [row(number) for number in range(10)])
    with client_of(elasticsearch) as client, proxy_to(elasticsearch.url) as proxy:
        client.indices.create(index=f"{elasticsearch.index_prefix}the-one-shard")
        client.cluster.put_settings(persistent={"cluster.max_shards_per_node": 1})
        try:
            settings = settings_of(kafka, elasticsearch.model_copy(update={"url": proxy.url}))
            group = settings.indexer.consumer_group
            with running(settings, ROWS_TOPIC) as indexer:
                proxy.wait_until_seen(3)
                assert committed(kafka, group, ROWS_TOPIC) == 0
                client.cluster.put_settings(persistent={"cluster.max_shards_per_node": None})
                until(lambda: committed(kafka, group, ROWS_TOPIC) == 10, "all rows")
        finally:
            client.cluster.put_settings(persistent={"cluster.max_shards_per_node": None})
    assert indexer.counters is not None
    assert indexer.counters.refused == 0
    assert len(documents(elasticsearch, ROWS_TOPIC)) == 10


def test_two_instances_share_the_partitions(kafka: Kafka, elasticsearch: Elasticsearch) -> None:
    settings = settings_of(kafka, elasticsearch, bulk_documents=20)
    group = settings.indexer.consumer_group
    produce(kafka, ROWS_TOPIC, [row(0)])
    with running(settings, ROWS_TOPIC) as one, running(settings, ROWS_TOPIC) as other:
        until(lambda: _shares(kafka, group) == [1, 2], "each has partitions")
        produce(kafka, ROWS_TOPIC, [row(number) for number in range(300)])
        until(lambda: committed(kafka, group, ROWS_TOPIC) == 301, "all rows")
    assert one.counters is not None
    assert other.counters is not None
    assert one.counters.indexed.total() > 0
    assert other.counters.indexed.total() > 0
    assert len(documents(elasticsearch, ROWS_TOPIC)) == 300


def test_partitions_that_are_taken_from_a_holding_instance_go_on_elsewhere(
    kafka: Kafka, elasticsearch: Elasticsearch
) -> None:
    produce(kafka, ROWS_TOPIC, [row(number) for number in range(90)])
    with proxy_to(elasticsearch.url) as proxy:
        behind = elasticsearch.model_copy(update={"url": proxy.url})
        group = f"{kafka.topic_prefix}indexer"
        proxy.fault = "503"
        # All rows of all partitions are in the batch that is held.
        with running(settings_of(kafka, behind, bulk_documents=90, flush_ms=60_000), ROWS_TOPIC) as held:
            proxy.wait_until_spoiled(2)
            with running(settings_of(kafka, elasticsearch), ROWS_TOPIC) as free:
                until(lambda: 0 < committed(kafka, group, ROWS_TOPIC) < 90, "the other one's share")
                proxy.fault = "none"
                until(lambda: committed(kafka, group, ROWS_TOPIC) == 90, "all rows")
    assert held.counters is not None
    assert free.counters is not None
    assert held.counters.given_back == 30
    assert free.counters.indexed.total() > 0
    assert set(documents(elasticsearch, ROWS_TOPIC)) == {row(number)["id"] for number in range(90)}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_lets_the_batch_finish_and_be_committed(
    kafka: Kafka, elasticsearch: Elasticsearch, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    settings = settings_of(kafka, elasticsearch, flush_ms=60_000, bulk_documents=10)
    produce(kafka, ROWS_TOPIC, [row(one) for one in range(25)], partition=0)
    with _process(settings, tmp_path, ROWS_TOPIC) as process:
        # Five rows wait for a batch that isn't full, for a minute.
        until(lambda: committed(kafka, settings.indexer.consumer_group, ROWS_TOPIC) == 20, "two batches")
        process.send_signal(number)
        assert process.wait(60) == code
    assert committed(kafka, settings.indexer.consumer_group, ROWS_TOPIC) == 25
    assert len(documents(elasticsearch, ROWS_TOPIC)) == 25


def test_an_indexer_that_is_killed_loses_and_doubles_nothing(
    kafka: Kafka, elasticsearch: Elasticsearch, tmp_path: Path
) -> None:
    settings = settings_of(kafka, elasticsearch, bulk_documents=100)
    produce(kafka, LINES_TOPIC, [line(start_time=at(0), duration=number).encode() for number in range(6000)])
    with _process(settings, tmp_path, LINES_TOPIC) as process:
        until(lambda: committed(kafka, settings.indexer.consumer_group, LINES_TOPIC) > 0, "the first batch")
        process.kill()
        process.wait(60)
    index_all(settings, LINES_TOPIC)
    found = documents(elasticsearch, LINES_TOPIC)
    assert sorted(document["duration"] for document in found.values()) == list(range(6000))


def test_every_odd_line_of_a_gateway_is_a_document(kafka: Kafka, elasticsearch: Elasticsearch) -> None:
    odd: list[object] = ["-", None, "", "12", "12.7", "abc", 7, 7.5, -3, True, [1, 2], 10**30, "1e400"]
    names = (*ACCESS_LOG_NUMBERS, ACCESS_LOG_TIME)
    lines = [record(start_time=at(1)) | {name: value} for name in names for value in odd]
    lines += [json.loads(text) for text in (aborted(), rate_limited(), unrouted())] + [{}]
    lines += [record() | {name: value} for name in ("path", "taskid") for value in (5, ["a"], "x" * 40_000)]
    produce(kafka, LINES_TOPIC, lines)
    counters = index_all(settings_of(kafka, elasticsearch), LINES_TOPIC)
    assert (counters.indexed.total(), counters.refused) == (len(lines), 0)
    with client_of(elasticsearch) as client:
        name = contract_of(LINES_TOPIC).alias(elasticsearch.index_prefix)
        client.indices.refresh(index=name)
        found = client.count(index=name, query={"range": {"duration": {"gte": 12, "lt": 13}}})
        assert found["count"] == len(["12", "12.7"])
        dated = client.count(index=name, query={"exists": {"field": "@timestamp"}})
        assert dated["count"] == len(lines)


def test_a_late_line_is_the_same_document_however_often_a_job_writes_it(
    kafka: Kafka, elasticsearch: Elasticsearch
) -> None:
    text = line(start_time=at(0)).encode()
    for _ in range(2):
        produce(kafka, "tidegate.late", [text], headers={"id": "gateway.access-logs-0-9"})
    produce(kafka, "tidegate.late", [text], partition=2)
    index_all(settings_of(kafka, elasticsearch), "tidegate.late")
    own = f"{kafka.topic(topics.LATE)}-2-0"
    assert set(documents(elasticsearch, "tidegate.late")) == {"gateway.access-logs-0-9", own}


def test_keys_that_nobody_expects_make_no_fields(kafka: Kafka, elasticsearch: Elasticsearch) -> None:
    many = {f"flag-{number}": number for number in range(3000)}
    produce(kafka, ROWS_TOPIC, [row(1, response_flags=many, histogram={"buckets": many}, **many)])
    produce(kafka, LINES_TOPIC, [record(start_time=at(0)) | many])
    counters = index_all(settings_of(kafka, elasticsearch), ROWS_TOPIC, LINES_TOPIC)
    assert (counters.indexed.total(), counters.refused) == (2, 0)
    with client_of(elasticsearch) as client:
        for index, mapping in client.indices.get_mapping(index=f"{elasticsearch.index_prefix}*").items():
            assert len(json.dumps(mapping)) < 10_000, index
        name = contract_of(ROWS_TOPIC).alias(elasticsearch.index_prefix)
        client.indices.refresh(index=name)
        found = client.search(
            index=name,
            query={"term": {"response_flags.flag-7": "7"}},
        )
        assert found["hits"]["total"]["value"] == 1


def test_the_command_indexes_what_is_there_and_says_how_many(
    kafka: Kafka, elasticsearch: Elasticsearch, tmp_path: Path
) -> None:
    produce(kafka, ROWS_TOPIC, [row(number) for number in range(12)])
    settings = settings_of(kafka, elasticsearch)
    with _process(settings, tmp_path, "--bounded", ROWS_TOPIC, capture=True) as process:
        output, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    assert "read 12, indexed 12," in output


def _process(
    settings: Settings, folder: Path, *arguments: str, capture: bool = False
) -> subprocess.Popen[str]:
    """`tidegate index` as a process of its own."""
    environment = os.environ | {
        f"TIDEGATE_{group.upper()}__{name.upper()}": str(value)
        for group, name, value in (
            ("kafka", "bootstrap_servers", settings.kafka.bootstrap_servers),
            ("kafka", "topic_prefix", settings.kafka.topic_prefix),
            ("elasticsearch", "url", settings.elasticsearch.url),
            ("elasticsearch", "index_prefix", settings.elasticsearch.index_prefix),
            ("indexer", "consumer_group", settings.indexer.consumer_group),
            ("indexer", "flush_ms", settings.indexer.flush_ms),
            ("indexer", "bulk_documents", settings.indexer.bulk_documents),
        )
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tidegate.cli.main", "index", *arguments],
        env=environment,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE if capture else None,
    )


def _shares(kafka: Kafka, group: str) -> list[int]:
    """How many partitions each member of the group has."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({**kafka.client_config()})
    found = admin.describe_consumer_groups([group])[group].result(30)
    return sorted(len(member.assignment.topic_partitions) for member in found.members)
