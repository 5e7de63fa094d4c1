"""What every request to the manager goes through: authentication, authorization, the audit, and errors as answers.

A PUT is recorded in the audit before it is handled, and again with its outcome.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from tidegate.adapters.kubernetes.errors import ApiFailed, Failure
from tidegate.adapters.manager.audit import Audit, AuditFailed
from tidegate.adapters.manager.bodies import FieldProblem, Problem
from tidegate.adapters.manager.tasks import Outdated
from tidegate.adapters.manager.tokens import Caller, Role, Tokens
from tidegate.jobs.logic.istio.traffic import IncompatibleSettings
from tidegate.schemas.rows.limits import ChangeRow

log = logging.getLogger(__name__)

Outcome = Literal["applied", "unchanged", "refused", "conflict", "failed"]
MOST_BODY_BYTES = 4_194_304
_NOBODY = "(nobody)"
BEGUN = "begun; a later row with this id holds the outcome"
_STATUS_OF: Mapping[Failure, int] = {
    "conflict": 409,
    "forbidden": 502,
    "busy": 429,
    "refused": 422,
    "not-ours": 409,
    "unavailable": 503,
}


@dataclass(frozen=True)
class AuditedPart:
    """The outcome of one task's part of a change, for the audit."""

    department: str
    task: str
    revision: int
    outcome: Outcome
    reason: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass
class Change:
    """The outcome of a PUT, which its handler fills in."""

    dry_run: bool
    outcome: Outcome = "failed"
    reason: str = ""
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    parts: list[AuditedPart] = field(default_factory=list)


@dataclass(frozen=True)
class Gate:
    """Who may send requests, and where they are audited."""

    tokens: Tokens
    audit: Audit
    now: Callable[[], datetime]


class Refusal(Exception):
    """A request that is rejected or failed: its status and the reason."""

    def __init__(self, status: int, problem: Problem, retry_after_seconds: float | None = None) -> None:
        super().__init__(problem.reason)
        self.status = status
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds

    @property
    def outcome(self) -> Outcome:
        """The outcome as the audit names it."""
        if self.status == 409:
            return "conflict"
        return "failed" if self.status >= 500 or self.status == 429 else "refused"

    def answer(self) -> Response:
        """The HTTP answer."""
        headers = {}
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after_seconds)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.problem.model_dump(mode="json"), self.status, headers)


class GuardedRoute(APIRoute):
    """A route behind the gate: `app.state.gate`. GET needs the role read; PUT the role of its path."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler, behind the gate."""
        handler = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            gate: Gate = request.app.state.gate
            try:
                if request.method == "GET":
                    _may(await _caller(gate, request), "read")
                    return await _handled(handler, request)
                return await _changed(gate, handler, request)
            except Refusal as refusal:
                return refusal.answer()

        return guarded


async def _changed(
    gate: Gate, handler: Callable[[Request], Coroutine[Any, Any, Response]], request: Request
) -> Response:
    role: Role = "limit" if request.url.path.endswith(("/rate-limit", "/rate-limits")) else "route"
    change = Change(dry_run=_is_dry_run(request))
    request.state.change = change
    base = ChangeRow(
        id=uuid.uuid4().hex,
        at=gate.now(),
        actor=_NOBODY,
        role=role,
        action=f"{request.method} {request.url.path}",
        department=request.path_params.get("department"),
        task=request.path_params.get("task"),
        gateway=request.path_params.get("gateway"),
        revision=None,
        dry_run=change.dry_run,
        outcome="begun",
        reason=BEGUN,
        before=None,
        after=None,
    )
    try:
        caller = await _caller(gate, request)
    except Refusal as refusal:
        # Without a token no request makes the manager wait for Kafka.
        gate.audit.enqueue(base.model_copy(update={"outcome": "refused", "reason": str(refusal)}))
        raise
    base = base.model_copy(update={"actor": caller.name})
    answer: Response | None = None
    refused: Refusal | None = None
    try:
        _may(caller, role)
        body = await _body(request)
        base = base.model_copy(update={"after": body, "revision": _revision(body)})
        if not change.dry_run:
            await _audited(gate, [base], "nothing was changed")
        answer = await _handled(handler, request)
    except Refusal as refusal:
        refused = refusal
    rows = [
        _row(base, change, refused, gate.now()),
        *(_part_row(base, part, gate.now()) for part in change.parts),
    ]
    if refused is not None and isinstance(refused.__cause__, AuditFailed):
        for row in rows:
            gate.audit.enqueue(row)
    else:
        changed = "it was changed" if refused is None and not change.dry_run else "nothing was changed"
        outcome = change.outcome if refused is None else str(refused)
        await _audited(gate, rows, f"{changed} ({outcome})")
    if answer is not None:
        return answer
    raise refused or AssertionError("there is an answer or a refusal")


async def _handled(handler: Callable[[Request], Coroutine[Any, Any, Response]], request: Request) -> Response:
    try:
        return await handler(request)
    except Refusal:
        raise
    except Exception as error:
        refusal = refusal_of(error)
        if refusal.status == 500:
            log.exception("%s %s", request.method, request.url.path)
        raise refusal from error


def refusal_of(error: Exception) -> Refusal:
    """An error as the caller gets it."""
    if isinstance(error, RequestValidationError):
        fields = [
            FieldProblem(
                field=".".join(str(part) for part in item["loc"][1:]) or "the whole", reason=item["msg"]
            )
            for item in error.errors()
        ]
        reason = "; ".join(f"{one.field}: {one.reason}" for one in fields)
        return Refusal(422, Problem(reason=reason, fields=fields))
    if isinstance(error, Outdated):
        return Refusal(
            409,
            Problem(
                reason=str(error),
                revision=error.held.revision,
                in_force=error.held.setting.model_dump(mode="json"),
            ),
        )
    if isinstance(error, IncompatibleSettings):
        return Refusal(422, Problem(reason=str(error)))
    if isinstance(error, ApiFailed):
        return Refusal(_STATUS_OF[error.failure], Problem(reason=str(error)), error.retry_after_seconds)
    if isinstance(error, HTTPException):
        return Refusal(error.status_code, Problem(reason=str(error.detail)))
    return Refusal(500, Problem(reason=f"internal error of the manager: {type(error).__name__}; see its log"))


async def _caller(gate: Gate, request: Request) -> Caller:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    caller = (
        await run_in_threadpool(gate.tokens.caller_of, token.strip()) if scheme.lower() == "bearer" else None
    )
    if caller is None:
        raise Refusal(401, Problem(reason="no valid token; send the header `Authorization: Bearer TOKEN`"))
    return caller


def _may(caller: Caller, role: Role) -> None:
    if role not in caller.roles:
        raise Refusal(403, Problem(reason=f"{caller.name} needs the role {role} in manager.tokens_file"))


async def _body(request: Request) -> dict[str, Any] | None:
    """The body, for the audit; None if it is not a JSON object."""
    try:
        announced = int(request.headers.get("content-length", "-1"))
    except ValueError:
        announced = -1
    if not 0 <= announced <= MOST_BODY_BYTES:
        raise Refusal(
            413, Problem(reason=f"the body needs a Content-Length of at most {MOST_BODY_BYTES} bytes")
        )
    try:
        body = json.loads(await request.body(), parse_constant=_no_number)
        to_json(body)  # what no row can hold (half a surrogate pair, a thousand levels) is left out
    except (ValueError, RecursionError):
        return None
    # A batch has an audit row for each of its limits.
    return body if isinstance(body, dict) and "limits" not in body else None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")


def _revision(body: Mapping[str, Any] | None) -> int | None:
    revision = (body or {}).get("revision")
    return revision if type(revision) is int and abs(revision) <= 2**53 else None


def _is_dry_run(request: Request) -> bool:
    return request.query_params.get("dry_run", "").lower() in ("1", "true", "yes", "on", "t", "y")


async def _audited(gate: Gate, rows: list[ChangeRow], otherwise: str) -> None:
    try:
        await run_in_threadpool(gate.audit.write, rows)
    except AuditFailed as error:
        raise Refusal(503, Problem(reason=f"{otherwise}: {error}"), 5) from error


def _row(base: ChangeRow, change: Change, refused: Refusal | None, now: datetime) -> ChangeRow:
    if refused is not None:
        return base.model_copy(update={"at": now, "outcome": refused.outcome, "reason": str(refused)})
    after = base.after if change.after is None else change.after
    return base.model_copy(
        update={
            "at": now,
            "outcome": change.outcome,
            "reason": change.reason or change.outcome,
            "before": change.before,
            "after": after,
        }
    )


def _part_row(base: ChangeRow, part: AuditedPart, now: datetime) -> ChangeRow:
    return base.model_copy(
        update={
            "id": f"{base.id}|{part.department}/{part.task}",
            "at": now,
            "department": part.department,
            "task": part.task,
            "revision": part.revision,
            "outcome": part.outcome,
            "reason": part.reason,
            "before": part.before,
            "after": part.after,
        }
    )
