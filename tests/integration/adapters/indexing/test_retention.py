"""Old days leave Elasticsearch, what others made stays, and what each topic takes is reported."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta

from elasticsearch import Elasticsearch as Client

from tests.support.commands import run_command
from tests.support.elasticsearch_proxy import proxy_to
from tidegate.adapters.indexing.client import connect
from tidegate.adapters.indexing.templates import detect_features, install_templates
from tidegate.schemas import topics
from tidegate.schemas.elasticsearch import contract_of
from tidegate.schemas.settings import Elasticsearch

SECONDS, MINUTES = contract_of(topics.SERVICE_METRICS_1S.name), contract_of(topics.SERVICE_METRICS_1M.name)
TODAY = datetime.now(UTC).date()


def run(settings: Elasticsearch, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    given = {"elasticsearch.url": settings.url, "elasticsearch.index_prefix": settings.index_prefix}
    return run_command(given, *arguments, code=code)


def filled(client: Client, elasticsearch: Elasticsearch) -> list[str]:
    """Days of both spans up to five days old, and an index of somebody else with a name like ours."""
    install_templates(client, elasticsearch, [SECONDS, MINUTES])
    names = []
    for age in range(6):
        for contract in (SECONDS, MINUTES):
            name = contract.index(elasticsearch.index_prefix, TODAY - timedelta(days=age))
            day = f"{TODAY - timedelta(days=age)}T10:00:00.000Z"
            document = {"id": f"{age}", "level": "department", "requests": 1000, "window_start": day}
            client.index(index=name, id=f"{age}", document=document, refresh=True)
            names.append(name)
    strange = f"{SECONDS.alias(elasticsearch.index_prefix)}-notes"
    client.indices.create(index=strange)
    return [*names, strange]


def left(client: Client, elasticsearch: Elasticsearch) -> set[str]:
    return set(client.indices.get(index=f"{elasticsearch.index_prefix}*"))


def test_days_that_are_older_than_they_are_kept_are_deleted_and_nothing_else(
    elasticsearch: Elasticsearch,
) -> None:
    with connect(elasticsearch, 30) as client:
        names = filled(client, elasticsearch)
        old = {SECONDS.index(elasticsearch.index_prefix, TODAY - timedelta(days=age)) for age in (3, 4, 5)}
        shown = run(elasticsearch, "retention", "--dry-run")
        assert {line.partition(":")[0] for line in shown.stdout.splitlines()} == old
        assert left(client, elasticsearch) == set(names)
        done = run(elasticsearch, "retention")
        assert "3 of 12 daily indices" in done.stderr
        assert left(client, elasticsearch) == set(names) - old
        again = run(
            elasticsearch, "--set", 'elasticsearch.keep_days={"tidegate.service-metrics.1m": 1}', "retention"
        )
        assert again.stdout.count("service-metrics-1m") == 4
        wrong = run(
            elasticsearch, "--set", 'elasticsearch.keep_days={"tidegate.what": 1}', "retention", code=2
        )
        assert "'tidegate.what' is not a topic that is indexed by day" in wrong.stderr


def test_what_a_topic_takes_is_reported_for_a_million_requests(elasticsearch: Elasticsearch) -> None:
    with connect(elasticsearch, 30) as client:
        filled(client, elasticsearch)
    reported = run(elasticsearch, "retention", "--sizes").stdout.splitlines()
    row = next(line.split() for line in reported if line.startswith(MINUTES.topic.name))
    assert row[1:3] == ["6", "6"]
    # Six department rows of 1,000 requests: a million would take some 167 times as much.
    size, million = float(row[3]), float(row[7])
    assert row[4] == "KiB"
    assert row[8] == "MiB"
    assert 0.9 < million * 1024 / (size * 1_000_000 / 6000) < 1.1
    # Six minutes are known, so a day has 1,440 times 1,000; 90 days and today are kept.
    kept, unit = float(row[10]), row[11]
    assert row[9] == "90"
    assert unit == "MiB"
    assert 0.9 < kept / (million * 1.44 * 91) < 1.1
    assert "at 1,440,000 requests a day (the minutes in Elasticsearch)" in reported[-1]


def test_the_disk_for_another_number_of_requests_is_reported_and_nothing_where_none_is_known(
    elasticsearch: Elasticsearch,
) -> None:
    empty = run(elasticsearch, "retention", "--sizes")
    assert "the size per request is unknown" in empty.stderr
    with connect(elasticsearch, 30) as client:
        filled(client, elasticsearch)
    reported = run(elasticsearch, "retention", "--sizes", "--requests-per-day", "0").stdout.splitlines()
    assert reported[-1].startswith(
        "expected: 0 B, today's indices included, at 0 requests a day (--requests-per-day)"
    )


def test_a_server_with_ilm_gets_a_policy_for_each_topic(elasticsearch: Elasticsearch) -> None:
    """This Elasticsearch has no ILM: a proxy in front of it answers its addresses, and passes on all others."""
    with proxy_to(elasticsearch.url) as proxy:
        with connect(elasticsearch, 30) as client:
            assert not detect_features(client).lifecycle
        proxy.lifecycle = {}
        settings = elasticsearch.model_copy(update={"url": proxy.url, "keep_days": {MINUTES.topic.name: 9}})
        with connect(settings, 30) as client:
            assert detect_features(client).lifecycle
            install_templates(client, settings, [MINUTES, contract_of(topics.TASK_PROFILE.name)])
            alias = MINUTES.alias(elasticsearch.index_prefix)
        assert proxy.with_lifecycle == {alias: {"name": alias}}
        assert {
            name: policy["policy"]["phases"]["delete"]["min_age"] for name, policy in proxy.lifecycle.items()
        } == {alias: "10d"}
