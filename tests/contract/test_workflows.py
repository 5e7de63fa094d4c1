"""The workflows call what exists, with as few rights as they need, and a release finds its changelog."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(GITHUB.glob("workflows/*.yml"))}
EACH = pytest.mark.parametrize("name", WORKFLOWS)
ACTION = yaml.safe_load((GITHUB / "actions" / "setup" / "action.yml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"(?m)^([a-z][a-z-]*):", (ROOT / "Makefile").read_text()))

PINNED = re.compile(r"[\w.-]+/[\w./-]+@(v\d+|release/v\d+)")

_spec = importlib.util.spec_from_file_location("changelog_section", ROOT / ".ci" / "changelog_section.py")
assert _spec is not None
assert _spec.loader is not None
changelog_section = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(changelog_section)


def jobs(name: str) -> dict[str, dict[str, Any]]:
    found = WORKFLOWS[name]["jobs"]
    assert isinstance(found, dict)
    return found


def steps() -> Iterator[dict[str, Any]]:
    for name in WORKFLOWS:
        for job in jobs(name).values():
            yield from job["steps"]
    yield from ACTION["runs"]["steps"]


def events(name: str) -> Any:
    return WORKFLOWS[name][True]  # YAML 1.1 reads the key `on` as true


def commands_of(name: str) -> list[str]:
    return [step["run"] for job in jobs(name).values() for step in job["steps"] if "run" in step]


def test_every_make_target_that_is_called_exists() -> None:
    called = {target for step in steps() for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    assert called == {"setup", "lint", "test", "test-fast", "test-slow", "soak"}
    assert called <= TARGETS


def test_every_file_that_is_run_exists() -> None:
    named = {
        path
        for step in steps()
        for path in re.findall(r"(?:\.ci|tests|requirements)/[\w./]+\.\w+", step.get("run", ""))
    }
    assert named == {".ci/changelog_section.py", "tests/integration/packaging/test_wheel.py"}
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_push_is_linted_and_tested_on_both_pythons() -> None:
    assert set(events("push")) == {"push", "pull_request"}
    assert [command for command in commands_of("push") if command.startswith("make")] == [
        "make lint",
        "make test-fast",
    ]
    (job,) = jobs("push").values()
    pythons = job["strategy"]["matrix"]["python"]
    assert PROJECT["requires-python"] == f">={pythons[0]},<3.{int(pythons[-1].split('.')[1]) + 1}"


def test_what_is_merged_runs_everything() -> None:
    assert set(events("merge")) == {"push", "merge_group"}
    assert events("merge")["push"]["branches"] == ["main"]
    assert "make test" in commands_of("merge")


def test_the_night_runs_what_is_slow() -> None:
    assert "schedule" in events("nightly")
    assert commands_of("nightly") == ["make test-slow", "make soak MINUTES=12"]


@EACH
def test_rights_are_read_only_but_for_what_publishes(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    more = {job: one["permissions"] for job, one in jobs(name).items() if "permissions" in one}
    assert more == (
        {"publish": {"id-token": "write"}, "release": {"contents": "write"}} if name == "release" else {}
    )


@EACH
def test_every_job_ends_by_itself_and_no_two_runs_meet(name: str) -> None:
    assert WORKFLOWS[name]["concurrency"]["group"]
    for job in jobs(name).values():
        assert 0 < job["timeout-minutes"] <= 240
        assert job["runs-on"] == "ubuntu-24.04"


def test_every_action_is_of_a_major_version_or_our_own() -> None:
    for action in [step["uses"] for step in steps() if "uses" in step]:
        if action.startswith("./"):
            assert (ROOT / action / "action.yml").exists()
        else:
            assert PINNED.fullmatch(action), action


def test_a_checkout_keeps_no_credentials() -> None:
    for step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_no_text_of_others_gets_into_a_shell() -> None:
    for step in steps():
        assert "${{" not in step.get("run", ""), step["run"]


def test_nothing_names_a_host() -> None:
    for path in [*GITHUB.rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]:
        assert "://" not in path.read_text(), path.name


def test_a_release_tests_the_wheel_that_it_publishes() -> None:
    assert events("release") == {"push": {"tags": ["v*"]}}
    needs = {name: job.get("needs") for name, job in jobs("release").items()}
    assert needs == {"build": None, "test": "build", "publish": "test", "release": "publish"}


def test_dependabot_watches_what_exists() -> None:
    config = yaml.safe_load((GITHUB / "dependabot.yml").read_text())
    ecosystems = {update["package-ecosystem"] for update in config["updates"]}
    assert {"pip", "github-actions", "docker"} <= ecosystems
    for update in config["updates"]:
        for folder in update.get("directories", [update.get("directory")]):
            assert (ROOT / folder.lstrip("/")).is_dir(), folder


def test_the_hooks_are_local_and_of_the_environment_of_make() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"] == "make lint" or hook["entry"].startswith(".venv/bin/ruff ")


def test_templates_are_yaml_with_a_name() -> None:
    forms = [path for path in GITHUB.glob("ISSUE_TEMPLATE/*.yml") if path.stem != "config"]
    assert len(forms) == 2
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert form["name"]
        assert form["description"]
        assert form["body"]


CHANGELOG = """# Changelog

## Unreleased

## 0.2.0 - 2026-01-02

### Added

- Two

## [0.1.0] - 2026-01-01

- One
"""


def test_a_versions_section_is_found() -> None:
    assert changelog_section.section(CHANGELOG, "0.2.0") == "### Added\n\n- Two\n"
    assert changelog_section.section(CHANGELOG, "0.1.0") == "- One\n"


@pytest.mark.parametrize("version", ["0.3.0", "Unreleased", "0.2"])
def test_a_version_without_changes_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match=version):
        changelog_section.section(CHANGELOG, version)


def test_a_tag_of_another_version_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert changelog_section.main("0.0.0") == 1
    assert PROJECT["version"] in capsys.readouterr().err


def test_the_changelog_has_sections_by_version_the_newest_first() -> None:
    headings = re.findall(r"(?m)^## (.*)$", (ROOT / "CHANGELOG.md").read_text())
    assert headings[0] == "Unreleased"
    assert len(headings) > 1
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", heading) for heading in headings[1:])
    versions = [tuple(map(int, heading.partition(" ")[0].split("."))) for heading in headings[1:]]
    assert versions == sorted(versions, reverse=True)
    assert PROJECT["version"] == headings[1].partition(" ")[0]
