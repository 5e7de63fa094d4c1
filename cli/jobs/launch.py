"""`tidegate run JOB` in this process, and `tidegate submit JOB` on a cluster: the same job, wired the same way."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidegate.adapters.heartbeat import Heartbeat
from tidegate.cli.app_context import CommandFailed, Options
from tidegate.jobs import specs
from tidegate.jobs.specs import JOBS, JobSpec
from tidegate.schemas.rows.service_metrics import OVERFLOW
from tidegate.schemas.settings import Settings, SettingsError

if TYPE_CHECKING:
    from tidegate.adapters.queries.line_counts import FoldedNames
    from tidegate.jobs.environment import Where

Job = Annotated[str, typer.Argument(metavar="JOB", help=f"one of: {', '.join(JOBS)}")]


def run(
    context: typer.Context,
    job: Job,
    bounded: Annotated[
        bool, typer.Option("--bounded", help="read what is in the topics now, close every window, end")
    ] = False,
) -> None:
    """Run a job in this process, on Flink's local cluster, until Ctrl-C or, bounded, until it has read all."""
    spec, settings = _prepare(context, job)
    from tidegate.jobs.environment import Where

    with _folded_names(settings, follow=spec is specs.SERVICE_METRICS and not bounded) as shown:
        result = _start(settings, spec, Where(bounded=bounded))
        typer.echo(f"{job} runs here; its rows go to {', '.join(map(settings.kafka.topic, spec.publishes))}")
        started = time.monotonic()
        _wait(result, job, shown)
    if bounded:
        typer.echo(f"{job} has read its topics to the end, in {time.monotonic() - started:.0f} s")
    if bounded and spec is specs.SERVICE_METRICS:
        _print_line_counts(settings)


def submit(
    context: typer.Context,
    job: Job,
    from_checkpoint: Annotated[
        bool, typer.Option("--from-checkpoint", help="go on from its newest checkpoint, where there is one")
    ] = False,
) -> None:
    """Hand a job to the Flink cluster at flink.rest_address, and return.

    `tidegate keep` does it whenever the cluster doesn't have the job.
    """
    from tidegate.jobs import cluster
    from tidegate.jobs.environment import Where

    spec, settings = _prepare(context, job)
    checkpoint = cluster.newest_checkpoint(settings.checkpoint_dir() / job) if from_checkpoint else None
    if from_checkpoint:
        typer.echo(
            f"{job} resumes from {checkpoint}"
            if checkpoint
            else f"{job} has no checkpoint: it starts without state"
        )
    result = _start(settings, spec, Where(settings.flink.rest_address, checkpoint=checkpoint))
    identifier = result.get_job_client().get_job_id()
    typer.echo(
        f"{job} is job {identifier} at http://{settings.flink.rest_address}/#/job/running/{identifier}"
    )


def _prepare(context: typer.Context, job: str) -> tuple[JobSpec, Settings]:
    from confluent_kafka import KafkaException

    from tidegate.adapters.kafka.client import KafkaUnavailable, ensure_topics

    if job not in JOBS:
        raise typer.BadParameter(f"{job!r} is not a job; the jobs are: {', '.join(JOBS)}")
    options: Options = context.obj
    settings = options.load()
    try:
        ensure_topics(settings.kafka, specs.needed_topics())
    except (KafkaUnavailable, KafkaException) as error:
        raise CommandFailed(str(error)) from error
    return JOBS[job], settings


def _start(settings: Settings, spec: JobSpec, where: Where) -> Any:
    from py4j.protocol import Py4JError
    from pyflink.util.exceptions import JavaException

    from tidegate.artifacts.maven import ArtifactUnavailable
    from tidegate.jobs.functions import FunctionsNotBuilt

    try:
        history = HISTORIES[spec](settings, where) if spec.with_history else ()
        return spec.statements(settings, where, history).execute()
    except (ArtifactUnavailable, FunctionsNotBuilt) as error:
        raise CommandFailed(str(error)) from error
    except (Py4JError, JavaException) as error:
        raise CommandFailed(
            f"{spec.name} could not start{f' at {where.cluster}' if where.cluster else ''}: {_cause(error)}"
        ) from error


def _replica_history(settings: Settings, where: Where) -> tuple[Any, ...]:
    from tidegate.adapters.kafka.client import KafkaUnavailable
    from tidegate.adapters.queries import replica_history

    try:
        return ({} if where.bounded else replica_history.newest(settings.kafka),)
    except KafkaUnavailable as error:
        raise CommandFailed(f"the newest change of each task can't be read: {error}") from error


def _alert_history(settings: Settings, where: Where) -> tuple[Any, ...]:
    from tidegate.adapters.alerting import history as alert_history
    from tidegate.adapters.kafka.client import KafkaUnavailable
    from tidegate.schemas import alert_rules

    try:
        rules = alert_rules.load(settings.alerts.rules or alert_rules.SHIPPED)
    except alert_rules.RulesError as error:
        raise SettingsError(str(error)) from error
    try:
        return rules, {} if where.bounded else alert_history.open_alerts(settings.kafka, rules)
    except KafkaUnavailable as error:
        raise CommandFailed(f"the alerts that haven't ended can't be read: {error}") from error


HISTORIES: Mapping[JobSpec, Callable[[Settings, Where], tuple[Any, ...]]] = {
    specs.REPLICA_CHANGES: _replica_history,
    specs.ALERTS: _alert_history,
}
"""Who reads what a job goes on from. Here and not in the specs: it comes from adapters, which jobs don't know."""


def _wait(result: Any, job: str, shown: FoldedNames | None) -> None:
    """Prints the names that fold, until the job has ended, Ctrl-C or SIGTERM; the JVM ends with this process.

    On a thread of its own: an interrupt would break into the talk with the JVM, and be logged with a traceback.
    """
    ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def wait() -> None:
        try:
            result.wait()
        except Exception as error:  # whatever it is, the command must report it
            ended.put(error)
        else:
            ended.put(None)

    # SIGINT too: a shell's background jobs inherit that it is ignored.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        threading.Thread(target=wait, daemon=True).start()
        if error := _taken(ended, shown):
            raise CommandFailed(f"{job} ended with an error: {_cause(error)}") from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _taken(ended: queue.SimpleQueue[Exception | None], shown: FoldedNames | None) -> Exception | None:
    """What comes, whenever it comes; meanwhile the job goes on."""
    heartbeat = Heartbeat()
    while True:
        heartbeat.beat()
        for name in shown.new() if shown else ():
            typer.echo(f"  {_folds(name)}")
        with contextlib.suppress(queue.Empty):
            return ended.get(timeout=1)


def _cause(error: Exception) -> str:
    """The innermost causes of a Java stack trace, one a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return "\n".join(causes[-2:] or lines[:2])


def _print_line_counts(settings: Settings) -> None:
    from tidegate.adapters.kafka.client import KafkaUnavailable
    from tidegate.adapters.queries import line_counts

    try:
        counts = line_counts.rows(settings.kafka)
    except KafkaUnavailable as error:
        raise CommandFailed(f"the job has ended; its line counts can't be read: {error}") from error
    for row in counts:
        typer.echo(f"  {row.kind:8} {row.lines:>12,} lines")
    for name in line_counts.folded_names(counts):
        typer.echo(f"  {_folds(name)}")


@contextlib.contextmanager
def _folded_names(settings: Settings, *, follow: bool) -> Iterator[FoldedNames | None]:
    from tidegate.adapters.kafka.client import KafkaUnavailable
    from tidegate.adapters.queries.line_counts import FoldedNames

    if not follow:
        yield None
        return
    try:
        names = FoldedNames(settings.kafka)
    except KafkaUnavailable as error:
        raise CommandFailed(f"the names that fold can't be followed: {error}") from error
    with names:
        yield names


def _folds(name: str) -> str:
    return f"{name!r} goes into {OVERFLOW}"
