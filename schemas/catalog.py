"""The task catalog: what each task can take, who owns it, which gateway serves it. A YAML file that people edit.

    gateways:
      vision-gateway: {namespace: istio-ingress}
    defaults: {headroom: 0.9}
    departments:
      vision:
        gateway: vision-gateway
        defaults: {burst_seconds: 2}
        tasks:
          chat: {qps_per_replica: 12, owner: team-chat, slo: {p99_ms: 800, error_rate: 0.01}}

A setting that a task leaves out comes from its department's defaults, else from the catalog's. It is read
whole: all errors are reported at once, each with its place, and an invalid catalog changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tidegate.schemas import strict_yaml
from tidegate.schemas.autoscaling_policy import AutoscalingPolicy, merged_block, part_of_policy

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
Text = Annotated[str, Field(pattern=r"\S", max_length=256)]
Rate = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False, description="requests per second")]


class CatalogError(Exception):
    """The catalog can't be used. The message has a line for each thing that is wrong, with file and field."""


class _Entry(BaseModel):
    # Strict: YAML's `yes` is no rate of 1, and a rate in quotes is a mistake.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Slo(_Entry):
    """What the task's users were promised."""

    p99_ms: float | None = Field(None, gt=0, allow_inf_nan=False)
    error_rate: float | None = Field(None, gt=0, lt=1)


class ClientLimits(_Entry):
    """A bucket of its own for each caller (header `x-client-id`), so that one can't use up the task."""

    limit_qps: Rate | None = Field(
        None, description="of a client that isn't named; None: only the task's limit"
    )
    named: dict[Name, Rate] = Field(default_factory=dict, description="client to its own limit")


class TaskSettings(_Entry):
    """The settings of a task, or of its department or the catalog as defaults. None: not set here."""

    qps_per_replica: Rate | None = None
    headroom: float | None = Field(None, gt=0, le=2, description="part of the capacity that is let through")
    floor_qps: Rate | None = Field(None, description="the limit never falls below, even without a replica")
    ceiling_qps: Rate | None = Field(None, description="the limit never rises above")
    burst_seconds: float | None = Field(None, ge=0.1, le=60)
    owner: Text | None = None
    slo: Slo | None = None
    route: Text | None = Field(None, description="name of its route; else the task's name")
    gateway: Name | None = None
    clients: ClientLimits | None = None
    autoscaling: dict[str, Any] | None = Field(
        None, description="an AutoscalingPolicy, or a part of one: the rest is that of the defaults"
    )


class Gateway(_Entry):
    """A gateway: the pods of one workload, each an Envoy."""

    namespace: Name = "istio-ingress"
    labels: dict[str, str] = Field(default_factory=dict, description="of its pods; default: istio: NAME")


class Department(_Entry):
    """A department's tasks, and what they have in common."""

    gateway: Name | None = None
    defaults: TaskSettings = TaskSettings()
    tasks: dict[Name, TaskSettings] = Field(default_factory=dict)


class CatalogFile(_Entry):
    """The file, as it is written."""

    gateways: dict[Name, Gateway] = Field(default_factory=dict)
    defaults: TaskSettings = TaskSettings()
    departments: dict[Name, Department] = Field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One task with everything that holds for it. Rates in requests per second."""

    department: str
    name: str
    gateway: str
    route: str
    qps_per_replica: float
    headroom: float
    floor_qps: float
    ceiling_qps: float | None
    burst_seconds: float
    owner: str | None
    slo: Slo
    clients: ClientLimits
    autoscaling: AutoscalingPolicy | None = None


@dataclass(frozen=True)
class Catalog:
    """A catalog without a mistake. tasks: by (department, task)."""

    tasks: Mapping[tuple[str, str], Task]
    gateways: Mapping[str, Gateway]


_LAST_DEFAULTS = TaskSettings(
    headroom=1.0, floor_qps=1.0, burst_seconds=1.0, slo=Slo(), clients=ClientLimits()
)


def load(path: Path) -> Catalog:
    """The catalog in a file. Raises CatalogError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path}: can't be read: {error}") from error
    return parse(text, str(path))


def parse(text: str, where: str) -> Catalog:
    """The catalog in a YAML text. where: what the messages call it. Raises CatalogError."""
    try:
        written = strict_yaml.parse(text)
    except strict_yaml.NotYaml as error:
        raise CatalogError(f"{where}: not YAML: {error}") from error
    try:
        file = CatalogFile.model_validate({} if written is None else written)
    except ValidationError as error:
        raise CatalogError("\n".join(f"{where}: {line}" for line in strict_yaml.explain(error))) from error
    tasks: dict[tuple[str, str], Task] = {}
    wrong = [f"{where}: {problem}" for problem in _wrong_defaults(file)]
    if wrong:
        raise CatalogError("\n".join(wrong))
    routes: dict[tuple[str, str], str] = {}
    for department, entry in file.departments.items():
        if entry.gateway is not None and entry.gateway not in file.gateways:
            wrong.append(
                f"{where}: departments.{department}.gateway: {_unknown(entry.gateway, file.gateways)}"
            )
        for name, settings in entry.tasks.items():
            whole = _merged(settings, entry.defaults, file.defaults, _LAST_DEFAULTS)
            gateway = settings.gateway or entry.gateway or whole.gateway
            place = f"departments.{department}.tasks.{name}"
            policy, policy_problems = _policy(
                settings.autoscaling, entry.defaults.autoscaling, file.defaults.autoscaling
            )
            problems = [*_problems(whole, gateway, file.gateways), *policy_problems]
            route = (gateway or "", whole.route or name)
            if (other := routes.setdefault(route, place)) != place:
                problems.append(
                    f"route: {route[1]!r} of gateway {route[0]!r} is the route of {other} already"
                )
            wrong += [f"{where}: {place}.{problem}" for problem in problems]
            if not problems:
                tasks[department, name] = _task(department, name, gateway or "", whole, policy)
    if wrong:
        raise CatalogError("\n".join(wrong))
    return Catalog(tasks, file.gateways)


def _merged(*settings: TaskSettings) -> TaskSettings:
    """Each field from the first of these that sets it."""
    chosen: dict[str, Any] = {}
    for one in reversed(settings):
        chosen |= {name: value for name in one.model_fields_set if (value := getattr(one, name)) is not None}
    return TaskSettings.model_construct(**chosen)


def _wrong_defaults(file: CatalogFile) -> Iterator[str]:
    """What is wrong with the autoscaling of defaults, whether or not a task has them."""
    places = {"defaults": file.defaults}
    places |= {f"departments.{name}.defaults": entry.defaults for name, entry in file.departments.items()}
    for place, settings in places.items():
        if settings.autoscaling is None:
            continue
        try:
            part_of_policy(settings.autoscaling)
        except ValidationError as error:
            yield from (f"{place}.autoscaling.{line}" for line in strict_yaml.explain(error))


def _policy(*blocks: dict[str, Any] | None) -> tuple[AutoscalingPolicy | None, list[str]]:
    """The policy of these blocks, the task's own first, and what is wrong with it."""
    block = merged_block(*blocks)
    if block is None:
        return None, []
    try:
        return AutoscalingPolicy.model_validate(block), []
    except ValidationError as error:
        return None, [f"autoscaling.{line}" for line in strict_yaml.explain(error)]


def _problems(whole: TaskSettings, gateway: str | None, gateways: Mapping[str, Gateway]) -> Iterator[str]:
    if whole.qps_per_replica is None:
        yield "qps_per_replica: missing; set it here or in the defaults"
    if gateway is None:
        yield "gateway: missing; set it here or at the department"
    elif gateway not in gateways:
        yield f"gateway: {_unknown(gateway, gateways)}"
    if whole.ceiling_qps is not None and whole.floor_qps is not None and whole.ceiling_qps < whole.floor_qps:
        yield f"ceiling_qps: {whole.ceiling_qps:g} is below floor_qps, {whole.floor_qps:g}"


def _unknown(gateway: str, gateways: Mapping[str, Gateway]) -> str:
    return f"{gateway!r} is not one of gateways ({', '.join(sorted(gateways)) or 'there are none'})"


def _task(
    department: str, name: str, gateway: str, whole: TaskSettings, policy: AutoscalingPolicy | None
) -> Task:
    chosen = {field: getattr(whole, field) for field in TaskSettings.model_fields}
    return Task(
        **chosen
        | {
            "department": department,
            "name": name,
            "gateway": gateway,
            "route": whole.route or name,
            "autoscaling": policy,
        }
    )
