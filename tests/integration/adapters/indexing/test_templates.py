"""Index templates on a real Elasticsearch."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from elasticsearch import Elasticsearch as Client

from tests.support.indexing import client_of, row
from tidegate.adapters.indexing import templates as index_templates
from tidegate.adapters.indexing.templates import find_template, install_templates, supports
from tidegate.schemas.elasticsearch import (
    INDEX_CONTRACTS,
    TEMPLATE_VERSION,
    Features,
    IndexContract,
    contract_of,
    index_template,
)
from tidegate.schemas.settings import Elasticsearch

DAY = date(2026, 11, 24)
CONTRACT = contract_of("tidegate.service-metrics.1s")


def index_of(elasticsearch: Elasticsearch) -> str:
    return f"{CONTRACT.alias(elasticsearch.index_prefix)}-2026.11.24"


def fields(client: Client, index: str) -> dict[str, Any]:
    found = client.indices.get_mapping(index=index)[index]["mappings"]["properties"]
    assert isinstance(found, dict)
    return found


def test_what_the_server_can_is_found_by_trying(elasticsearch: Elasticsearch) -> None:
    with client_of(elasticsearch) as client:
        assert supports(client, "keyword")
        assert not supports(client, "no_such_type")


def test_templates_are_installed_once_and_again_without_harm(elasticsearch: Elasticsearch) -> None:
    with client_of(elasticsearch) as client:
        before = install_templates(client, elasticsearch, INDEX_CONTRACTS)
        assert {template.state for template in before} == {"missing"}
        again = install_templates(client, elasticsearch, INDEX_CONTRACTS)
        assert {template.state for template in again} == {"current"}


def test_a_days_index_has_the_models_fields_and_the_alias(elasticsearch: Elasticsearch) -> None:
    settings = elasticsearch.model_copy(update={"shards": 2})
    with client_of(elasticsearch) as client:
        install_templates(client, settings, [CONTRACT])
        client.index(index=index_of(elasticsearch), id="x", document=row(1))
        assert set(fields(client, index_of(elasticsearch))) == {*CONTRACT.row.model_fields, "@timestamp"}
        settings_now = client.indices.get_settings(index=index_of(elasticsearch))
        assert settings_now[index_of(elasticsearch)]["settings"]["index"]["number_of_shards"] == "2"
        assert client.indices.exists_alias(name=CONTRACT.alias(elasticsearch.index_prefix))


def test_an_index_from_before_it_had_a_time_of_that_name_can_be_searched_by_it(
    elasticsearch: Elasticsearch,
) -> None:
    name = CONTRACT.alias(elasticsearch.index_prefix)
    older = index_template(CONTRACT, elasticsearch, Features()) | {"version": TEMPLATE_VERSION - 1}
    del older["template"]["mappings"]["properties"]["@timestamp"]
    with client_of(elasticsearch) as client:
        client.indices.put_index_template(name=name, body=older)
        client.index(index=index_of(elasticsearch), id="x", document=row(1), refresh=True)
        asked = {"range": {"@timestamp": {"gte": "2026-11-24T10:00:00Z"}}}
        assert client.count(index=name, query=asked)["count"] == 0
        install_templates(client, elasticsearch, [CONTRACT])
        assert client.count(index=name, query=asked)["count"] == 1


@pytest.mark.parametrize("flattened", [True, False])
def test_the_server_takes_the_templates_of_either_branch(
    elasticsearch: Elasticsearch, monkeypatch: pytest.MonkeyPatch, flattened: bool
) -> None:
    with client_of(elasticsearch) as client:
        if flattened and not supports(client, "flattened"):
            pytest.skip("this Elasticsearch has no flattened fields")
        monkeypatch.setattr(index_templates, "detect_features", lambda _: Features(flattened=flattened))
        install_templates(client, elasticsearch, INDEX_CONTRACTS)
        client.index(index=index_of(elasticsearch), id="x", document=row(1))
        kind = fields(client, index_of(elasticsearch))["response_flags"]["type"]
        assert kind == ("flattened" if flattened else "object")


@pytest.mark.parametrize("contract", INDEX_CONTRACTS, ids=lambda contract: contract.topic.name)
def test_the_server_makes_an_index_of_every_topic_and_sorts_it(
    elasticsearch: Elasticsearch, contract: IndexContract
) -> None:
    settings = elasticsearch.model_copy(update={"refresh_seconds": 0.5})
    index = contract.index(elasticsearch.index_prefix, DAY if contract.time_field else None)
    with client_of(elasticsearch) as client:
        install_templates(client, settings, [contract])
        client.indices.create(index=index)
        found = client.indices.get_settings(index=index)[index]["settings"]["index"]
    sort = found.get("sort", {"field": []})["field"]
    assert sort == [name.removeprefix("-") for name in contract.sort]
    assert found["refresh_interval"] == "500ms"


def test_a_newer_tidegates_template_stays(elasticsearch: Elasticsearch) -> None:
    name = CONTRACT.alias(elasticsearch.index_prefix)
    newer = index_template(CONTRACT, elasticsearch, Features()) | {"version": TEMPLATE_VERSION + 1}
    with client_of(elasticsearch) as client:
        client.indices.put_index_template(name=name, body=newer)
        install_templates(client, elasticsearch, [CONTRACT])
        found = find_template(client, CONTRACT, elasticsearch.index_prefix)
    assert (found.version, found.state) == (TEMPLATE_VERSION + 1, "newer")


def test_an_older_template_is_replaced_and_its_indices_learn_the_new_fields(
    elasticsearch: Elasticsearch,
) -> None:
    name = CONTRACT.alias(elasticsearch.index_prefix)
    older = index_template(CONTRACT, elasticsearch, Features()) | {"version": TEMPLATE_VERSION - 1}
    del older["template"]["mappings"]["properties"]["apdex"]
    with client_of(elasticsearch) as client:
        client.indices.put_index_template(name=name, body=older)
        client.index(index=index_of(elasticsearch), id="x", document=row(1))
        assert "apdex" not in fields(client, index_of(elasticsearch))
        install_templates(client, elasticsearch, [CONTRACT])
        assert fields(client, index_of(elasticsearch))["apdex"] == {"type": "double"}
        assert find_template(client, CONTRACT, elasticsearch.index_prefix).state == "current"


def test_an_index_whose_old_fields_conflict_is_left_and_the_next_one_is_right(
    elasticsearch: Elasticsearch,
) -> None:
    name = CONTRACT.alias(elasticsearch.index_prefix)
    older = index_template(CONTRACT, elasticsearch, Features()) | {"version": TEMPLATE_VERSION - 1}
    older["template"]["mappings"]["properties"]["apdex"] = {"type": "keyword"}
    with client_of(elasticsearch) as client:
        client.indices.put_index_template(name=name, body=older)
        client.index(index=index_of(elasticsearch), id="x", document=row(1))
        install_templates(client, elasticsearch, [CONTRACT])
        client.index(index=f"{name}-2026.11.25", id="x", document=row(1))
        assert fields(client, index_of(elasticsearch))["apdex"]["type"] == "keyword"
        assert fields(client, f"{name}-2026.11.25")["apdex"]["type"] == "double"
