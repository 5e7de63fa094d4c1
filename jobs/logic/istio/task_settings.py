"""The settings of a task's traffic: timeout, retries, circuit breaker, versions, route, gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Label = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""A valid Kubernetes name of a namespace, a service, or a subset."""
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
    """A setting of a task."""

    # Strict, as in the catalog: "3" is not a number of attempts.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TimeoutSetting(Setting):
    """How long a request may take, retries included."""

    timeout_ms: Ms | None = Field(description="null: no timeout")


class RetriesSetting(Setting):
    """Retries after the first attempt. Without this setting, Istio's default applies: 2."""

    attempts: int = Field(ge=0, le=10, description="0: no retry")
    per_try_timeout_ms: Ms | None = Field(None, description="null: the timeout of the whole request")
    retry_on: tuple[RetryOn, ...] = Field(
        ("connect-failure", "refused-stream", "unavailable", "cancelled"), strict=False
    )

    @model_validator(mode="after")
    def _something_to_retry(self) -> RetriesSetting:
        if self.attempts and not self.retry_on:
            raise ValueError(
                "retry_on: empty, so no request would be retried; give a condition, or set attempts: 0"
            )
        return self


class OutlierDetection(Setting):
    """When a failing replica is ejected for a while."""

    consecutive_5xx_errors: int = Field(5, ge=0, le=10_000, description="0: these don't count")
    consecutive_gateway_errors: int = Field(0, ge=0, le=10_000, description="502, 503, 504; 0: don't count")
    interval_ms: Ms = Field(10_000, description="between two checks")
    base_ejection_ms: Ms = Field(
        30_000, description="the first ejection; each further one is longer by as much"
    )
    max_ejection_percent: int = Field(
        10, ge=0, le=100, description="of the replicas that may be ejected at once"
    )
    min_health_percent: int = Field(0, ge=0, le=100, description="below it no replica is ejected")

    @model_validator(mode="after")
    def _something_counts(self) -> OutlierDetection:
        if not (self.consecutive_5xx_errors or self.consecutive_gateway_errors):
            raise ValueError(
                "both consecutive_5xx_errors and consecutive_gateway_errors are 0, so no error counts; set one of them"
            )
        return self


class ConnectionPool(Setting):
    """The limits of connections and requests from a gateway to a task's replicas. null: Istio's default."""

    max_connections: int | None = Field(None, ge=1, le=2**31 - 1)
    connect_timeout_ms: Ms | None = None
    max_pending_requests: int | None = Field(None, ge=1, le=2**31 - 1)
    max_requests: int | None = Field(None, ge=1, le=2**31 - 1)
    max_requests_per_connection: int | None = Field(None, ge=1, le=2**29)
    idle_timeout_ms: Ms | None = None

    @model_validator(mode="after")
    def _something_is_set(self) -> ConnectionPool:
        # Kubernetes treats an empty object as absent, and rejects it.
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError("connection_pool: empty; set a field or leave it out")
        return self


class CircuitBreakerSetting(Setting):
    """Outlier detection and connection pool of a task's replicas. null: none."""

    outlier_detection: OutlierDetection | None = None
    connection_pool: ConnectionPool | None = None


class Version(Setting):
    """A version and its weight. labels: of its pods; by default `version: NAME`."""

    name: Label
    weight: int = Field(ge=0, le=100, description="percent")
    labels: dict[LabelName, LabelValue] = Field(default_factory=dict, max_length=16)

    @property
    def selected(self) -> dict[str, str]:
        """The labels that select its pods."""
        return self.labels or {"version": self.name}


class VersionsSetting(Setting):
    """The versions and their weights, for canary releases. Empty: no subsets."""

    versions: tuple[Version, ...] = Field(strict=False, max_length=32)

    @model_validator(mode="after")
    def _whole(self) -> VersionsSetting:
        names = [version.name for version in self.versions]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"versions: {', '.join(twice)} is given twice")
        total = sum(version.weight for version in self.versions)
        if self.versions and total != 100:
            raise ValueError(f"versions: the weights sum to {total} instead of 100")
        return self


class RouteSetting(Setting):
    """The requests that belong to the task, by their `taskid` header. null: the task's own name."""

    taskid: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,128}$")
    name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]{1,128}$", description="of the route, as in the catalog"
    )
    path_prefix: str | None = Field(None, pattern=r"^/\S{0,255}$", description="null: any path")
    port: int | None = Field(None, ge=1, le=65535, description="of the service; null: its only port")


class GatewaySetting(Setting):
    """The gateway that serves the task, and its host names."""

    gateway: str = Field(pattern=r"^[A-Za-z0-9._-]{1,128}$", description="its name in the catalog")
    hosts: tuple[HostName, ...] = Field(("*",), strict=False, max_length=64)
    namespace: Label | None = Field(None, description="of the Istio Gateway; null: as in the catalog")

    @model_validator(mode="after")
    def _some_host(self) -> GatewaySetting:
        if not self.hosts:
            raise ValueError('hosts: empty, so no request would reach the task; for all hosts give ["*"]')
        return self


ASPECTS: Mapping[str, type[Setting]] = {
    "timeout": TimeoutSetting,
    "retries": RetriesSetting,
    "circuit-breaker": CircuitBreakerSetting,
    "versions": VersionsSetting,
    "route": RouteSetting,
    "gateway": GatewaySetting,
}
"""The settings by their names in paths and annotations."""
OF_VIRTUAL_SERVICE = ("gateway", "retries", "route", "timeout", "versions")
OF_DESTINATION_RULE = ("circuit-breaker", "versions")


@dataclass(frozen=True)
class Held:
    """A setting and its revision."""

    revision: int
    setting: Setting
