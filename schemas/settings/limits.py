"""Settings of the closed loop: watcher, replica changes, catalog, limits, manager."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

Seconds = Annotated[float, Field(gt=0)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Kubernetes(_Group):
    """How to reach the Kubernetes API. Inside a cluster nothing needs to be set."""

    kubeconfig: Path | None = Field(
        None, description="default: the pod's service account, else the usual kubeconfig"
    )
    context: str | None = Field(None, description="of the kubeconfig; default: its current one")
    request_timeout_seconds: Seconds = 10
    field_manager: str = Field("tidegate", min_length=1, max_length=128)


class Watcher(_Group):
    """`tidegate watch`: who is ready, into `kubernetes.replicas` and `kubernetes.gateways`."""

    source: Literal["kubernetes", "prometheus", "envoy"] = "kubernetes"
    namespace_selector: str = Field("", description="label selector of the namespaces; default: all of them")
    service_selector: str = Field("", description="label selector of the EndpointSlices")
    refresh_seconds: Seconds = Field(30, description="every task's row at least this often")
    max_backoff_seconds: Seconds = 30
    consumer_group: str = Field("tidegate-watcher", min_length=1, description="of source prometheus")
    envoy_admins: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="source envoy: gateway to the host:port of each Envoy's admin page"
    )
    envoy_poll_seconds: Seconds = 0.25


class ReplicaChanges(_Group):
    """The job replica-changes: de-jitter."""

    down_window_seconds: Seconds = Field(2, description="a lower count settles after it")
    up_window_seconds: Seconds = Field(10, description="a higher count settles after it")
    stale_seconds: Seconds = Field(
        90, description="a source that was silent for so long is read anew: its next count settles at once"
    )
    consumer_group: str = Field("tidegate-replica-changes", min_length=1)


class Catalog(_Group):
    """The task catalog: a YAML file, or else the topic `tidegate.tasks`."""

    file: Path | None = None
    poll_seconds: Seconds = Field(1, description="how often the file is looked at")


class Limits(_Group):
    """`tidegate limit`: the rate-limit controller."""

    target: Literal["envoy-file", "kubernetes", "http"] = "kubernetes"
    max_raise: float = Field(2, gt=1, le=100, description="a push raises by no more than this factor")
    raise_every_seconds: Seconds = Field(10, description="a task's limit rises no more often")
    raises_together_seconds: Seconds = Field(
        5, description="a gateway's limits rise no more often: each change of its routes fills all buckets"
    )
    deadband: float = Field(0.05, ge=0, lt=1, description="no push for a raise below it")
    silent_seconds: Seconds = Field(90, description="a source that says nothing for so long is silent")
    alarm_every_seconds: Seconds = Field(300, description="a held limit is told again after so long")
    reconcile_seconds: Seconds = Field(10, description="how often what is in force is compared")
    max_backoff_seconds: Seconds = 30
    consumer_group: str = Field("tidegate-limit", min_length=1, description="its one member is the leader")
    envoy_files: dict[str, Path] = Field(
        default_factory=dict, description="target envoy-file: gateway to its route (RDS) file"
    )
    envoy_admins: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="target envoy-file: gateway to the host:port of its Envoys' admin pages, to read back",
    )
    manager_url: str = Field("http://127.0.0.1:8090", pattern=r"^https?://[^\s]+$", description="target http")
    manager_token: SecretStr | None = Field(
        None, description="from the environment or manager_token_file only"
    )
    manager_token_file: Path | None = None

    def token(self) -> str | None:
        """The manager's bearer token."""
        if self.manager_token is not None:
            return self.manager_token.get_secret_value()
        return self.manager_token_file.read_text().strip() if self.manager_token_file else None

    @model_validator(mode="after")
    def _files_for_the_file_target(self) -> Limits:
        if self.target == "envoy-file" and not self.envoy_files:
            raise ValueError("target envoy-file needs envoy_files: the route file of each gateway")
        return self


class Manager(_Group):
    """`tidegate manager`: the HTTP service in front of Kubernetes and Istio."""

    host: str = "127.0.0.1"
    port: int = Field(8090, ge=0, le=65535)
    tokens_file: Path | None = Field(
        None, description="YAML: a list of {name, token_sha256, roles: [read, limit, route]}"
    )
    domain: str = Field("cluster.local", min_length=1, description="the cluster's DNS domain")
