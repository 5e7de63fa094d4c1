"""A demo's own folder and settings, so that it changes nothing of the user's."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tidegate.demo.envoy_config import Files
from tidegate.demo.parts import DemoGateway, Replicas, ServiceShipper, Shipper
from tidegate.demo.scenario import Scenario
from tidegate.schemas.settings import CONFIG_FILE, Settings
from tidegate.stack import processes, state
from tidegate.stack.errors import StackError
from tidegate.stack.local import LocalStack

FOLDER = "demo"
GATEWAY = "demo-gateway"
"""What the demo's task catalog calls the gateway."""
_CATALOG = "catalog.yaml"
_RULES = "alerts.yaml"
_SCENARIO = "scenario.json"
_STATE_DIR_VARIABLE = "TIDEGATE_STACK__STATE_DIR"


@dataclass(frozen=True)
class Workspace:
    """One demo's folder and settings.

    settings: tidegate's defaults, except for the user's `stack` settings (memory, start timeout) and the folder.
    """

    folder: Path
    settings: Settings

    @property
    def config_file(self) -> Path:
        """The file with the demo's settings, for `tidegate --config FILE …`."""
        return self.folder / CONFIG_FILE

    @property
    def scenario_file(self) -> Path:
        return self.folder / _SCENARIO

    @property
    def catalog_file(self) -> Path:
        return self.folder / _CATALOG

    @property
    def rules_file(self) -> Path:
        return self.folder / _RULES

    @property
    def access_log(self) -> Path:
        return self.gateway_files.access_log

    @property
    def model_logs(self) -> Path:
        """The folder of the replicas' logs."""
        return Replicas.logs(self.folder / Replicas.name)

    @property
    def gateway_files(self) -> Files:
        return Files(self.folder / DemoGateway.name)

    @property
    def command(self) -> tuple[str, ...]:
        """The `tidegate` command with the demo's settings."""
        return (sys.executable, "-m", "tidegate.cli.main", "--config", str(self.config_file))

    def shown_command(self) -> str:
        """The same command as a user types it."""
        try:
            config = self.config_file.relative_to(Path.cwd())
        except ValueError:
            config = self.config_file
        # The environment takes precedence over a settings file, the command line over both.
        elsewhere = f" --set stack.state_dir={self.folder}" if _STATE_DIR_VARIABLE in os.environ else ""
        return f"tidegate --config {config}{elsewhere}"


def prepare(settings: Settings, scenario: Scenario) -> Workspace:
    """A fresh workspace; the files of an earlier demo are removed.

    Raises StackError if a demo is still running there, or if the folder isn't a demo's.
    """
    folder = settings.stack.state_dir.absolute() / FOLDER
    workspace = Workspace(folder, _settings(settings, folder))
    running = [name for name, server in state.read(folder).servers.items() if processes.alive(server.process)]
    if running:
        raise StackError(
            f"a demo is running already in {folder} ({', '.join(running)}); stop it with "
            f"`{workspace.shown_command()} down`"
        )
    _clear(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    scenario.write(workspace.scenario_file)
    workspace.config_file.write_text(_toml(workspace))
    return workspace


def with_limits(workspace: Workspace, scenario: Scenario, admin: str) -> Workspace:
    """The workspace with a task catalog and the settings of watcher and controller, also written to its files.

    admin: host:port of the gateway's admin interface, which is known once it has started.
    """
    catalog = yaml.safe_dump(catalog_of(scenario), sort_keys=False)
    workspace.catalog_file.write_text(
        f"# The capacity of the demo's tasks; changes take effect at once.\n{catalog}"
    )
    settings = workspace.settings
    groups: dict[str, tuple[Any, dict[str, Any]]] = {
        "catalog": (settings.catalog, {"file": workspace.catalog_file}),
        "watcher": (settings.watcher, {"source": "envoy", "envoy_admins": {GATEWAY: (admin,)}}),
        "limits": (
            settings.limits,
            {
                "target": "envoy-file",
                "envoy_files": {GATEWAY: workspace.gateway_files.routes},
                "envoy_admins": {GATEWAY: (admin,)},
            },
        ),
    }
    changed = {name: group.model_copy(update=values) for name, (group, values) in groups.items()}
    workspace = replace(workspace, settings=settings.model_copy(update=changed))
    workspace.config_file.write_text(_toml(workspace))
    return workspace


def with_alerts(workspace: Workspace, scenario: Scenario, alertmanager_url: str | None) -> Workspace:
    """The workspace with alert rules. alertmanager_url: receives the alerts; None: they only go to the topic."""
    rules = yaml.safe_dump(rules_of(scenario), sort_keys=False, width=120)
    workspace.rules_file.write_text(f"# The demo's alert rules; docs/alerts.md explains the format.\n{rules}")
    urls = () if alertmanager_url is None else (alertmanager_url,)
    alerts = workspace.settings.alerts.model_copy(
        update={"rules": workspace.rules_file, "alertmanager_urls": urls, "resend_seconds": 5.0}
    )
    workspace = replace(workspace, settings=workspace.settings.model_copy(update={"alerts": alerts}))
    workspace.config_file.write_text(_toml(workspace))
    return workspace


def rules_of(scenario: Scenario) -> dict[str, Any]:
    """One rule for the tasks whose limit tidegate sets: half of the requests rate-limited for five seconds."""
    return {
        "rules": [
            {
                "name": "half-refused",
                "level": "interface",
                "source": "service-metrics.1s",
                "select": {"tasks": [task.name for task in scenario.limited_tasks()]},
                "when": {"field": "rate_limited_ratio", "op": ">", "value": 0.5},
                "resolve_value": 0.4,
                "for_seconds": 5,
                "keep_firing_seconds": 3,
                "min_samples": 10,
                "severity": "warning",
                "message": "{value:.0%} of the requests of {task} are refused by its rate limit",
            }
        ]
    }


def catalog_of(scenario: Scenario) -> dict[str, Any]:
    """The task catalog: the tasks whose limit tidegate sets, with the capacity of one replica."""
    departments: dict[str, Any] = {}
    for task in scenario.limited_tasks():
        department = departments.setdefault(task.department, {"gateway": GATEWAY, "tasks": {}})
        department["tasks"][task.name] = {"qps_per_replica": task.qps_per_replica}
    return {"gateways": {GATEWAY: {}}, "departments": departments}


def _clear(workspace: Workspace) -> None:
    """Remove an earlier demo, whose offsets and topics would be mistaken for this one's."""
    LocalStack(workspace.settings, ()).down(purge=True)  # also the files outside the folder
    if not workspace.folder.exists():
        return
    if not workspace.scenario_file.exists() and any(workspace.folder.iterdir()):
        raise StackError(
            f"{workspace.folder} is the demo's folder, but its files are not a demo's; move them away, or set another "
            "stack.state_dir"
        )
    shutil.rmtree(workspace.folder)


def _settings(settings: Settings, folder: Path) -> Settings:
    """The demo must write to no Kafka but its own, so all groups except `stack` have their defaults."""
    defaults = {name: type(getattr(settings, name))() for name in Settings.model_fields}
    any_port = {name: 0 for name in type(settings.stack).model_fields if name.endswith("_port")}
    defaults["stack"] = settings.stack.model_copy(update={**any_port, "state_dir": folder})
    # The demo's Prometheus scrapes every two seconds.
    defaults["resource_metrics"] = defaults["resource_metrics"].model_copy(
        update={"watermark_delay_seconds": 5.0}
    )
    defaults["shipper"] = defaults["shipper"].model_copy(
        update={
            "files": (str(Files(folder / DemoGateway.name).access_log),),
            "state_dir": Shipper.state_dir(folder),
        }
    )
    logs = Replicas.logs(folder / Replicas.name)
    defaults["service_logs"] = defaults["service_logs"].model_copy(
        update={
            "files": (f"{logs}/{{department}}/{{task}}/{{replica}}.log",),
            "state_dir": ServiceShipper.state_dir(folder),
        }
    )
    return settings.model_copy(update=defaults)


_WRITTEN = {
    "shipper": ("files", "state_dir"),
    "service_logs": ("files", "state_dir"),
    "catalog": ("file",),
    "watcher": ("source", "envoy_admins"),
    "limits": ("target", "envoy_files", "envoy_admins"),
    "resource_metrics": ("watermark_delay_seconds",),
    "alerts": ("rules", "alertmanager_urls", "resend_seconds"),
}
"""The settings that the demo writes, besides all of `stack`."""


def _toml(workspace: Workspace) -> str:
    lines = ["# The settings of `tidegate demo`. The servers' addresses are in stack.json, in this folder."]
    groups = {"stack": workspace.settings.stack.model_dump(mode="json", exclude_none=True)}
    for group, names in _WRITTEN.items():
        settings = getattr(workspace.settings, group)
        changed = settings.model_dump(mode="json", include=set(names), exclude_defaults=True)
        groups[group] = {name: changed[name] for name in names if name in changed}
    for group, values in groups.items():
        if values:
            lines += ["", f"[{group}]", *(f"{name} = {_toml_value(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    """A JSON number, text, list of texts or boolean is the same in TOML; an object is not."""
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(name)} = {_toml_value(one)}" for name, one in value.items())
        return f"{{ {inner} }}"
    return json.dumps(value)
