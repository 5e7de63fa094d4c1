"""`tidegate reindex` on real servers: the same documents in new indices, whatever happens meanwhile."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.commands import clean_environment, run_command, with_settings
from tests.support.elasticsearch_proxy import proxy_to
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
)
from tests.support.lines import at, line
from tests.support.waiting import until
from tidegate.adapters.indexing.family import family
from tidegate.adapters.indexing.reindexing.place import BuildingPlace, TakenOver, unfinished
from tidegate.adapters.indexing.reindexing.reindexer import (
    CannotReindex,
    Rebuilt,
    WhenLess,
    WouldLose,
    reindex,
)
from tidegate.adapters.indexing.retention import day_indices
from tidegate.adapters.indexing.templates import install_templates
from tidegate.schemas.elasticsearch import TEMPLATE_VERSION, contract_of
from tidegate.schemas.settings import Elasticsearch, Kafka, Settings

LINES_TOPIC = "gateway.access-logs"
ROWS = contract_of(ROWS_TOPIC)


def again(
    settings: Settings, topic: str = ROWS_TOPIC, when_less: WhenLess = "refuse", stop: bool = False
) -> Rebuilt | None:
    """As the command does it."""
    stopped = threading.Event()
    if stop:
        stopped.set()
    with client_of(settings.elasticsearch) as client:
        return reindex(settings, contract_of(topic), client, when_less, stopped)


def day_row(number: int, day: int, **fields: Any) -> dict[str, Any]:
    """A row of another day of November."""
    own = {"id": f"{day}-{number}", "window_start": f"2026-11-{day}T10:00:00.000Z"}
    return row(number, **(own | fields))


def indices(elasticsearch: Elasticsearch) -> dict[str, set[str]]:
    """All under the test's prefix, with their aliases, both without it."""
    prefix = elasticsearch.index_prefix
    with client_of(elasticsearch) as client:
        found = client.indices.get_alias(index=f"{prefix}*").body
    return {
        name.removeprefix(prefix): {alias.removeprefix(prefix) for alias in reported["aliases"]}
        for name, reported in found.items()
    }


def assert_nothing_left(elasticsearch: Elasticsearch) -> None:
    """The old indices are as they were, take writes, and nothing stands beside them."""
    assert not [name for name in indices(elasticsearch) if name.startswith("rebuilt-")]
    with client_of(elasticsearch) as client:
        assert unfinished(client, elasticsearch.index_prefix) == {}
        for index in family(client, ROWS, elasticsearch.index_prefix):
            client.index(index=index.target, id="probe", document=row(0))
            client.delete(index=index.target, id="probe")


@pytest.fixture
def filled(kafka: Kafka, elasticsearch: Elasticsearch) -> Settings:
    """Rows of two days, some of them written twice, in Kafka and in Elasticsearch."""
    rows = [day_row(number % 150, day, requests=number) for number in range(200) for day in (24, 25)]
    produce(kafka, ROWS_TOPIC, rows, partition=0)
    settings = settings_of(kafka, elasticsearch)
    index_all(settings, ROWS_TOPIC)
    return settings


def test_the_new_indices_hold_the_same_documents_under_the_same_names(filled: Settings) -> None:
    elasticsearch = filled.elasticsearch
    before, names = documents(elasticsearch, ROWS_TOPIC), set(indices(elasticsearch))
    done = again(filled)
    assert done is not None
    assert [(one.old_documents, one.new_documents, one.missing) for one in done.replaced] == [
        (150, 150, 0)
    ] * 2
    assert done.kept == []
    assert documents(elasticsearch, ROWS_TOPIC) == before
    now = indices(elasticsearch)
    assert not names & set(now)
    assert {frozenset(aliases) for aliases in now.values()} == {
        frozenset({name, "tidegate-service-metrics-1s"}) for name in names
    }
    assert_nothing_beside(elasticsearch)


def test_rebuilt_indices_are_written_to_searched_kept_and_rebuilt_like_any_other(filled: Settings) -> None:
    elasticsearch = filled.elasticsearch
    again(filled)
    produce(filled.kafka, ROWS_TOPIC, [day_row(1, 24, requests=7777), day_row(900, 26)], partition=0)
    index_all(filled, ROWS_TOPIC)
    before = documents(elasticsearch, ROWS_TOPIC)
    assert before["24-1"]["requests"] == 7777
    assert len(before) == 301
    with client_of(elasticsearch) as client:
        assert [(one.day.day, one.documents) for one in day_indices(client, elasticsearch)] == [
            (24, 150),
            (25, 150),
            (26, 1),
        ]
        install_templates(client, elasticsearch, [ROWS])
    assert again(filled) is not None
    assert documents(elasticsearch, ROWS_TOPIC) == before
    assert len(indices(elasticsearch)) == 3


def test_raw_lines_and_topics_without_days_are_rebuilt_too(
    kafka: Kafka, elasticsearch: Elasticsearch
) -> None:
    profile = "tidegate.autoscaling-signals"
    produce(kafka, LINES_TOPIC, [line(start_time=at(number), duration="-").encode() for number in range(50)])
    signals = [{"id": f"task-{number % 3}", "revision": number} for number in range(9)]
    produce(kafka, profile, signals, partition=0)
    settings = settings_of(kafka, elasticsearch)
    index_all(settings, LINES_TOPIC, profile)
    for topic, count in ((LINES_TOPIC, 50), (profile, 3)):
        before = documents(elasticsearch, topic)
        assert len(before) == count
        done = again(settings, topic)
        assert done is not None
        assert [one.new_documents for one in done.replaced] == [count]
        assert documents(elasticsearch, topic) == before
        assert again(settings, topic) is not None
        assert documents(elasticsearch, topic) == before


def test_rows_that_arrive_meanwhile_are_in_the_new_indices_in_their_last_form(filled: Settings) -> None:
    elasticsearch, kafka = filled.elasticsearch, filled.kafka
    written: dict[str, dict[str, Any]] = {}
    over = threading.Event()

    def writing() -> Iterator[dict[str, Any]]:
        number = 0
        while not over.wait(0.002):
            one = day_row(number % 170, 24 + number % 3, requests=number)
            written[one["id"]] = one
            yield one
            number += 1

    writer = threading.Thread(target=lambda: produce(kafka, ROWS_TOPIC, writing(), partition=0))
    with running(filled, ROWS_TOPIC):
        writer.start()
        until(lambda: len(written) > 200)
        try:
            results = [again(filled) for _ in range(2)]
        finally:
            over.set()
            writer.join()
        assert None not in results
        end = sum(1 for _ in _topic_messages(kafka))
        until(lambda: committed(kafka, filled.indexer.consumer_group, ROWS_TOPIC) >= end)
    expected = {one["id"]: one for one in _topic_messages(kafka)}
    assert documents(elasticsearch, ROWS_TOPIC) == expected
    assert_nothing_beside(elasticsearch)


def _topic_messages(kafka: Kafka) -> list[dict[str, Any]]:
    return messages(kafka, ROWS.topic)


def assert_nothing_beside(elasticsearch: Elasticsearch) -> None:
    """Every index is in service."""
    assert all("tidegate-service-metrics-1s" in aliases for aliases in indices(elasticsearch).values())
    with client_of(elasticsearch) as client:
        assert unfinished(client, elasticsearch.index_prefix) == {}


def lost_in_kafka(settings: Settings) -> Settings:
    """The same indices, whose topic has only the second half of the 24th and nothing of the 25th any more."""
    kafka = settings.kafka.model_copy(update={"topic_prefix": f"{settings.kafka.topic_prefix}less."})
    rows = [
        *(day_row(number, 24, window_start="2026-11-24T18:30:00.000Z") for number in range(1000, 1200)),
        *(day_row(number, 24) for number in range(20)),
        day_row(1, 26),
    ]
    produce(kafka, ROWS_TOPIC, rows, partition=0)
    return settings.model_copy(update={"kafka": kafka})


def test_what_the_topic_no_longer_holds_is_not_lost_without_being_asked_for(filled: Settings) -> None:
    less, elasticsearch = lost_in_kafka(filled), filled.elasticsearch
    before = documents(elasticsearch, ROWS_TOPIC)
    with pytest.raises(WouldLose) as refused:
        again(less)
    assert [(one.target[-10:], one.missing) for one in refused.value.lacking] == [("2026.11.24", 130)]
    assert documents(elasticsearch, ROWS_TOPIC) == before
    assert_nothing_left(elasticsearch)

    kept = again(less, when_less="keep")
    assert kept is not None
    assert [one.target[-2:] for one in kept.replaced] == ["26"]
    assert [one.target[-2:] for one in kept.kept] == ["24", "25"]
    assert documents(elasticsearch, ROWS_TOPIC).items() >= before.items()

    replaced = again(less, when_less="replace")
    assert replaced is not None
    assert [one.target[-2:] for one in replaced.replaced] == ["24", "26"]
    found = documents(elasticsearch, ROWS_TOPIC)
    assert sum(name.startswith("24-") for name in found) == 220
    assert sum(name.startswith("25-") for name in found) == 150
    assert_nothing_beside(elasticsearch)


def given(settings: Settings, **more: str) -> Mapping[str, str]:
    return {
        "kafka.bootstrap_servers": settings.kafka.bootstrap_servers,
        "kafka.topic_prefix": settings.kafka.topic_prefix,
        "elasticsearch.url": settings.elasticsearch.url,
        "elasticsearch.index_prefix": settings.elasticsearch.index_prefix,
        "indexer.max_backoff_seconds": "0.2",
    } | more


def test_the_command_tells_what_it_has_done_and_what_it_refuses(filled: Settings) -> None:
    done = run_command(given(filled), "reindex", ROWS_TOPIC)
    assert [each.split()[1:] for each in done.stdout.splitlines()[1:]] == [["150", "150", "0"]] * 2
    less = lost_in_kafka(filled)
    refused = run_command(given(less), "reindex", ROWS_TOPIC, code=1)
    assert "--when-less keep" in refused.stderr
    assert refused.stdout.splitlines()[1].split()[1:] == ["150", "220", "130"]
    kept = run_command(given(less), "reindex", ROWS_TOPIC, "--when-less", "keep")
    assert kept.stdout.count("unchanged") == 2
    run_command(given(filled), "reindex", "tidegate.what", code=2)
    wrong = given(filled, **{"elasticsearch.keep_days": '{"tidegate.what": 1}'})
    assert "elasticsearch.keep_days" in run_command(wrong, "reindex", ROWS_TOPIC, code=2).stderr
    assert "elasticsearch.keep_days" in run_command(wrong, "index", "--bounded", code=2).stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_one_leaves_the_old_indices_in_service_and_can_be_run_again(
    filled: Settings, number: signal.Signals
) -> None:
    elasticsearch = filled.elasticsearch
    before = documents(elasticsearch, ROWS_TOPIC)
    with proxy_to(elasticsearch.url) as proxy:
        proxy.fault = "half-429"
        command = with_settings(
            given(filled, **{"elasticsearch.url": proxy.url, "indexer.bulk_documents": "50"})
        )
        with subprocess.Popen([*command, "reindex", ROWS_TOPIC], env=clean_environment()) as process:
            proxy.wait_until_spoiled(3)
            assert any(name.startswith("rebuilt-") for name in indices(elasticsearch))
            assert documents(elasticsearch, ROWS_TOPIC) == before
            process.send_signal(number)
            process.wait(60)
    assert documents(elasticsearch, ROWS_TOPIC) == before
    if number == signal.SIGTERM:
        assert process.returncode == 130
        assert_nothing_left(elasticsearch)
    assert again(filled) is not None
    assert documents(elasticsearch, ROWS_TOPIC) == before
    assert_nothing_beside(elasticsearch)


def test_indices_that_a_killed_one_had_blocked_take_writes_once_another_is_run(filled: Settings) -> None:
    elasticsearch = filled.elasticsearch
    with client_of(elasticsearch) as client:
        killed = BuildingPlace.begin(client, ROWS, elasticsearch)
        assert unfinished(client, elasticsearch.index_prefix) == {ROWS_TOPIC: []}
        old = [index.name for index in family(client, ROWS, elasticsearch.index_prefix)]
        killed.block(old)
        assert unfinished(client, elasticsearch.index_prefix) == {ROWS_TOPIC: old}
        assert again(filled, stop=True) is None
        assert_nothing_left(elasticsearch)
        with pytest.raises(TakenOver, match="another `tidegate reindex"):
            killed.change_hands([])
        killed.leave()


def test_an_index_that_somebody_else_has_blocked_stays_blocked(filled: Settings) -> None:
    less = lost_in_kafka(filled)
    with client_of(filled.elasticsearch) as client:
        old = family(client, ROWS, filled.elasticsearch.index_prefix)[0]
        client.indices.add_block(index=old.name, block="write")
        with pytest.raises(WouldLose):
            again(less)
        blocks = client.indices.get_settings(index=old.name, flat_settings=True)[old.name]["settings"]
        assert blocks["index.blocks.write"] == "true"


def test_a_day_that_an_indexer_begins_just_then_is_taken_in(
    filled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    elasticsearch = filled.elasticsearch
    new_day = day_row(1, 27)
    produce(filled.kafka, ROWS_TOPIC, [new_day], partition=0)
    change_hands = BuildingPlace.change_hands
    answers: list[bool] = []

    def just_then(place: BuildingPlace, chosen: Any) -> bool:
        if not answers:
            index_all(filled.model_copy(update={"indexer": filled.indexer}), ROWS_TOPIC)
        answers.append(change_hands(place, chosen))
        return answers[-1]

    monkeypatch.setattr(BuildingPlace, "change_hands", just_then)
    done = again(filled)
    assert done is not None
    assert answers == [False, True]
    assert documents(elasticsearch, ROWS_TOPIC)[new_day["id"]] == new_day
    assert_nothing_beside(elasticsearch)


def test_a_server_with_ilm_counts_an_indexs_age_from_its_day(filled: Settings) -> None:
    """This Elasticsearch has no ILM: a proxy in front of it answers its addresses."""
    with proxy_to(filled.elasticsearch.url) as proxy:
        proxy.lifecycle = {}
        behind = filled.elasticsearch.model_copy(update={"url": proxy.url})
        with client_of(behind) as client:
            reported = BuildingPlace(client, ROWS, behind)
            index = family(client, ROWS, behind.index_prefix)[0]
            assert reported.ready_settings(index)["lifecycle.origination_date"] == DAY_MS - 10 * 3_600_000


def test_a_newer_tidegates_indices_are_its_own_to_rebuild(filled: Settings) -> None:
    elasticsearch = filled.elasticsearch
    name = ROWS.alias(elasticsearch.index_prefix)
    with client_of(elasticsearch) as client:
        body = client.indices.get_index_template(name=name)["index_templates"][0]["index_template"]
        client.indices.put_index_template(name=name, body=body | {"version": TEMPLATE_VERSION + 1})
    with pytest.raises(CannotReindex, match="of a newer tidegate"):
        again(filled)
