"""Index names and the templates that are generated from the row models."""

from __future__ import annotations

import json
from datetime import date, datetime
from fnmatch import fnmatch
from hashlib import sha256
from itertools import permutations
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ValidationError

from tidegate.schemas import topics
from tidegate.schemas.elasticsearch import (
    INDEX_CONTRACTS,
    TEMPLATE_VERSION,
    Features,
    IndexContract,
    contract_of,
    index_template,
    kept_days,
    lifecycle_policy,
    mappings,
)
from tidegate.schemas.index_hints import IndexAs
from tidegate.schemas.settings import Elasticsearch

DAY = date(2026, 11, 24)
PLAIN = Elasticsearch()
DIGESTS_OF_VERSION = 7
DIGESTS = {
    "gateway.access-logs": "06f18d60636e7c17",
    "inference.logs": "906a390f4f1b7dfd",
    "tidegate.service-metrics.1s": "87fc107a7aa250ae",
    "tidegate.service-metrics.1m": "82e48024a6a5e526",
    "tidegate.line-counts": "20481b1ae4499cb4",
    "tidegate.late": "f100105bafc574b2",
    "tidegate.dead-letters": "b7ada709c61c1a18",
    "kubernetes.replicas": "f5291ad6ce8d91d1",
    "kubernetes.gateways": "fae382e2b5028e68",
    "tidegate.replica-changes": "fb8e091b56a109f7",
    "tidegate.rate-limits": "534edc6d58c3f079",
    "tidegate.rate-limits.current": "88ecd104fec044dd",
    "tidegate.limit-controls": "9a93042c54b82cc2",
    "tidegate.tasks": "f0ca24d666104bc1",
    "tidegate.changes": "3d233441147f0e0e",
    "tidegate.resource-metrics.10s": "449e9c470e17c158",
    "tidegate.resource-metrics.1m": "4a0e27e9dfd1c657",
    "tidegate.task-profile": "6e7ee2b36356210a",
    "tidegate.alerts": "404ea3a50ec7762b",
    "tidegate.autoscaling-signals": "7fe607e728cfd0a3",
    "tidegate.call-statistics": "72d7fc2a9e49a145",
}
"""Of each topic's template. One changed? Raise TEMPLATE_VERSION, and write both anew here."""


def properties(name: str, features: Features | None = None) -> dict[str, Any]:
    found = mappings(contract_of(name), features or Features())["properties"]
    assert isinstance(found, dict)
    return found


def contract_for(name: str, row: type[BaseModel]) -> IndexContract:
    index = topics.Index(time_field=None)
    return IndexContract(topics.RowTopic(name, row=row, index=index), **vars(index))


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


@pytest.mark.parametrize("contract", INDEX_CONTRACTS, ids=lambda contract: contract.topic.name)
def test_one_name_says_in_every_index_when_a_document_is_about(contract: IndexContract) -> None:
    found = properties(contract.topic.name)
    moment = found["@timestamp"]
    if moment["type"] == "alias":
        moment = found[moment["path"]]
    assert moment["type"] == "date"


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


def index_settings(name: str, elasticsearch: Elasticsearch) -> dict[str, Any]:
    found = index_template(contract_of(name), elasticsearch, Features())["template"]["settings"]["index"]
    assert isinstance(found, dict)
    return found


def test_one_topic_may_have_more_shards_than_the_others() -> None:
    elasticsearch = Elasticsearch(shards=2, topic_shards={"gateway.access-logs": 8})
    assert index_settings("gateway.access-logs", elasticsearch)["number_of_shards"] == 8
    assert index_settings("tidegate.late", elasticsearch)["number_of_shards"] == 2
    with pytest.raises(
        ValidationError, match=r"'nope' is not a topic that is indexed; the topics are: gateway\.access-logs"
    ):
        Elasticsearch(topic_shards={"nope": 2})


def test_logs_are_compressed_well_and_others_where_it_is_set() -> None:
    assert index_settings("inference.logs", PLAIN)["codec"] == "best_compression"
    assert "codec" not in index_settings("tidegate.service-metrics.1m", PLAIN)
    only = Elasticsearch(best_compression=("tidegate.service-metrics.1m",))
    assert index_settings("tidegate.service-metrics.1m", only)["codec"] == "best_compression"
    assert "codec" not in index_settings("inference.logs", only)


def test_how_soon_documents_are_visible_is_the_servers_own_unless_it_is_set() -> None:
    assert "refresh_interval" not in index_settings("tidegate.late", PLAIN)
    assert index_settings("tidegate.late", Elasticsearch(refresh_seconds=2.5))["refresh_interval"] == "2500ms"


@pytest.mark.parametrize("contract", INDEX_CONTRACTS, ids=lambda contract: contract.topic.name)
def test_an_index_is_sorted_by_fields_that_it_has_unless_that_is_switched_off(
    contract: IndexContract,
) -> None:
    sort = index_settings(contract.topic.name, PLAIN).get("sort", {"field": [], "order": []})
    assert [properties(contract.topic.name)[name]["type"] for name in sort["field"]] == [
        "date" if name in (contract.moment, "@timestamp") else "keyword" for name in sort["field"]
    ]
    assert len(sort["order"]) == len(sort["field"]) == len(contract.sort)
    assert "sort" not in index_settings(contract.topic.name, Elasticsearch(sorted_indices=False))


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


def test_types_of_other_rows_that_may_come() -> None:
    class Inner(BaseModel):
        when: datetime | None

    class Other(BaseModel):
        on: bool
        names: list[str]
        inner: list[Inner]
        labels: dict[str, str]
        kind: Literal["a", "b"]
        note: Annotated[str | None, IndexAs("text")]

    contract = contract_for("tidegate.other", Other)
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


def test_a_type_that_elasticsearch_lacks_is_named_with_its_field() -> None:
    class Odd(BaseModel):
        value: int | str

    contract = contract_for("tidegate.odd", Odd)
    with pytest.raises(TypeError, match=r"Odd\.value.*IndexAs"):
        mappings(contract, Features())


@pytest.mark.parametrize("contract", INDEX_CONTRACTS, ids=lambda contract: contract.topic.name)
def test_a_template_never_changes_under_the_same_version(contract: IndexContract) -> None:
    both = [index_template(contract, PLAIN, Features(has, has)) for has in (True, False)]
    digest = sha256(json.dumps(both, sort_keys=True).encode()).hexdigest()[:16]
    assert (TEMPLATE_VERSION, digest) == (DIGESTS_OF_VERSION, DIGESTS.get(contract.topic.name))


def test_old_days_are_the_servers_to_delete_where_it_can() -> None:
    contract = contract_of("tidegate.service-metrics.1s")
    settings = Elasticsearch(index_prefix="p-")
    index = index_template(contract, settings, Features(lifecycle=True))["template"]["settings"]["index"]
    assert index["lifecycle"] == {"name": "p-tidegate-service-metrics-1s"}
    assert "lifecycle" not in index_template(contract, settings, Features())["template"]["settings"]["index"]
    now = contract_of("tidegate.task-profile")
    assert (
        "lifecycle"
        not in index_template(now, settings, Features(lifecycle=True))["template"]["settings"]["index"]
    )
    assert lifecycle_policy(2)["phases"]["delete"]["min_age"] == "3d"


def test_how_long_a_topic_is_kept_can_be_set_for_topics_that_there_are() -> None:
    assert kept_days({})["tidegate.service-metrics.1m"] == 90
    assert kept_days({"gateway.access-logs": 30})["gateway.access-logs"] == 30
    with pytest.raises(
        ValidationError,
        match=r"keep_days\n.*'tidegate.task-profile' is not a topic that is indexed by day; the topics are: gateway\.",
    ):
        Elasticsearch(keep_days={"tidegate.task-profile": 1})
