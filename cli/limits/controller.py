"""`tidegate limit`: the rate-limit controller, its dry run, and the explanation of one task's limit."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.app_context import DONE, CommandFailed, Options
from tidegate.cli.failures import failures
from tidegate.cli.stopping import stopping
from tidegate.schemas.settings import Settings

if TYPE_CHECKING:
    from tidegate.adapters.limiting.targets.base import Target


def limit(
    context: typer.Context,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="show what would be pushed; write nothing to Kafka or a gateway"),
    ] = False,
    explain: Annotated[
        str | None,
        typer.Option("--explain", metavar="[DEPARTMENT/]TASK", help="explain the current limit of this task"),
    ] = None,
) -> int:
    """Keep each task's rate limit at what its ready replicas can serve.

    The target is limits.target: an Envoy route file, Kubernetes, or the manager. Runs until SIGTERM or Ctrl-C. Of
    several instances one is the leader, and another takes over when it ends.
    """
    from tidegate.adapters.limiting.controller import run
    from tidegate.adapters.limiting.dry_run import explained, run_dry
    from tidegate.adapters.limiting.targets.base import TargetFailed

    options: Options = context.obj
    settings = options.load()
    # The Kubernetes client logs each retry; the controller logs the outcome.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        with failures(settings):
            target = _target(settings)
            if explain is not None:
                for line in explained(settings, target, explain):
                    typer.echo(line)
                return DONE
            with stopping() as received:
                if dry_run:
                    run_dry(settings, target, received.stop, lambda row: typer.echo(row.model_dump_json()))
                else:
                    run(settings, target, received.stop)
    except (TargetFailed, LookupError) as error:
        raise CommandFailed(str(error)) from error
    return received.exit_code


def _target(settings: Settings) -> Target:
    from tidegate.jobs.logic.limits.envoy_limits import LimitedAnswer

    limits = settings.limits
    if limits.target == "envoy-file":
        from tidegate.adapters.limiting.targets.file import EnvoyFileTarget

        return EnvoyFileTarget(limits.envoy_files, limits.envoy_admins, LimitedAnswer.of(limits))
    if limits.target == "http":
        from tidegate.adapters.limiting.targets.http import HttpTarget

        return HttpTarget(limits)
    from tidegate.adapters.kubernetes.errors import KubernetesUnknown
    from tidegate.adapters.limiting.targets.kubernetes import KubernetesTarget

    try:
        return KubernetesTarget(settings.kubernetes, {}, LimitedAnswer.of(limits))
    except KubernetesUnknown as error:
        raise CommandFailed(str(error)) from error
