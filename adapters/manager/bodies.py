"""The manager's JSON bodies, which the OpenAPI page shows with their bounds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tidegate.jobs.logic.istio.limit_bodies import LimitAnswer, Revision
from tidegate.jobs.logic.istio.task_settings import (
    CircuitBreakerSetting,
    GatewaySetting,
    RetriesSetting,
    RouteSetting,
    TimeoutSetting,
    VersionsSetting,
)


class TimeoutBody(TimeoutSetting):
    """A timeout and its revision."""

    revision: Revision


class RetriesBody(RetriesSetting):
    """Retries and their revision."""

    revision: Revision


class CircuitBreakerBody(CircuitBreakerSetting):
    """A circuit breaker and its revision."""

    revision: Revision


class VersionsBody(VersionsSetting):
    """The weights of all versions, and their revision."""

    revision: Revision


class RouteBody(RouteSetting):
    """A route and its revision."""

    revision: Revision


class GatewayBody(GatewaySetting):
    """A gateway assignment and its revision."""

    revision: Revision


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class LimitsAnswer(_Answer):
    """All limits of a gateway that are in force."""

    gateway: str
    limits: list[LimitAnswer]


class LimitChanged(_Answer):
    """The outcome of a PUT. In a dry run, `applied` means that it would be applied."""

    outcome: Literal["applied", "unchanged"]
    dry_run: bool
    limit: LimitAnswer


class NotTakenAnswer(_Answer):
    """A limit that was rejected. revision: that of the limit in force."""

    department: str
    task: str
    reason: str
    revision: int | None


class LimitsChanged(_Answer):
    """The outcome of a PUT of several limits."""

    dry_run: bool
    applied: int
    unchanged: int
    refused: list[NotTakenAnswer]


class SettingAnswer(_Answer):
    """A setting: as it was set (null: never), and as Kubernetes has it (null: absent, or no possible setting)."""

    revision: int | None
    was_set: dict[str, Any] | None
    in_force: dict[str, Any] | None
    drifted: bool = Field(
        description="the setting was changed outside of the manager; the next PUT restores it"
    )


class SettingChanged(_Answer):
    """The outcome of a PUT. In a dry run, `applied` means that it would be applied."""

    outcome: Literal["applied", "unchanged"]
    dry_run: bool
    revision: int
    before: dict[str, Any] | None
    after: dict[str, Any]


class FieldProblem(_Answer):
    """A field that is not valid."""

    field: str
    reason: str


class Problem(_Answer):
    """Why a request was rejected or failed."""

    reason: str
    revision: int | None = Field(None, description="the revision in force, if it is newer")
    in_force: dict[str, Any] | None = None
    fields: list[FieldProblem] = []
