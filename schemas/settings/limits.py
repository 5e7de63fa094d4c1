"""Settings of the closed loop: watcher, replica changes, catalog, limits, manager."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from tidegate.schemas.settings.base import Group, Port, Seconds


class Kubernetes(Group):
    """How to reach the Kubernetes API. Inside a cluster nothing needs to be set."""

    kubeconfig: Path | None = Field(
        None, description="kubeconfig file; default: the pod's service account, else the usual kubeconfig"
    )
    context: str | None = Field(None, description="context of the kubeconfig; default: its current one")
    request_timeout_seconds: Seconds = Field(10, description="timeout of a request to the Kubernetes API")
    field_manager: str = Field(
        "tidegate", min_length=1, max_length=128, description="field manager of server-side apply"
    )


class Watcher(Group):
    """`tidegate watch`: ready replicas and gateways, into `kubernetes.replicas` and `kubernetes.gateways`."""

    source: Literal["kubernetes", "prometheus", "envoy"] = Field(
        "kubernetes",
        description="where readiness is observed: EndpointSlices, kube-state-metrics, or Envoy's health checks",
    )
    namespace_selector: str = Field("", description="label selector of the namespaces; empty: all")
    service_selector: str = Field("", description="label selector of the EndpointSlices; empty: all")
    refresh_seconds: Seconds = Field(30, description="every task's row is published at least this often")
    max_backoff_seconds: Seconds = Field(30, description="longest delay between attempts to reach the source")
    consumer_group: str = Field(
        "tidegate-watcher", min_length=1, description="source prometheus: Kafka consumer group"
    )
    envoy_admins: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="source envoy: host:port of each Envoy's admin interface, by gateway",
    )
    envoy_poll_seconds: Seconds = Field(
        0.25, description="source envoy: interval between two looks at its health checks"
    )


class ReplicaChanges(Group):
    """The job replica-changes: de-jitter."""

    down_window_seconds: Seconds = Field(
        2, description="a lower count of ready replicas settles when it has held for so long"
    )
    up_window_seconds: Seconds = Field(
        10, description="a higher count of ready replicas settles when it has held for so long"
    )
    stale_seconds: Seconds = Field(
        90, description="after a gap of so long in a task's observations, its next count settles at once"
    )
    consumer_group: str = Field(
        "tidegate-replica-changes", min_length=1, description="Kafka consumer group of the job"
    )


class Catalog(Group):
    """The task catalog: a YAML file, or else the topic `tidegate.tasks`."""

    file: Path | None = Field(None, description="YAML file of the catalog; default: the topic tidegate.tasks")
    poll_seconds: Seconds = Field(1, description="interval at which the file is checked for changes")


class Limits(Group):
    """`tidegate limit`: the rate-limit controller."""

    target: Literal["envoy-file", "kubernetes", "http"] = Field(
        "kubernetes",
        description="where limits are enforced: Envoy's route file, an EnvoyFilter for each gateway, or the manager",
    )
    max_raise: float = Field(2, gt=1, le=100, description="largest factor by which one step raises a limit")
    raise_every_seconds: Seconds = Field(
        10, description="shortest interval between two raises of a task's limit"
    )
    raises_together_seconds: Seconds = Field(
        5,
        description="shortest interval between raises at a gateway: each change of its routes refills all buckets",
    )
    deadband: float = Field(
        0.05, ge=0, lt=1, description="a raise by a smaller share of the limit is not pushed"
    )
    silent_seconds: Seconds = Field(
        90, description="a source without a row for so long is silent: limits hold"
    )
    alarm_every_seconds: Seconds = Field(300, description="interval at which a held limit is reported again")
    reconcile_seconds: Seconds = Field(
        10, description="interval at which limits in force are read back and compared"
    )
    max_backoff_seconds: Seconds = Field(30, description="longest delay between attempts to reach the target")
    consumer_group: str = Field(
        "tidegate-limit",
        min_length=1,
        description="Kafka consumer group; its one active member is the leader",
    )
    grpc_resource_exhausted: bool = Field(
        True,
        description="limited gRPC calls get RESOURCE_EXHAUSTED (8), else Envoy's UNAVAILABLE (14), which clients retry",
    )
    answer_status: Literal[403, 429, 503] = Field(
        429, description="HTTP status of limited requests; gRPC calls get theirs by grpc_resource_exhausted"
    )
    answer_body: str = Field(
        "",
        max_length=4096,
        description="body of limited requests; empty: Envoy's own. Target kubernetes, and the manager",
    )
    answer_x_ratelimit_headers: bool = Field(
        False,
        description="whether responses of limited routes have the headers x-ratelimit-limit, -remaining and -reset",
    )
    envoy_files: dict[str, Path] = Field(
        default_factory=dict, description="target envoy-file: route (RDS) file by gateway"
    )
    envoy_admins: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="target envoy-file: host:port of the Envoys' admin interfaces by gateway, to read limits back",
    )
    manager_url: str = Field(
        "http://127.0.0.1:8090",
        pattern=r"^https?://[^\s]+$",
        description="target http: address of the manager",
    )
    manager_token: SecretStr | None = Field(
        None,
        description="target http: bearer token; from the environment or manager_token_file only",
    )
    manager_token_file: Path | None = Field(None, description="target http: file that holds the bearer token")

    def token(self) -> str | None:
        """The manager's bearer token."""
        if self.manager_token is not None:
            return self.manager_token.get_secret_value()
        return self.manager_token_file.read_text().strip() if self.manager_token_file else None

    @model_validator(mode="after")
    def _files_for_the_file_target(self) -> Limits:
        if self.target == "envoy-file" and not self.envoy_files:
            raise ValueError("target envoy-file needs envoy_files: the route file of each gateway")
        if self.target == "envoy-file" and self.answer_body:
            raise ValueError(
                "answer_body needs the target kubernetes or the manager: a route file can't hold a body; set it in the "
                "listener's local_reply_config, docs/limits.md shows how"
            )
        return self


class Manager(Group):
    """`tidegate manager`: the HTTP service in front of Kubernetes and Istio."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port = Field(8090, description="port to listen on; 0: any free one")
    tokens_file: Path | None = Field(
        None, description="YAML file of accounts: a list of {name, token_sha256, roles: [read, limit, route]}"
    )
    domain: str = Field("cluster.local", min_length=1, description="the cluster's DNS domain")
