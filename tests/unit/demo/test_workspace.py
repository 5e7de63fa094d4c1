"""The demo's own folder and settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.demo import workspace as workspaces
from tidegate.demo.scenario import DEMO, Scenario
from tidegate.schemas import catalog
from tidegate.schemas.settings import Elasticsearch, Kafka, Settings, Stack, load
from tidegate.stack import processes, state
from tidegate.stack.errors import StackError
from tidegate.stack.processes import Launch
from tidegate.stack.state import StackState, StartedServer


def users_settings(folder: Path) -> Settings:
    return Settings(
        kafka=Kafka(bootstrap_servers="kafka.example:9092", topic_prefix="mine."),
        elasticsearch=Elasticsearch(url="https://search.example"),
        stack=Stack(state_dir=folder, kafka_port=9092, kafka_heap_mib=300),
    )


def test_the_demo_never_touches_the_users_servers(tmp_path: Path) -> None:
    settings = workspaces.prepare(users_settings(tmp_path), DEMO).settings
    assert settings.kafka == Kafka()
    assert settings.elasticsearch == Elasticsearch()
    assert settings.stack.state_dir == tmp_path / "demo"


def test_it_takes_any_free_port_and_keeps_the_users_memory_limits(tmp_path: Path) -> None:
    stack = workspaces.prepare(users_settings(tmp_path), DEMO).settings.stack
    assert stack.kafka_port == 0
    assert stack.kafka_heap_mib == 300


def test_its_settings_file_says_the_same_to_every_other_command(tmp_path: Path) -> None:
    workspace = workspaces.prepare(users_settings(tmp_path), DEMO)
    loaded = load(workspace.config_file)
    assert loaded.stack == workspace.settings.stack
    assert loaded.shipper == workspace.settings.shipper
    assert loaded.shipper.files == (str(workspace.access_log),)


def test_watcher_and_controller_find_the_demos_gateway_in_its_settings_file(tmp_path: Path) -> None:
    workspace = workspaces.with_limits(
        workspaces.prepare(users_settings(tmp_path), DEMO), DEMO, admin="127.0.0.1:19000"
    )
    loaded = load(workspace.config_file)
    assert (loaded.watcher, loaded.limits, loaded.catalog) == (
        workspace.settings.watcher,
        workspace.settings.limits,
        workspace.settings.catalog,
    )
    assert loaded.watcher.source == "envoy"
    assert loaded.watcher.envoy_admins == {workspaces.GATEWAY: ("127.0.0.1:19000",)}
    assert loaded.limits.envoy_files == {workspaces.GATEWAY: workspace.gateway_files.routes}
    assert loaded.shipper == workspace.settings.shipper


def test_the_catalog_has_the_tasks_whose_limit_tidegate_sets(tmp_path: Path) -> None:
    workspace = workspaces.with_limits(
        workspaces.prepare(users_settings(tmp_path), DEMO), DEMO, "127.0.0.1:19000"
    )
    tasks = catalog.load(workspace.catalog_file).tasks
    assert {key: (task.gateway, task.qps_per_replica) for key, task in tasks.items()} == {
        ("assistants", "translate"): (workspaces.GATEWAY, 5)
    }


def test_the_command_that_is_shown_means_the_demo_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = workspaces.prepare(users_settings(tmp_path), DEMO)
    monkeypatch.delenv("TIDEGATE_STACK__STATE_DIR", raising=False)
    assert workspace.shown_command() == f"tidegate --config {workspace.config_file}"
    monkeypatch.setenv("TIDEGATE_STACK__STATE_DIR", str(tmp_path))
    assert workspace.shown_command().endswith(f" --set stack.state_dir={workspace.folder}")


def test_its_parts_read_the_scenario_that_is_played(tmp_path: Path) -> None:
    assert Scenario.read(workspaces.prepare(users_settings(tmp_path), DEMO).scenario_file) == DEMO


def test_a_demo_that_is_up_is_left_alone_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    process = processes.start(Launch(("sleep", "60"), tmp_path), tmp_path / "log", "a-mark")
    try:
        server = StartedServer(process=process, started_at="2026-11-24T10:00:00Z", log=tmp_path / "log")
        state.write(folder, StackState().with_server("shipper", server))
        with pytest.raises(StackError, match=r"a demo is running already .*shipper.* down"):
            workspaces.prepare(users_settings(tmp_path), DEMO)
        assert processes.alive(process)
    finally:
        processes.stop([process], 5)


def test_what_an_earlier_demo_left_on_disk_is_gone(tmp_path: Path) -> None:
    workspace = workspaces.prepare(users_settings(tmp_path), DEMO)
    assert workspace.settings.shipper.state_dir is not None
    outside = tmp_path / "elsewhere" / "elasticsearch"
    for old in (workspace.access_log, workspace.settings.shipper.state_dir / "offsets", outside / "index"):
        old.parent.mkdir(parents=True, exist_ok=True)
        old.write_text("old\n")
    state.write(workspace.folder, StackState(folders={"elasticsearch": outside}))
    workspaces.prepare(users_settings(tmp_path), DEMO)
    assert not outside.exists()
    assert sorted(path.name for path in workspace.folder.iterdir()) == ["scenario.json", "tidegate.toml"]


def test_a_folder_that_no_demo_made_is_not_cleared(tmp_path: Path) -> None:
    mine = tmp_path / "demo" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work\n")
    with pytest.raises(StackError, match="its files are not a demo's"):
        workspaces.prepare(users_settings(tmp_path), DEMO)
    assert mine.exists()
