"""`tidegate limits pause`, `resume`, `override`: an operator's word about one task's limit, or about all."""

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

_Task = Annotated[str | None, typer.Option("--task", help="of which the word is")]
_Department = Annotated[
    str | None, typer.Option("--department", help="its department; needed where several have such a task")
]
_All = Annotated[bool, typer.Option("--all", help="of all tasks")]
_Reason = Annotated[str, typer.Option("--reason", help="for those who ask why the limit is what it is")]
_By = Annotated[str | None, typer.Option("--by", help="who says so; default: this system's user")]


def pause(
    context: typer.Context,
    reason: _Reason,
    task: _Task = None,
    department: _Department = None,
    every: _All = False,
    by: _By = None,
) -> int:
    """Let the limits be as they are until they are resumed: the controller pushes nothing.

    Takes the place of an override.
    """
    desk = _Desk(context, task, department, every=every)
    before = desk.before
    if before is not None and before.override_qps is not None:
        typer.echo(f"the override of {before.override_qps:g} qps by {before.by} ends with it", err=True)
    desk.say(reason, by, paused=True)
    typer.echo(f"{desk.whom} paused: the limit stays as it is")
    return DONE


def resume(
    context: typer.Context,
    reason: _Reason,
    task: _Task = None,
    department: _Department = None,
    every: _All = False,
    by: _By = None,
) -> int:
    """End a pause: the limit follows the replicas again, a cut at once and a raise in steps."""
    desk = _Desk(context, task, department, every=every)
    if desk.before is None or not desk.before.paused:
        typer.echo(f"{desk.whom} not paused: nothing is changed", err=True)
    else:
        desk.say(reason, by)
        typer.echo(f"{desk.whom} resumed")
    desk.warn_of_all()
    return DONE


def override(
    context: typer.Context,
    task: _Task = None,
    department: _Department = None,
    qps: Annotated[float | None, typer.Option("--qps", help="of all gateways together")] = None,
    lasts: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="after which it ends: 90s, 30m, 2h; at most 24h"),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="end it now")] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", help="for those who ask why the limit is what it is")
    ] = None,
    by: _By = None,
) -> int:
    """Set a task's limit by hand for a while, between floor and ceiling of its catalog entry."""
    if clear:
        if qps is not None or lasts is not None:
            raise typer.BadParameter("--clear ends an override: without --qps and --for")
        return _clear(_Desk(context, task, department, every=False), reason or "cleared", by)
    if qps is None or lasts is None or reason is None:
        missing = [
            name for name, value in (("--qps", qps), ("--for", lasts), ("--reason", reason)) if value is None
        ]
        raise typer.BadParameter(f"an override needs {', '.join(missing)}")
    if not (math.isfinite(qps) and 0 < qps <= _MOST_QPS):
        raise typer.BadParameter(f"--qps {qps:g}: give a positive number up to {_MOST_QPS:,}")
    length = _length(lasts)
    desk = _Desk(context, task, department, every=False)
    desk.check_qps(qps)
    if desk.before is not None and desk.before.paused:
        raise typer.BadParameter(
            f"{desk.whom} paused by {desk.before.by} ({desk.before.reason}): an override would end that; resume first"
        )
    control = desk.say(reason, by, override_qps=qps, lasts=length)
    typer.echo(f"{desk.whom} held at {qps:g} qps until {control.expires_at:%Y-%m-%dT%H:%M:%SZ}")
    desk.warn_of_all()
    return DONE


def _clear(desk: _Desk, reason: str, by: str | None) -> int:
    if desk.before is None or desk.before.override_qps is None:
        typer.echo(f"{desk.whom} without an override: nothing is changed", err=True)
        return DONE
    desk.say(reason, by)
    typer.echo(f"{desk.whom} back at the computed limit")
    return DONE


class _Desk:
    """Where an operator's word is taken: knows whom it is about, and what was said before."""

    def __init__(
        self, context: typer.Context, task: str | None, department: str | None, *, every: bool
    ) -> None:
        """Raises typer.BadParameter for nobody, and for a task that the catalog doesn't know."""
        from tidegate.adapters.catalog.source import known
        from tidegate.adapters.limiting.controls import newest

        if every and (task or department):
            raise typer.BadParameter("give --all, or --task with its --department, not both")
        if not every and not task:
            raise typer.BadParameter("whom is it about? Give --task with its --department")
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
        self.whom = "all tasks are" if self._key is None else f"{self._key} is"

    def check_qps(self, qps: float) -> None:
        """Raises typer.BadParameter outside the task's floor and ceiling."""
        if self._catalog is None or self._key is None:
            return
        task = self._catalog.tasks[self._key]
        if qps < task.floor_qps or (task.ceiling_qps is not None and qps > task.ceiling_qps):
            ceiling = "none" if task.ceiling_qps is None else f"{task.ceiling_qps:g}"
            raise typer.BadParameter(
                f"--qps {qps:g}: the catalog's floor of {self._key} is {task.floor_qps:g}, its ceiling {ceiling}"
            )

    def say(
        self,
        reason: str,
        by: str | None,
        *,
        paused: bool = False,
        override_qps: float | None = None,
        lasts: timedelta | None = None,
    ) -> LimitControl:
        """Write the word; returns when Kafka has it."""
        from tidegate.adapters.limiting.controls import publish
        from tidegate.schemas.rows.limits import LimitControl

        if not reason.strip():
            raise typer.BadParameter("--reason: say why, others will ask")
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

    def warn_of_all(self) -> None:
        """Say so where this word has no effect since all tasks are paused."""
        if self._key is not None and self._of_all is not None and self._of_all.paused:
            typer.echo(
                f"all tasks are paused by {self._of_all.by} ({self._of_all.reason}): until that ends nothing is pushed",
                err=True,
            )


def _known_key(catalog: Catalog | None, department: str | None, task: str) -> TaskKey:
    from pydantic import TypeAdapter, ValidationError

    from tidegate.jobs.logic.limits.envoy_limits import TaskKey
    from tidegate.schemas.catalog import Name

    if catalog is None:
        if department is None:
            raise typer.BadParameter("no task catalog is known here: give --department too")
        try:
            TypeAdapter(tuple[Name, Name]).validate_python((department, task))
        except ValidationError as error:
            raise typer.BadParameter(f"{department}/{task} is no name of a task") from error
        typer.echo(
            "no task catalog is known here (catalog.file, or topic tidegate.tasks): whether there is such a task, "
            "and its floor and ceiling, aren't checked",
            err=True,
        )
        return TaskKey(department, task)
    found = [
        TaskKey(*key) for key in sorted(catalog.tasks) if key[1] == task and department in (None, key[0])
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise typer.BadParameter(f"--task {task}: there are {', '.join(map(str, found))}; give --department")
    near = [f"{whose}/{name}" for whose, name in sorted(catalog.tasks) if department in (None, whose)]
    some = ", ".join(near[:10]) + (" ..." if len(near) > 10 else "")
    raise typer.BadParameter(f"--task {task}: the catalog has {some or 'none of that department'}")


def _still_holds(control: LimitControl | None) -> LimitControl | None:
    """What was said, unless it was an override that has ended by itself."""
    ended = control is not None and control.expires_at is not None and control.expires_at <= datetime.now(UTC)
    return None if control is not None and ended and not control.paused else control


def _length(text: str) -> timedelta:
    length = age("--for", text)
    if not timedelta(0) < length <= LONGEST:
        raise typer.BadParameter(f"--for {text}: an override holds for at most 24h, and not for no time")
    return length


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise typer.BadParameter("who are you? This system has no name for its user: give --by") from error
