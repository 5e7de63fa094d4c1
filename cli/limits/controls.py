"""`tidegate limits pause`, `resume`, `override`: an operator's control of one task's limit, or of all limits."""

from __future__ import annotations

import getpass
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.ages import age
from tidegate.cli.app_context import DONE, Options
from tidegate.cli.failures import failures

if TYPE_CHECKING:
    from tidegate.jobs.logic.limits.envoy_limits import TaskKey
    from tidegate.schemas.catalog import Catalog
    from tidegate.schemas.rows.limits import LimitControl
    from tidegate.schemas.settings import Settings

LONGEST = timedelta(hours=24)
_ALL = "*"
_MOST_QPS = 1_000_000

_Task = Annotated[str | None, typer.Option("--task", help="the task to control")]
_Department = Annotated[
    str | None,
    typer.Option("--department", help="the task's department; needed if several departments have this task"),
]
_All = Annotated[bool, typer.Option("--all", help="all tasks")]
_Reason = Annotated[
    str, typer.Option("--reason", help="shown to everybody who asks for the limit's explanation")
]
_By = Annotated[str | None, typer.Option("--by", help="the operator's name; default: the system's user")]


def pause(
    context: typer.Context,
    reason: _Reason,
    task: _Task = None,
    department: _Department = None,
    every: _All = False,
    by: _By = None,
) -> int:
    """Pause a task's limit: the controller pushes no change until it is resumed.

    Ends an override of the same task.
    """
    request = _ControlRequest(context, task, department, every=every)
    before = request.before
    if before is not None and before.override_qps is not None:
        typer.echo(f"this ends the override of {before.override_qps:g} qps by {before.by}", err=True)
    request.publish(reason, by, paused=True)
    typer.echo(f"{request.subject} paused: the limit stays as it is")
    return DONE


def resume(
    context: typer.Context,
    reason: _Reason,
    task: _Task = None,
    department: _Department = None,
    every: _All = False,
    by: _By = None,
) -> int:
    """End a pause: the limit follows the ready replicas again, down at once and up in steps."""
    request = _ControlRequest(context, task, department, every=every)
    if request.before is None or not request.before.paused:
        typer.echo(f"{request.subject} not paused: nothing changes", err=True)
    else:
        request.publish(reason, by)
        typer.echo(f"{request.subject} resumed")
    request.warn_if_all_paused()
    return DONE


def override(
    context: typer.Context,
    task: _Task = None,
    department: _Department = None,
    qps: Annotated[float | None, typer.Option("--qps", help="the limit of all gateways together")] = None,
    lasts: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="how long it holds: 90s, 30m, 2h; at most 24h"),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="end the override now")] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", help="shown to everybody who asks for the limit's explanation")
    ] = None,
    by: _By = None,
) -> int:
    """Override a task's limit for a limited time, between the floor and ceiling of its catalog entry."""
    if clear:
        if qps is not None or lasts is not None:
            raise typer.BadParameter("--clear ends an override; leave out --qps and --for")
        return _clear(_ControlRequest(context, task, department, every=False), reason or "cleared", by)
    if qps is None or lasts is None or reason is None:
        missing = [
            name for name, value in (("--qps", qps), ("--for", lasts), ("--reason", reason)) if value is None
        ]
        raise typer.BadParameter(f"an override needs {', '.join(missing)}")
    if not (math.isfinite(qps) and 0 < qps <= _MOST_QPS):
        raise typer.BadParameter(f"--qps {qps:g}: give a positive number up to {_MOST_QPS:,}")
    length = _length(lasts)
    request = _ControlRequest(context, task, department, every=False)
    request.check_qps(qps)
    if request.before is not None and request.before.paused:
        raise typer.BadParameter(
            f"{request.subject} paused by {request.before.by} ({request.before.reason}), and an override would end "
            "the pause; run `tidegate limits resume` first"
        )
    control = request.publish(reason, by, override_qps=qps, lasts=length)
    typer.echo(f"{request.subject} held at {qps:g} qps until {control.expires_at:%Y-%m-%dT%H:%M:%SZ}")
    request.warn_if_all_paused()
    return DONE


def _clear(request: _ControlRequest, reason: str, by: str | None) -> int:
    if request.before is None or request.before.override_qps is None:
        typer.echo(f"{request.subject} not overridden: nothing changes", err=True)
        return DONE
    request.publish(reason, by)
    typer.echo(f"{request.subject} back at the computed limit")
    return DONE


class _ControlRequest:
    """A request to control the limit of one task or of all: knows the tasks, and the control in force."""

    def __init__(
        self, context: typer.Context, task: str | None, department: str | None, *, every: bool
    ) -> None:
        """Raises typer.BadParameter without a task or --all, and for a task that the catalog doesn't have."""
        from tidegate.adapters.catalog.source import known
        from tidegate.adapters.limiting.controls import newest

        if every and (task or department):
            raise typer.BadParameter("give --all, or --task with its --department, not both")
        if not every and not task:
            raise typer.BadParameter("no task is given; give --task with its --department")
        options: Options = context.obj
        self._settings: Settings = options.load()
        with failures(self._settings):
            catalog = None if every else known(self._settings)
            controls = newest(self._settings.kafka)
        self._catalog = catalog
        self._key = None if every or task is None else _known_key(catalog, department, task)
        self._of_all = controls.get(_ALL)
        self._id = _ALL if self._key is None else str(self._key)
        self.before = _still_holds(controls.get(self._id))
        self.subject = "all tasks are" if self._key is None else f"{self._key} is"

    def check_qps(self, qps: float) -> None:
        """Raises typer.BadParameter outside the task's floor and ceiling."""
        if self._catalog is None or self._key is None:
            return
        task = self._catalog.tasks[self._key]
        if qps < task.floor_qps or (task.ceiling_qps is not None and qps > task.ceiling_qps):
            ceiling = "none" if task.ceiling_qps is None else f"{task.ceiling_qps:g}"
            raise typer.BadParameter(
                f"--qps {qps:g} is out of range: in the catalog the floor of {self._key} is {task.floor_qps:g} qps, "
                f"its ceiling {ceiling}"
            )

    def publish(
        self,
        reason: str,
        by: str | None,
        *,
        paused: bool = False,
        override_qps: float | None = None,
        lasts: timedelta | None = None,
    ) -> LimitControl:
        """Publish the control; returns when Kafka has acknowledged it."""
        from tidegate.adapters.limiting.controls import publish
        from tidegate.schemas.rows.limits import LimitControl

        if not reason.strip():
            raise typer.BadParameter("--reason is empty; give a reason that other operators understand")
        now = datetime.now(UTC)
        control = LimitControl(
            id=self._id,
            department=self._key.department if self._key else None,
            task=self._key.task if self._key else None,
            paused=paused,
            override_qps=override_qps,
            expires_at=None if lasts is None else now + lasts,
            by=by or _user(),
            reason=reason,
            set_at=now,
        )
        with failures(self._settings):
            publish(self._settings.kafka, control)
        return control

    def warn_if_all_paused(self) -> None:
        """Warn that the control has no effect while all tasks are paused."""
        if self._key is not None and self._of_all is not None and self._of_all.paused:
            typer.echo(
                f"all tasks are paused by {self._of_all.by} ({self._of_all.reason}): the controller pushes nothing "
                "until that pause ends",
                err=True,
            )


def _known_key(catalog: Catalog | None, department: str | None, task: str) -> TaskKey:
    from pydantic import TypeAdapter, ValidationError

    from tidegate.jobs.logic.limits.envoy_limits import TaskKey
    from tidegate.schemas.catalog import Name

    if catalog is None:
        if department is None:
            raise typer.BadParameter("no task catalog is available; give --department too")
        try:
            TypeAdapter(tuple[Name, Name]).validate_python((department, task))
        except ValidationError as error:
            raise typer.BadParameter(f"{department}/{task} is not a valid task name") from error
        typer.echo(
            "no task catalog is available (catalog.file, or topic tidegate.tasks), so the task's name, floor and "
            "ceiling aren't checked",
            err=True,
        )
        return TaskKey(department, task)
    found = [
        TaskKey(*key) for key in sorted(catalog.tasks) if key[1] == task and department in (None, key[0])
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise typer.BadParameter(
            f"--task {task} is ambiguous: the catalog has {', '.join(map(str, found))}; give --department"
        )
    near = [f"{owner}/{name}" for owner, name in sorted(catalog.tasks) if department in (None, owner)]
    some = ", ".join(near[:10]) + (" ..." if len(near) > 10 else "")
    raise typer.BadParameter(
        f"--task {task} is not in the catalog, which has {some or 'no task of that department'}"
    )


def _still_holds(control: LimitControl | None) -> LimitControl | None:
    """The control, unless it is an override that has expired."""
    ended = control is not None and control.expires_at is not None and control.expires_at <= datetime.now(UTC)
    return None if control is not None and ended and not control.paused else control


def _length(text: str) -> timedelta:
    length = age("--for", text)
    if not timedelta(0) < length <= LONGEST:
        raise typer.BadParameter(
            f"--for {text} is out of range; an override holds for more than 0s and at most 24h"
        )
    return length


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise typer.BadParameter("the system has no name for its user; give --by") from error
