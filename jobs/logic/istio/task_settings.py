"""What can be set of a task's traffic: timeout, retries, circuit breaker, versions, route, gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Label = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""A name as Kubernetes takes it for a namespace, a service, or a subset of one."""
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)$")]
LabelName = Annotated[
    str,
    Field(pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"),
]
HostName = Annotated[str, Field(pattern=r"^(\*|(\*\.)?[a-z0-9]([-a-z0-9.]{0,250}[a-z0-9])?)$")]
Ms = Annotated[int, Field(ge=1, le=86_400_000)]
RetryOn = Literal[
    "5xx", "gateway-error", "reset", "connect-failure", "retriable-4xx", "refused-stream",
    "retriable-status-codes", "envoy-ratelimited", "unavailable", "cancelled", "deadline-exceeded",
    "internal", "resource-exhausted",
]  # fmt: skip


class Setting(BaseModel):
    """One thing that can be set of a task."""

    # Strict, as the catalog: "3" is no number of attempts.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TimeoutSetting(Setting):
    """How long a request may take, retries included."""

    timeout_ms: Ms | None = Field(description="null: as long as it wants")


class RetriesSetting(Setting):
    """Tries after the first one. Without this setting, Istio's own default holds: 2."""

    attempts: int = Field(ge=0, le=10, description="0: no retry")
    per_try_timeout_ms: Ms | None = Field(None, description="null: the timeout of the whole")
    retry_on: tuple[RetryOn, ...] = Field(
        ("connect-failure", "refused-stream", "unavailable", "cancelled"), strict=False
    )

    @model_validator(mode="after")
    def _something_to_retry(self) -> RetriesSetting:
        if self.attempts and not self.retry_on:
            raise ValueError(
                "retry_on: empty, so nothing would be retried; name a reason, or set attempts: 0"
            )
        return self


class OutlierDetection(Setting):
    """When a replica that fails gets no requests for a while."""

    consecutive_5xx_errors: int = Field(5, ge=0, le=10_000, description="0: these don't count")
    consecutive_gateway_errors: int = Field(0, ge=0, le=10_000, description="502, 503, 504; 0: don't count")
    interval_ms: Ms = Field(10_000, description="between two looks")
    base_ejection_ms: Ms = Field(30_000, description="the first pause; each further one is as much longer")
    max_ejection_percent: int = Field(10, ge=0, le=100, description="of the replicas that may pause at once")
    min_health_percent: int = Field(0, ge=0, le=100, description="below it nobody pauses")

    @model_validator(mode="after")
    def _something_counts(self) -> OutlierDetection:
        if not (self.consecutive_5xx_errors or self.consecutive_gateway_errors):
            raise ValueError(
                "both consecutive_5xx_errors and consecutive_gateway_errors are 0: nothing counts"
            )
        return self


class ConnectionPool(Setting):
    """How much a gateway asks of a task's replicas at once. null: Istio's default."""

    max_connections: int | None = Field(None, ge=1, le=2**31 - 1)
    connect_timeout_ms: Ms | None = None
    max_pending_requests: int | None = Field(None, ge=1, le=2**31 - 1)
    max_requests: int | None = Field(None, ge=1, le=2**31 - 1)
    max_requests_per_connection: int | None = Field(None, ge=1, le=2**29)
    idle_timeout_ms: Ms | None = None

    @model_validator(mode="after")
    def _something_is_set(self) -> ConnectionPool:
        # Kubernetes would take an empty object for none at all, and refuse it.
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError("connection_pool: it sets nothing; leave it out")
        return self


class CircuitBreakerSetting(Setting):
    """Both guards of a task's replicas. null: none."""

    outlier_detection: OutlierDetection | None = None
    connection_pool: ConnectionPool | None = None


class Version(Setting):
    """One version, and its part of the requests. labels: of its pods; without any `version: NAME`."""

    name: Label
    weight: int = Field(ge=0, le=100, description="percent")
    labels: dict[LabelName, LabelValue] = Field(default_factory=dict, max_length=16)

    @property
    def selected(self) -> dict[str, str]:
        """The labels of its pods."""
        return self.labels or {"version": self.name}


class VersionsSetting(Setting):
    """Gray release: the versions and their weights. Empty: all replicas alike."""

    versions: tuple[Version, ...] = Field(strict=False, max_length=32)

    @model_validator(mode="after")
    def _whole(self) -> VersionsSetting:
        names = [version.name for version in self.versions]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"versions: {', '.join(twice)} stands twice")
        total = sum(version.weight for version in self.versions)
        if self.versions and total != 100:
            raise ValueError(f"versions: the weights sum to {total}, and must sum to 100")
        return self


class RouteSetting(Setting):
    """Which requests are the task's: those with its `taskid` header. null: the task's own name."""

    taskid: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,128}$")
    name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]{1,128}$", description="of the route, as in the catalog"
    )
    path_prefix: str | None = Field(None, pattern=r"^/\S{0,255}$", description="null: any path")
    port: int | None = Field(None, ge=1, le=65535, description="of the service; null: its only one")


class GatewaySetting(Setting):
    """Which gateway serves the task, and under which host names."""

    gateway: str = Field(pattern=r"^[A-Za-z0-9._-]{1,128}$", description="as the catalog calls it")
    hosts: tuple[HostName, ...] = Field(("*",), strict=False, max_length=64)
    namespace: Label | None = Field(None, description="of the Istio Gateway; null: as in the catalog")

    @model_validator(mode="after")
    def _some_host(self) -> GatewaySetting:
        if not self.hosts:
            raise ValueError('hosts: empty, so no request would be the task\'s; for all hosts give ["*"]')
        return self


ASPECTS: Mapping[str, type[Setting]] = {
    "timeout": TimeoutSetting,
    "retries": RetriesSetting,
    "circuit-breaker": CircuitBreakerSetting,
    "versions": VersionsSetting,
    "route": RouteSetting,
    "gateway": GatewaySetting,
}
"""What can be set, as it is named in addresses and annotations."""
OF_VIRTUAL_SERVICE = ("gateway", "retries", "route", "timeout", "versions")
OF_DESTINATION_RULE = ("circuit-breaker", "versions")


@dataclass(frozen=True)
class Held:
    """A setting, and the revision that set it."""

    revision: int
    setting: Setting
