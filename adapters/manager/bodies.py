"""What the manager takes and gives: JSON bodies, in the OpenAPI page with their bounds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tidegate.jobs.logic.istio.limit_bodies import LimitAnswer, Revision
from tidegate.jobs.logic.istio.task_settings import (
    CircuitBreaker,
    Gateway,
    Retries,
    Route,
    Timeout,
    Versions,
)


class TimeoutBody(Timeout):
    """A timeout and its revision."""

    revision: Revision


class RetriesBody(Retries):
    """Retries and their revision."""

    revision: Revision


class CircuitBreakerBody(CircuitBreaker):
    """A circuit breaker and its revision."""

    revision: Revision


class VersionsBody(Versions):
    """The weights of all versions, and their revision."""

    revision: Revision


class RouteBody(Route):
    """A route and its revision."""

    revision: Revision


class GatewayBody(Gateway):
    """A gateway assignment and its revision."""

    revision: Revision


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class LimitsAnswer(_Answer):
    """All limits of a gateway that are in force."""

    gateway: str
    limits: list[LimitAnswer]


class LimitChanged(_Answer):
    """What came of a PUT. A dry run's `applied`: it would be."""

    outcome: Literal["applied", "unchanged"]
    dry_run: bool
    limit: LimitAnswer


class NotTakenAnswer(_Answer):
    """A limit that was refused. revision: what is held in its place."""

    department: str
    task: str
    reason: str
    revision: int | None


class LimitsChanged(_Answer):
    """What came of a PUT of several limits."""

    dry_run: bool
    applied: int
    unchanged: int
    refused: list[NotTakenAnswer]


class SettingAnswer(_Answer):
    """A setting: as it was set (null: never), and as Kubernetes has it (null: not, or not as a setting can be)."""

    revision: int | None
    was_set: dict[str, Any] | None
    in_force: dict[str, Any] | None
    drifted: bool = Field(description="somebody else has changed what was set; the next PUT puts it right")


class SettingChanged(_Answer):
    """What came of a PUT. A dry run's `applied`: it would be."""

    outcome: Literal["applied", "unchanged"]
    dry_run: bool
    revision: int
    before: dict[str, Any] | None
    after: dict[str, Any]


class FieldProblem(_Answer):
    """A field that is wrong."""

    field: str
    reason: str


class Problem(_Answer):
    """Why a request was not done."""

    reason: str
    revision: int | None = Field(None, description="what is in force, where that is newer")
    in_force: dict[str, Any] | None = None
    fields: list[FieldProblem] = []
