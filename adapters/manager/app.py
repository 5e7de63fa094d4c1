"""`tidegate manager`: the HTTP service through which a task's objects in Kubernetes and Istio are changed.

GET returns what is in force. PUT sets it with a revision: a repeated one changes nothing, an older one is rejected.
"""
# No `from __future__ import annotations`: FastAPI couldn't resolve the types that are local to a function.

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from tidegate.adapters.kubernetes.envoy_filters import EnvoyFilters
from tidegate.adapters.kubernetes.errors import ApiFailed
from tidegate.adapters.kubernetes.objects import KubernetesObjects
from tidegate.adapters.manager.audit import Audit, AuditFailed
from tidegate.adapters.manager.bodies import (
    CircuitBreakerBody,
    GatewayBody,
    LimitChanged,
    LimitsAnswer,
    LimitsChanged,
    NotTakenAnswer,
    Problem,
    RetriesBody,
    RouteBody,
    SettingAnswer,
    SettingChanged,
    TimeoutBody,
    VersionsBody,
)
from tidegate.adapters.manager.requests import AuditedPart, Change, Gate, GuardedRoute, Refusal
from tidegate.adapters.manager.tasks import InForce, TaskObjects, place_of
from tidegate.adapters.manager.tokens import Tokens
from tidegate.jobs.logic.istio.limit_bodies import LimitAnswer, LimitBody, LimitsBody, Name, answer_of
from tidegate.jobs.logic.istio.rate_limits import GatewayPlace
from tidegate.jobs.logic.istio.task_settings import ASPECTS, GatewaySetting, Held, Label, Setting
from tidegate.jobs.logic.istio.traffic import TaskPlace
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.schemas.catalog import Gateway
from tidegate.schemas.settings import AccessLog

Aspect = Literal["timeout", "retries", "circuit-breaker", "versions", "route", "gateway"]
DryRun = Annotated[bool, Query(description="the API server validates the change and stores nothing")]
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "no token, or an unknown one"},
    403: {"model": Problem, "description": "the token does not have the role"},
    404: {"model": Problem, "description": "the gateway, limit or setting does not exist"},
    409: {"model": Problem, "description": "an older revision, or an object that isn't tidegate's"},
    422: {"model": Problem, "description": "the body is not valid, or Kubernetes rejects it"},
    429: {"model": Problem, "description": "the API server limits the rate of requests; see Retry-After"},
    502: {"model": Problem, "description": "the manager's account lacks a right"},
    503: {"model": Problem, "description": "the API server or the audit log doesn't answer"},
}


@dataclass(frozen=True)
class Parts:
    """The manager's dependencies. gateways: the current ones of the catalog."""

    tokens: Tokens
    audit: Audit
    objects: KubernetesObjects
    limits: EnvoyFilters
    gateways: Callable[[], Mapping[str, Gateway]]
    access_log: AccessLog
    domain: str
    now: Callable[[], datetime]


def create_app(parts: Parts) -> FastAPI:
    """The HTTP application."""
    app = FastAPI(
        title="tidegate manager",
        description=(__doc__ or "").partition("\n\n")[2],
        version="1",
        docs_url="/docs",
        redoc_url=None,
    )
    app.state.gate = Gate(parts.tokens, parts.audit, parts.now)
    app.include_router(_health(parts))
    app.include_router(_rate_limits(parts))
    app.include_router(_tasks(parts))
    return app


def _health(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="The process runs")
    async def healthz() -> dict[str, str]:  # not in a thread: all threads may be waiting for the API server
        return {"status": "ok"}

    @router.get("/readyz", summary="The API server and Kafka answer", responses={503: {"model": Problem}})
    def readyz() -> Response:
        try:
            parts.objects.check()
            parts.audit.check()
        except (ApiFailed, AuditFailed) as error:
            return JSONResponse({"reason": str(error)}, 503)
        return JSONResponse({"status": "ok"})

    return router


def _guarded(prefix: str, tag: str) -> APIRouter:
    return APIRouter(
        prefix=prefix,
        tags=[tag],
        route_class=GuardedRoute,
        responses=_PROBLEMS,
        dependencies=[Depends(HTTPBearer(auto_error=False, description="a token of the tokens file"))],
    )


def _rate_limits(parts: Parts) -> APIRouter:
    router = _guarded("/v1/gateways/{gateway}", "rate limits")

    def known(gateway: Annotated[Name, Path()]) -> GatewayPlace:
        gateways = parts.gateways()
        if gateway not in gateways:
            known_names = ", ".join(sorted(gateways)) or "none"
            raise HTTPException(404, f"gateway {gateway!r} is not in the task catalog ({known_names})")
        return GatewayPlace.of(gateway, gateways[gateway])

    KnownGateway = Annotated[GatewayPlace, Depends(known)]  # noqa: N806 (a type)

    @router.get("/rate-limits", summary="All limits of a gateway")
    def read_all(gateway: KnownGateway) -> LimitsAnswer:
        limits = parts.limits.read(gateway)
        return LimitsAnswer(
            gateway=gateway.gateway, limits=[answer_of(limits[key]) for key in sorted(limits)]
        )

    @router.put("/rate-limits", summary="Set the limits of several tasks; other limits stay unchanged")
    def put_all(
        gateway: KnownGateway, body: LimitsBody, request: Request, dry_run: DryRun = False
    ) -> LimitsChanged:
        limits = [one.limit(one.key) for one in body.limits]
        written = parts.limits.change(gateway, limits, dry_run=dry_run)
        change: Change = request.state.change
        for limit in limits:
            why = written.refused.get(limit.key)
            change.parts.append(
                AuditedPart(
                    department=limit.key.department,
                    task=limit.key.task,
                    revision=limit.revision,
                    outcome=_outcome(limit.key in written.changed)
                    if why is None
                    else ("refused" if why.revision is None else "conflict"),
                    reason="part of a batch" if why is None else why.reason,
                    before=_dumped(written.before.get(limit.key)),
                    after=_dumped(limit),
                )
            )
        refused = [
            NotTakenAnswer(department=key.department, task=key.task, reason=why.reason, revision=why.revision)
            for key, why in sorted(written.refused.items())
        ]
        applied = len(written.changed)
        change.outcome = _outcome(bool(applied))
        change.reason = f"{applied} of {len(limits)} limits changed, {len(refused)} refused"
        unchanged = len(limits) - applied - len(refused)
        return LimitsChanged(dry_run=dry_run, applied=applied, unchanged=unchanged, refused=refused)

    one = "/tasks/{department}/{task}/rate-limit"

    @router.get(one, summary="The limit of one task")
    def read_one(gateway: KnownGateway, department: Name, task: Name) -> LimitAnswer:
        limit = parts.limits.read(gateway).get(TaskKey(department, task))
        if limit is None:
            raise HTTPException(
                404, f"gateway {gateway.gateway} has no limit of {department}/{task} in force"
            )
        return answer_of(limit)

    @router.put(one, summary="Set the limit of one task")
    def put_one(
        gateway: KnownGateway,
        department: Name,
        task: Name,
        body: LimitBody,
        request: Request,
        dry_run: DryRun = False,
    ) -> LimitChanged:
        limit = body.limit(TaskKey(department, task))
        written = parts.limits.change(gateway, [limit], dry_run=dry_run)
        before = _dumped(written.before.get(limit.key))
        if why := written.refused.get(limit.key):
            raise Refusal(
                422 if why.revision is None else 409,
                Problem(reason=why.reason, revision=why.revision, in_force=before),
            )
        change: Change = request.state.change
        change.outcome, change.before, change.after = _outcome(bool(written.changed)), before, _dumped(limit)
        outcome = "applied" if written.changed else "unchanged"
        return LimitChanged(outcome=outcome, dry_run=dry_run, limit=answer_of(limit))

    return router


def _tasks(parts: Parts) -> APIRouter:
    router = _guarded("/v1/tasks/{department}/{task}", "tasks")
    tasks = TaskObjects(parts.objects)

    def placed(
        department: Name,
        task: Name,
        namespace: Annotated[
            Label | None, Query(description="of the task's service, if its department has several namespaces")
        ] = None,
    ) -> TaskPlace:
        return place_of(department, task, namespace, parts.access_log, parts.domain)

    Place = Annotated[TaskPlace, Depends(placed)]  # noqa: N806 (a type)

    def putting(
        place: Place, request: Request, dry_run: DryRun = False
    ) -> Callable[[Aspect, Setting], SettingChanged]:
        def put(aspect: Aspect, body: Setting) -> SettingChanged:
            fields = body.model_dump()
            revision = fields.pop("revision")
            setting = ASPECTS[aspect].model_validate(fields)
            if isinstance(setting, GatewaySetting):
                setting = _with_namespace(setting, parts.gateways())
            changed = tasks.put(place, aspect, setting, revision, dry_run=dry_run)
            change: Change = request.state.change
            change.outcome, change.before = changed.outcome, _held(changed.before)
            change.after = _held(changed.after)
            return SettingChanged(
                outcome=changed.outcome,
                dry_run=dry_run,
                revision=changed.after.revision,
                before=change.before,
                after=change.after or {},
            )

        return put

    Put = Annotated[Callable[[Aspect, Setting], SettingChanged], Depends(putting)]  # noqa: N806 (a type)

    @router.get("", summary="Every setting of a task")
    def read_all(place: Place) -> dict[Aspect, SettingAnswer]:
        return {aspect: _shown(one) for aspect, one in tasks.read(place).items()}  # type: ignore[misc]

    @router.get("/{aspect}", summary="One setting of a task")
    def read_one(place: Place, aspect: Aspect) -> SettingAnswer:
        return _shown(tasks.read(place)[aspect])

    @router.put("/timeout", summary="How long a request may take")
    def put_timeout(body: TimeoutBody, put: Put) -> SettingChanged:
        return put("timeout", body)

    @router.put("/retries", summary="Retries after the first attempt")
    def put_retries(body: RetriesBody, put: Put) -> SettingChanged:
        return put("retries", body)

    @router.put("/circuit-breaker", summary="Outlier detection and connection pool")
    def put_circuit_breaker(body: CircuitBreakerBody, put: Put) -> SettingChanged:
        return put("circuit-breaker", body)

    @router.put("/versions", summary="Weights of the versions (canary release)")
    def put_versions(body: VersionsBody, put: Put) -> SettingChanged:
        return put("versions", body)

    @router.put("/route", summary="Which requests belong to the task")
    def put_route(body: RouteBody, put: Put) -> SettingChanged:
        return put("route", body)

    @router.put("/gateway", summary="Which gateway serves the task; set it first")
    def put_gateway(body: GatewayBody, put: Put) -> SettingChanged:
        return put("gateway", body)

    return router


def _with_namespace(setting: GatewaySetting, gateways: Mapping[str, Gateway]) -> GatewaySetting:
    if setting.gateway not in gateways:
        known_names = ", ".join(sorted(gateways)) or "none"
        raise HTTPException(404, f"gateway {setting.gateway!r} is not in the task catalog ({known_names})")
    namespace = setting.namespace or gateways[setting.gateway].namespace
    return setting.model_copy(update={"namespace": namespace})


def _outcome(changed: bool) -> Literal["applied", "unchanged"]:
    return "applied" if changed else "unchanged"


def _dumped(limit: Limit | None) -> dict[str, Any] | None:
    return None if limit is None else answer_of(limit).model_dump(mode="json")


def _held(held: Held | None) -> dict[str, Any] | None:
    return None if held is None else {"revision": held.revision, **held.setting.model_dump(mode="json")}


def _shown(one: InForce) -> SettingAnswer:
    def dumped(setting: BaseModel | None) -> dict[str, Any] | None:
        return None if setting is None else setting.model_dump(mode="json")

    return SettingAnswer(
        revision=one.revision, was_set=dumped(one.was_set), in_force=dumped(one.in_force), drifted=one.drifted
    )
