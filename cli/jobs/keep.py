"""`tidegate keep`: keeps each job running exactly once on a Flink cluster."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.app_context import Options
from tidegate.cli.stopping import stopping
from tidegate.jobs.specs import JOBS

if TYPE_CHECKING:
    from tidegate.jobs.cluster import Job

_LOOK_SECONDS = 2.0
_GRACE_SECONDS = 5.0

log = logging.getLogger(__name__)


def keep(
    context: typer.Context,
    job: Annotated[
        list[str] | None, typer.Argument(metavar="[JOB]...", help=f"of {', '.join(JOBS)}; default: all")
    ] = None,
) -> int:
    """Keep jobs running on the Flink cluster at flink.rest_address: submit each job that it doesn't run.

    A job resumes from its newest checkpoint: after a restart of the cluster, an upgrade, or a cancelled job. Runs until
    SIGTERM or Ctrl-C; the jobs keep running. Needs the cluster's view of flink.checkpoint_dir. Run one instance.
    """
    options: Options = context.obj
    settings = options.load()
    names = list(dict.fromkeys(job or JOBS))
    if unknown := [name for name in names if name not in JOBS]:
        raise typer.BadParameter(f"{unknown[0]!r} is not a job; the jobs are: {', '.join(JOBS)}")
    with stopping() as received:
        Keeper(settings.flink.rest_address, names, Submitting(options), time.monotonic).run(received.stop)
    return received.exit_code


class Submitting:
    """Submits a job with `tidegate submit`, in its own process, so that its JVM ends after a few seconds."""

    def __init__(self, options: Options) -> None:
        config = ("--config", str(options.config)) if options.config else ()
        given = (part for one in options.assignments for part in ("--set", one))
        self._command = (
            sys.executable,
            "-m",
            "tidegate.cli.main",
            *config,
            *given,
            "submit",
            "--from-checkpoint",
        )

    def __call__(self, name: str, stop: threading.Event) -> bool:
        """Whether the cluster accepted the job. The submission is abandoned when `stop` is set."""
        process = subprocess.Popen((*self._command, name))
        while process.poll() is None and not stop.wait(0.2):
            pass
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return process.returncode == 0


class Keeper:
    """Lists a cluster's jobs, and submits those that it doesn't run."""

    def __init__(
        self,
        rest_address: str,
        names: Sequence[str],
        submit: Callable[[str, threading.Event], bool],
        clock: Callable[[], float],
    ) -> None:
        """submit: given a job's name, whether the cluster accepted it. clock: monotonic, in seconds."""
        from tidegate.adapters.backoff import Backoff

        self._rest_address = rest_address
        self._names = names
        self._submit = submit
        self._clock = clock
        self._backoff = Backoff(2, 60)
        self._failures = dict.fromkeys(names, 0)
        self._not_before = dict.fromkeys(names, 0.0)
        self._unreachable_logged = False

    def run(self, stop: threading.Event) -> None:
        """Check every two seconds until `stop` is set."""
        from tidegate.jobs import cluster

        while not stop.is_set():
            self.look(cluster.jobs(self._rest_address), stop)
            stop.wait(_LOOK_SECONDS)

    def look(self, found: Sequence[Job] | None, stop: threading.Event) -> None:
        """Submit each absent job that is due. found: the cluster's jobs; None when it doesn't answer."""
        from tidegate.jobs import cluster

        if found is None:
            if not self._unreachable_logged:
                log.warning("Flink doesn't answer at %s; waiting for it", self._rest_address)
            self._unreachable_logged = True
            return
        self._unreachable_logged = False
        for name in [job.name for job in found if job.runs and job.name in self._failures]:
            self._failures[name] = 0
        for name in cluster.absent(self._names, found):
            if stop.is_set():
                return
            if self._clock() < self._not_before[name]:
                continue
            for job in found:
                if job.name == name and job.state == "FAILED":
                    log.error("%s has failed: %s", name, cluster.why(self._rest_address, job))
            taken = self._submit(name, stop)
            # A job that is accepted and fails at once, as on a checkpoint that it can't read, waits as well.
            self._failures[name] += 1
            delay = self._backoff.delay(self._failures[name], random.random())  # noqa: S311 (jitter)
            self._not_before[name] = self._clock() + delay
            if not taken and not stop.is_set():
                log.error("%s could not be submitted; next try in %.0f s", name, delay)
