"""Envoy's files for a scenario, and the ready-made access-log settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tidegate.demo import envoy_config
from tidegate.demo.scenario import DEMO
from tidegate.schemas import gateway_settings
from tidegate.schemas.access_log import ACCESS_LOG_FORMAT

ADDRESSES = {replica.name: f"127.0.0.1:{7000 + n}" for n, (_, replica) in enumerate(DEMO.replicas())}
DEPLOY = ROOT / "deploy"


def written(folder: Path) -> envoy_config.Files:
    files = envoy_config.Files(folder)
    envoy_config.write(DEMO, ADDRESSES, files, 8000, 8001)
    return files


def routes(**limits: int) -> dict[str, dict[str, Any]]:
    table = envoy_config.routes(DEMO, limits or None)
    (host,) = table["resources"][0]["virtual_hosts"]
    return {route["name"]: route for route in host["routes"]}


def test_every_task_has_a_route_by_its_header() -> None:
    found = routes()
    assert set(found) == {task.name for task in DEMO.tasks}
    for name, route in found.items():
        assert route["match"]["headers"] == [{"name": "taskid", "string_match": {"exact": name}}]


def test_a_task_of_two_versions_is_split_by_weight() -> None:
    clusters = routes()["chat"]["route"]["weighted_clusters"]["clusters"]
    assert [(cluster["name"].split("|")[2], cluster["weight"]) for cluster in clusters] == [
        ("v1", 80),
        ("v2", 20),
    ]


def test_only_tasks_with_a_limit_have_one_and_given_limits_replace_them() -> None:
    def limited(found: dict[str, dict[str, Any]]) -> dict[str, int]:
        return {
            name: limit["token_bucket"]["tokens_per_fill"]
            for name, route in found.items()
            for limit in route.get("typed_per_filter_config", {}).values()
        }

    assert limited(routes()) == {"summarise": 12}
    assert limited(routes(chat=40)) == {"chat": 40}


def test_all_that_listens_is_on_loopback(tmp_path: Path) -> None:
    files = written(tmp_path)
    bootstrap = json.loads(files.bootstrap.read_text())
    (listener,) = bootstrap["static_resources"]["listeners"]
    for address in (listener["address"], bootstrap["admin"]["address"]):
        assert address["socket_address"]["address"] == "127.0.0.1"


def test_every_cluster_has_a_file_with_its_replicas(tmp_path: Path) -> None:
    files = written(tmp_path)
    listed = {}
    for task in DEMO.tasks:
        for version in task.versions:
            (assignment,) = json.loads(files.endpoints(task, version).read_text())["resources"]
            assert assignment["cluster_name"] == task.cluster(version)
            listed[task.cluster(version)] = len(assignment["endpoints"][0]["lb_endpoints"])
    clusters = json.loads(files.bootstrap.read_text())["static_resources"]["clusters"]
    assert {cluster["name"] for cluster in clusters} == set(listed)
    assert sum(listed.values()) == len(ADDRESSES)


def test_no_cluster_has_another_name_for_statistics_that_the_log_would_show(tmp_path: Path) -> None:
    files = written(tmp_path)
    assert "alt_stat_name" not in files.bootstrap.read_text()


def test_a_replica_without_an_address_is_named(tmp_path: Path) -> None:
    addresses = {name: address for name, address in ADDRESSES.items() if name != "chat-v2-1"}
    with pytest.raises(KeyError, match="chat-v2-1"):
        envoy_config.write(DEMO, addresses, envoy_config.Files(tmp_path), 8000, 8001)


def test_replacing_a_file_leaves_no_draft_behind(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    envoy_config.replace(path, {"one": 1})
    envoy_config.replace(path, {"two": 2})
    assert json.loads(path.read_text()) == {"two": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["routes.json"]


def test_the_gateways_log_has_exactly_the_contracts_keys() -> None:
    entry = gateway_settings.envoy_access_log("/tmp/log")  # noqa: S108 (never opened)
    assert entry["typed_config"]["log_format"]["json_format"] == ACCESS_LOG_FORMAT
    assert len(ACCESS_LOG_FORMAT) == 34


@pytest.mark.parametrize("name", sorted(gateway_settings.files()))
def test_the_ready_made_files_are_what_their_generator_makes(name: str) -> None:
    assert (DEPLOY / name).read_text() == gateway_settings.files()[name], (
        "run `python -m tidegate.schemas.gateway_settings deploy`"
    )


def test_the_mesh_wide_format_is_json_with_the_contracts_keys() -> None:
    block = gateway_settings.istio_mesh_config().split("accessLogFormat: |\n")[1]
    assert json.loads(block) == ACCESS_LOG_FORMAT
    assert "accessLogEncoding: JSON" in gateway_settings.istio_mesh_config()


@pytest.mark.parametrize("name", ["envoy/access-log.yaml", "istio/provider.yaml"])
def test_the_labels_in_yaml_are_the_contracts(name: str) -> None:
    labels = dict(
        line.strip().split(": ", 1)
        for line in gateway_settings.files()[name].splitlines()
        if line.rstrip().endswith('%"')
    )
    assert {key: json.loads(value) for key, value in labels.items()} == ACCESS_LOG_FORMAT
