"""`tidegate settings`: every setting has a meaning, a value and a source, and no secret is shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.paths import ROOT
from tidegate.cli.app_context import Options, run
from tidegate.cli.main import app
from tidegate.cli.reference import settings_display
from tidegate.schemas.settings import Settings, load_layers
from tidegate.schemas.settings import listing as settings_listing
from tidegate.schemas.settings.listing import DEFAULT, MASK, SettingValue, Source

Values = Mapping[str, SettingValue]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, which is empty at first."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def values(overrides: Mapping[str, Any] | None = None) -> Values:
    found = settings_listing.current(*load_layers(overrides=overrides))
    return {one.setting.name: one for one in found}


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments], obj=Options())
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_setting_has_a_meaning_and_a_range() -> None:
    listed = settings_listing.all_settings()
    assert [one.name for one in listed if not one.meaning] == []
    assert [one.name for one in listed if not one.allowed] == []
    assert [group for group, meaning in settings_listing.groups().items() if not meaning] == []


def test_every_field_of_the_models_is_listed() -> None:
    dumped = Settings().model_dump()
    fields = {f"{group}.{name}" for group, members in dumped.items() for name in members}
    assert {one.name for one in settings_listing.all_settings()} == fields


def test_the_page_is_of_these_models() -> None:
    page = settings_display.markdown(settings_listing.all_settings(), settings_listing.groups())
    assert (ROOT / "docs" / "settings.md").read_text() == page, "run make docs"


def test_the_page_is_the_same_whatever_is_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tidegate.toml").write_text("this is not TOML")
    monkeypatch.setenv("TIDEGATE_KAFKA__TOPIC_PREFIX", "mine.")
    assert printed("settings", "--markdown") == (ROOT / "docs" / "settings.md").read_text()


@pytest.mark.usefixtures("folder")
def test_without_sources_everything_is_a_default() -> None:
    found = values().values()
    assert {source for one in found for source in one.sources} == {DEFAULT}
    assert not any(one.changed for one in found)


def test_the_strongest_source_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "kafka.topic_prefix"
    (folder / ".tidegate").mkdir()
    stack = folder / ".tidegate" / "stack.json"
    stack.write_text(json.dumps({"settings": {"kafka": {"topic_prefix": "stack."}}}))
    assert values()[name].sources == (Source("local stack", str(Path(".tidegate/stack.json"))),)
    (folder / "tidegate.toml").write_text('[kafka]\ntopic_prefix = "file."\n')
    assert values()[name].sources == (Source("file", "tidegate.toml"),)
    monkeypatch.setenv("TIDEGATE_KAFKA__TOPIC_PREFIX", "environment.")
    assert values()[name].sources == (Source("environment", "TIDEGATE_KAFKA__TOPIC_PREFIX"),)
    found = values({name: "option."})[name]
    assert found.sources == (Source("command line", "--set kafka.topic_prefix"),)
    assert (found.value, found.changed, found.setting.default) == ("option.", True, "")


def test_the_file_that_is_named_is_the_source(folder: Path) -> None:
    other = folder / "other.toml"
    other.write_text("[ui]\nport = 1\n")
    found = settings_listing.current(*load_layers(other))
    assert [one.sources for one in found if one.setting.name == "ui.port"] == [(Source("file", str(other)),)]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("variable", ["TIDEGATE_UI", "tidegate_ui"])
def test_a_group_as_json_in_the_environment_is_the_source(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, '{"port": 1}')
    assert values()["ui.port"].sources == (Source("environment", variable),)
    assert values()["ui.host"].sources == (DEFAULT,)


def test_a_table_is_of_every_source_that_has_a_part_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "tidegate.toml").write_text('[elasticsearch.keep_days]\n"tidegate.late" = 3\n')
    monkeypatch.setenv("TIDEGATE_ELASTICSEARCH__KEEP_DAYS", '{"gateway.access-logs": 2}')
    found = values()["elasticsearch.keep_days"]
    assert found.value == {"tidegate.late": 3, "gateway.access-logs": 2}
    assert found.sources == (
        Source("environment", "TIDEGATE_ELASTICSEARCH__KEEP_DAYS"),
        Source("file", "tidegate.toml"),
    )


def test_a_table_whose_parts_are_all_overridden_is_not_of_that_source(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "tidegate.toml").write_text("[flink.options]\na = '1'\n")
    monkeypatch.setenv("TIDEGATE_FLINK__OPTIONS__A", "2")
    found = values()["flink.options"]
    assert found.value == {"a": "2"}
    assert found.sources == (Source("environment", "TIDEGATE_FLINK__OPTIONS__A"),)


@pytest.mark.usefixtures("folder")
def test_a_value_that_equals_the_default_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_KAFKA__PARTITIONS", "3")
    found = values()["kafka.partitions"]
    assert not found.changed
    assert found.sources == (Source("environment", "TIDEGATE_KAFKA__PARTITIONS"),)


SECRET = "hunter2-secret"  # noqa: S105 - it must not be printed
SECRETS = {
    "TIDEGATE_KAFKA__SASL_PASSWORD": SECRET,
    "TIDEGATE_ELASTICSEARCH__PASSWORD": SECRET,
    "TIDEGATE_LIMITS__MANAGER_TOKEN": SECRET,
    "TIDEGATE_ELASTICSEARCH__URL": f"https://user:{SECRET}@host:9200/",
    "TIDEGATE_LIMITS__MANAGER_URL": f"https://user:p@{SECRET}/x@host/",
    "TIDEGATE_ALERTS__ALERTMANAGER_URLS": json.dumps([f"http://{SECRET}@one", "http://two"]),
    "TIDEGATE_ALERTS__WEBHOOK_URL": f"https://user:x@hooks.host/services/{SECRET}?a={SECRET}",
    "TIDEGATE_LOOKUP__TRACE_URL": f"https://host/{{trace_id}}?api_key={SECRET}&x=1",
    "TIDEGATE_FLINK__OPTIONS": json.dumps({"s3.secret-key": SECRET, "s3.access-key": SECRET, "a": "b"}),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("arguments", [(), ("--json",), ("--changed",), ("--markdown",)], ids=" ".join)
def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert SECRET not in printed("settings", *arguments)


@pytest.mark.usefixtures("folder")
def test_what_is_no_secret_stays_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    found = {name: one.value for name, one in values().items()}
    assert found["kafka.sasl_password"] == MASK
    assert found["elasticsearch.url"] == f"https://{MASK}@host:9200/"
    assert found["alerts.alertmanager_urls"] == [f"http://{MASK}@one", "http://two"]
    assert found["alerts.webhook_url"] == f"https://hooks.host/{MASK}"
    assert found["lookup.trace_url"] == f"https://host/{{trace_id}}?api_key={MASK}&x=1"
    assert found["flink.options"] == {"s3.secret-key": MASK, "s3.access-key": MASK, "a": "b"}


@pytest.mark.usefixtures("folder")
def test_a_secret_that_is_not_set_is_reported_from_one_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_ELASTICSEARCH__PASSWORD", SECRET)
    found = {
        one["name"]: one
        for one in map(json.loads, printed("settings", "--json").splitlines())
        if one["secret"]
    }
    assert {name: one["is_set"] for name, one in found.items()} == {
        "kafka.sasl_password": False,
        "elasticsearch.password": True,
        "limits.manager_token": False,
    }


def test_a_secret_of_a_file_is_set_and_the_file_is_its_source(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "password").write_text(SECRET)
    monkeypatch.setenv("TIDEGATE_ELASTICSEARCH__PASSWORD_FILE", "password")
    found = values()["elasticsearch.password"]
    assert (found.value, found.changed, found.sources) == (MASK, True, (Source("secret file", "password"),))
    assert SECRET not in printed("settings")


@pytest.mark.usefixtures("folder")
def test_names_choose_groups_and_settings() -> None:
    def names(*arguments: str) -> list[str]:
        return [json.loads(line)["name"] for line in printed("settings", *arguments, "--json").splitlines()]

    assert set(names("ui")) == {f"ui.{name}" for name in Settings().ui.model_dump()}
    assert names("kafka.sasl_password") == ["kafka.sasl_password", "kafka.sasl_password_file"]
    assert names("ui.port", "catalog.file") == ["ui.port", "catalog.file"]
    assert len(names()) == len(settings_listing.all_settings())


@pytest.mark.usefixtures("folder")
def test_changed_shows_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_UI__PORT", "1")
    monkeypatch.setenv("TIDEGATE_KAFKA__PARTITIONS", "3")
    lines = printed("--set", "kafka.topic_prefix=x.", "settings", "--changed").splitlines()
    assert [line for line in lines if " = " in line] == [
        'kafka.topic_prefix = "x."  <- command line --set kafka.topic_prefix',
        "ui.port = 1  <- environment TIDEGATE_UI__PORT",
    ]
    assert "default: 8090" in printed("settings", "--changed")


@pytest.fixture
def failed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command that must end with 2; gives what it writes to stderr."""

    def call(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["tidegate", *arguments])
        assert run(app) == 2
        return capsys.readouterr().err

    return call


def test_all_errors_are_reported_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failed: Callable[..., str]
) -> None:
    (folder / "tidegate.toml").write_text(f'ui = 3\n[kafka]\nsasl_password = "{SECRET}"\npartitions = 0\n')
    monkeypatch.setenv("TIDEGATE_CATALOG__POLL_SECONDS", "0")
    errors = failed("settings")
    for name in ("kafka.sasl_password", "kafka.partitions", "catalog.poll_seconds", "ui"):
        assert f"{name}" in errors
    assert SECRET not in errors


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("nothing",), "the groups are kafka"),
        (("kafka.nothing",), "kafka.nothing"),
        (("--markdown", "--changed"), "--changed"),
        (("--markdown", "--json"), "--json"),
    ],
    ids=" ".join,
)
def test_wrong_use_is_explained(arguments: tuple[str, ...], named: str, failed: Callable[..., str]) -> None:
    assert named in failed("settings", *arguments)
