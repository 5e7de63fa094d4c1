"""Index names and the templates that are generated from the row models."""

from __future__ import annotations

import json
from datetime import date, datetime
from fnmatch import fnmatch
from hashlib import sha256
from itertools import permutations
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel
from tidegate.schemas import topics
from tidegate.schemas.elasticsearch import (
    INDEX_CONTRACTS,
    TEMPLATE_VERSION,
    Features,
    IndexContract,
    contract_of,
    index_template,
    mappings,
)
from tidegate.schemas.index_hints import IndexAs
from tidegate.schemas.settings import Elasticsearch
from tidegate.schemas.topic_rows import TOPIC_ROWS

DAY = date(2026, 11, 24)
PLAIN = Elasticsearch()
DIGESTS_OF_VERSION = 3
DIGESTS = {
    "gateway.access-logs": "53dfd739c2abd77f",
    "inference.logs": "67409f446cc9a0d2",
    "tidegate.service-metrics.1s": "1df3171ef4bc0e61",
    "tidegate.service-metrics.1m": "091d8e882f279ae5",
    "tidegate.line-counts": "9a8fb2a98f4a06b9",
    "tidegate.late": "740b24784080eed1",
    "tidegate.dead-letters": "fa118e9066bd7580",
    "kubernetes.replicas": "0c5d9e98c8990ad5",
    "kubernetes.gateways": "94a3df23e0aed8e9",
    "tidegate.replica-changes": "7e27297f62f77618",
    "tidegate.rate-limits": "f09992df2da5dca3",
    "tidegate.rate-limits.current": "83038c809e537023",
    "tidegate.limit-controls": "a8ea5d72e11e7fb9",
    "tidegate.tasks": "3b3d978a19713160",
    "tidegate.changes": "e3c6ec538b2ddd09",
    "tidegate.resource-metrics.10s": "07279fdc8b0d5f8b",
    "tidegate.resource-metrics.1m": "d1e824434f819218",
    "tidegate.task-profile": "4de324426820d894",
    "tidegate.alerts": "5bd334a359827178",
    "tidegate.autoscaling-signals": "e2c012aff62687cf",
    "tidegate.call-statistics": "9ac5873cb166525f",
}
"""Of each topic's template. One changed? Raise TEMPLATE_VERSION, and write both anew here."""


def properties(name: str, features: Features | None = None) -> dict[str, Any]:
    found = mappings(contract_of(name), features or Features())["properties"]
    assert isinstance(found, dict)
    return found


def test_an_index_is_named_after_prefix_topic_and_day() -> None:
    contract = contract_of("tidegate.service-metrics.1s")
    assert contract.index("eu-", DAY) == "eu-tidegate-service-metrics-1s-2026.11.24"
    assert contract.alias("eu-") == "eu-tidegate-service-metrics-1s"


def test_a_daily_topic_without_a_day_is_an_error() -> None:
    with pytest.raises(ValueError, match="its indices are daily"):
        contract_of("tidegate.late").index("", None)


def test_an_unknown_topic_names_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"there are gateway\.access-logs"):
        contract_of("nope")


@pytest.mark.parametrize("contract", INDEX_CONTRACTS, ids=lambda contract: contract.topic.name)
def test_a_template_matches_its_own_indices_and_its_alias_is_their_name_without_the_day(
    contract: IndexContract,
) -> None:
    template = index_template(contract, Elasticsearch(index_prefix="eu-"), Features())
    index = contract.index("eu-", DAY if contract.time_field else None)
    assert [fnmatch(index, pattern) for pattern in template["index_patterns"]] == [True]
    aliases = set(template["template"]["aliases"])
    assert aliases == ({contract.alias("eu-")} if contract.time_field else set())


def test_no_template_matches_another_topics_index() -> None:
    for mine, other in permutations(INDEX_CONTRACTS, 2):
        assert not fnmatch(other.index("", DAY if other.time_field else None), mine.pattern(""))


def test_a_longer_name_that_begins_the_same_is_another_topic() -> None:
    daily = IndexContract(topics.LATE, time_field="start_time")
    assert not fnmatch("tidegate-late-current", daily.pattern(""))


def test_templates_carry_version_shards_and_replicas() -> None:
    template = index_template(contract_of("tidegate.late"), Elasticsearch(shards=3, replicas=2), Features())
    assert template["version"] == TEMPLATE_VERSION
    assert template["template"]["settings"]["index"]["number_of_shards"] == 3
    assert template["template"]["settings"]["index"]["number_of_replicas"] == 2


@pytest.mark.parametrize("contract", INDEX_CONTRACTS, ids=lambda contract: contract.topic.name)
@pytest.mark.parametrize("features", [Features(flattened=True), Features(flattened=False)])
def test_whatever_keys_arrive_the_number_of_fields_is_the_models(
    contract: IndexContract, features: Features
) -> None:
    def check(mapping: dict[str, Any]) -> None:
        if "properties" in mapping:
            assert mapping["dynamic"] is False
        for field in mapping.get("properties", {}).values():
            if field["type"] == "object" and "properties" not in field:
                assert field["enabled"] is False
            check(field)

    check(mappings(contract, features))


def test_response_flags_are_searchable_where_the_server_can_flatten_and_kept_where_it_cannot() -> None:
    name = "tidegate.service-metrics.1s"
    assert properties(name, Features(flattened=True))["response_flags"]["type"] == "flattened"
    assert properties(name, Features(flattened=False))["response_flags"] == {
        "type": "object",
        "enabled": False,
    }


@pytest.mark.parametrize("flattened", [True, False])
def test_histogram_buckets_are_kept_and_not_searched(flattened: bool) -> None:
    histogram = properties("tidegate.service-metrics.1m", Features(flattened=flattened))["histogram"]
    assert histogram["properties"]["buckets"] == {"type": "object", "enabled": False}


def test_field_types_follow_the_model() -> None:
    found = properties("tidegate.service-metrics.1s")
    kinds = {name: field["type"] for name, field in found.items()}
    assert kinds["id"] == kinds["task"] == kinds["level"] == "keyword"
    assert kinds["window_start"] == "date"
    assert kinds["requests"] == kinds["bytes_sent"] == "long"
    assert kinds["latency_p99_ms"] == kinds["apdex"] == "double"
    assert properties("tidegate.dead-letters")["excerpt"]["type"] == "text"


def test_a_raw_lines_malformed_value_costs_the_value_and_not_the_line() -> None:
    for name in ("gateway.access-logs", "tidegate.late", "inference.logs"):
        template = index_template(contract_of(name), PLAIN, Features())["template"]
        assert template["settings"]["index"]["mapping"] == {"ignore_malformed": True}
        assert template["mappings"]["properties"]["@timestamp"]["type"] == "date"
    assert properties("gateway.access-logs")["duration"] == {"type": "long"}
    assert properties("gateway.access-logs")["start_time"]["type"] == "date"


def test_types_of_other_rows_that_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inner(BaseModel):
        when: datetime | None

    class Other(BaseModel):
        on: bool
        names: list[str]
        inner: list[Inner]
        labels: dict[str, str]
        kind: Literal["a", "b"]
        note: Annotated[str | None, IndexAs("text")]

    contract = IndexContract(topics.Topic("tidegate.other"), time_field=None)
    monkeypatch.setitem(TOPIC_ROWS, contract.topic, Other)
    found = mappings(contract, Features())["properties"]
    kinds = {name: field["type"] for name, field in found.items()}
    assert kinds == {
        "on": "boolean",
        "names": "keyword",
        "inner": "object",
        "labels": "flattened",
        "kind": "keyword",
        "note": "text",
    }
    assert found["inner"]["properties"]["when"]["type"] == "date"


def test_a_type_that_elasticsearch_lacks_is_named_with_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(BaseModel):
        value: int | str

    contract = IndexContract(topics.Topic("tidegate.odd"), time_field=None)
    monkeypatch.setitem(TOPIC_ROWS, contract.topic, Odd)
    with pytest.raises(TypeError, match=r"Odd\.value.*IndexAs"):
        mappings(contract, Features())


@pytest.mark.parametrize("contract", INDEX_CONTRACTS, ids=lambda contract: contract.topic.name)
def test_a_template_never_changes_under_the_same_version(contract: IndexContract) -> None:
    both = [index_template(contract, PLAIN, Features(flattened=flattened)) for flattened in (True, False)]
    digest = sha256(json.dumps(both, sort_keys=True).encode()).hexdigest()[:16]
    assert (TEMPLATE_VERSION, digest) == (DIGESTS_OF_VERSION, DIGESTS.get(contract.topic.name))
