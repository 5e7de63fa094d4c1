"""All settings as one, and how they are loaded from their layers."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import (
    SettingsError as SourceError,
)

from tidegate.schemas.settings.access_log import AccessLog
from tidegate.schemas.settings.elasticsearch import Elasticsearch, Indexer
from tidegate.schemas.settings.jobs import Flink, ServiceMetrics
from tidegate.schemas.settings.kafka import Kafka
from tidegate.schemas.settings.limits import Catalog, Kubernetes, Limits, Manager, ReplicaChanges, Watcher
from tidegate.schemas.settings.receiving import Receive
from tidegate.schemas.settings.shipping import ServiceLogs, Shipper
from tidegate.schemas.settings.signals import (
    Alerts,
    Autoscaling,
    CallStatistics,
    ProfileSettings,
    RemoteWrite,
    ResourceMetrics,
)
from tidegate.schemas.settings.stack import Stack
from tidegate.schemas.settings.ui import Lookup, Ui

CONFIG_FILE = "tidegate.toml"
STACK_FILE = "stack.json"


class SettingsError(Exception):
    """The settings are wrong. The message lists every error, each with where it comes from."""


class Settings(BaseSettings):
    """Everything that can be set. `load` is how a command gets it."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEGATE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    kafka: Kafka = Field(default_factory=Kafka)
    elasticsearch: Elasticsearch = Field(default_factory=Elasticsearch)
    flink: Flink = Field(default_factory=Flink)
    access_log: AccessLog = Field(default_factory=AccessLog)
    service_metrics: ServiceMetrics = Field(default_factory=ServiceMetrics)
    shipper: Shipper = Field(default_factory=Shipper)
    service_logs: ServiceLogs = Field(default_factory=ServiceLogs)
    lookup: Lookup = Field(default_factory=Lookup)
    ui: Ui = Field(default_factory=Ui)
    indexer: Indexer = Field(default_factory=Indexer)
    kubernetes: Kubernetes = Field(default_factory=Kubernetes)
    watcher: Watcher = Field(default_factory=Watcher)
    replica_changes: ReplicaChanges = Field(default_factory=ReplicaChanges)
    catalog: Catalog = Field(default_factory=Catalog)
    limits: Limits = Field(default_factory=Limits)
    manager: Manager = Field(default_factory=Manager)
    remote_write: RemoteWrite = Field(default_factory=RemoteWrite)
    receive: Receive = Field(default_factory=Receive)
    resource_metrics: ResourceMetrics = Field(default_factory=ResourceMetrics)
    task_profile: ProfileSettings = Field(default_factory=ProfileSettings)
    alerts: Alerts = Field(default_factory=Alerts)
    autoscaling: Autoscaling = Field(default_factory=Autoscaling)
    call_statistics: CallStatistics = Field(default_factory=CallStatistics)
    stack: Stack = Field(default_factory=Stack)

    def checkpoint_dir(self) -> Path:
        """Where Flink's checkpoints go."""
        return self.flink.checkpoint_dir or self.stack.state_dir.absolute() / "flink" / "checkpoints"

    def shipper_state_dir(self) -> Path:
        """Where the shipper keeps its offsets."""
        return self.shipper.state_dir or self.stack.state_dir.absolute() / "ship"

    def service_logs_state_dir(self) -> Path:
        """Where the shipper of services' logs keeps its offsets."""
        return self.service_logs.state_dir or self.stack.state_dir.absolute() / "ship-services"


_SECRETS = ("kafka.sasl_password", "elasticsearch.password", "limits.manager_token")


@dataclass(frozen=True)
class Layer:
    """What one source of settings gives, nested by group, as pydantic-settings reads it."""

    source: Literal["command line", "environment", "file", "local stack"]
    path: Path | None
    values: Mapping[str, Any]


def load(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings of all layers, validated.

    config: the TOML file; None means `tidegate.toml` in this folder, where it exists.
    overrides: what the command line gave, by dotted name: {"kafka.topic_prefix": "test."}.

    Raises SettingsError naming every wrong field, its value's layer and what is allowed.
    """
    return load_layers(config, overrides)[0]


def load_layers(
    config: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> tuple[Settings, tuple[Layer, ...]]:
    """As `load`, with the layers that the settings come from, the strongest first. Raises SettingsError."""
    from_file = _read_toml(config)
    wrong = [
        f"{config or CONFIG_FILE}: {secret} must not stand in a file that gets committed; "
        f"set TIDEGATE_{group.upper()}__{name.upper()} or {secret}_file"
        for secret in _SECRETS
        for group, _, name in (secret.partition("."),)
        if name in _group_of(from_file, group)
    ]
    nested: dict[str, Any] = {}
    for name, value in (overrides or {}).items():
        group, _, field = name.partition(".")
        if not field:
            raise SettingsError(f"{name}: a setting is GROUP.NAME, such as kafka.bootstrap_servers")
        nested.setdefault(group, {})[field] = value
    layers: list[Layer] = []

    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            layers[:] = [
                Layer("command line", None, init_settings()),
                Layer("environment", None, env_settings()),
                Layer("file", config or Path(CONFIG_FILE), from_file),
            ]
            state_dir = Stack().state_dir
            for layer in reversed(layers):
                state_dir = Path(_group_of(layer.values, "stack").get("state_dir", state_dir))
            layers.append(Layer("local stack", state_dir / STACK_FILE, _stack_defaults(state_dir)))
            return tuple(InitSettingsSource(settings_cls, dict(layer.values)) for layer in layers)

    try:
        settings = Layered(**nested)
    except ValidationError as error:
        raise SettingsError("\n".join([*wrong, _explain(error)])) from error
    except SourceError as error:
        raise SettingsError("\n".join([*wrong, f"environment: {error}"])) from error
    if wrong:
        raise SettingsError("\n".join(wrong))
    return settings, tuple(layers)


def _group_of(values: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    """What a source gives for a group; nothing where it isn't a table, which validation reports."""
    found = values.get(group)
    return found if isinstance(found, Mapping) else {}


def _read_toml(config: Path | None) -> dict[str, Any]:
    path = config or Path(CONFIG_FILE)
    if config is None and not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error


def _stack_defaults(state_dir: Path) -> dict[str, Any]:
    """The addresses of the servers that `tidegate up` has running, where it has any."""
    path = state_dir / STACK_FILE
    try:
        addresses = json.loads(path.read_text()).get("settings", {})
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (json.JSONDecodeError, AttributeError) as error:
        raise SettingsError(
            f"{path}: damaged ({error}); end the servers that it names by hand, then remove it"
        ) from error
    return dict(addresses)


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in item["loc"])
        environment = "TIDEGATE_" + "__".join(str(part).upper() for part in item["loc"][:2])
        lines.append(f"{where}: {item['msg']} (set it in {CONFIG_FILE} or as {environment})")
    return "\n".join(lines)
