"""The demo as a whole: sets up, watches, measures, takes down."""

from __future__ import annotations

from dataclasses import dataclass

from rich.markup import escape

from tidegate.demo import failing_request
from tidegate.demo import measures as measuring
from tidegate.demo import workspace as workspaces
from tidegate.demo.failing_request import LookedUp
from tidegate.demo.failure import DemoFailed
from tidegate.demo.measures import Measures
from tidegate.demo.parts import Replicas
from tidegate.demo.progress import Progress
from tidegate.demo.scenario import DEMO, Scenario
from tidegate.demo.staging import Staging
from tidegate.demo.watching import Watch
from tidegate.demo.workspace import Workspace
from tidegate.schemas.elasticsearch import contract_of
from tidegate.schemas.settings import Settings
from tidegate.schemas.topics import SERVICE_METRICS_1S

DEFAULT_SECONDS = 180.0


@dataclass(frozen=True)
class Plan:
    """The scenario, its length, and whether the demo keeps running afterwards."""

    seconds: float = DEFAULT_SECONDS
    keep: bool = False
    scenario: Scenario = DEMO


def play(settings: Settings, plan: Plan, progress: Progress) -> Measures:
    """Play the demo to its end. Leaves nothing running, unless `keep` is set and it succeeds.

    Raises DemoFailed, StackError, ArtifactUnavailable or KafkaUnavailable if a component fails, and
    KeyboardInterrupt after an interrupted demo has stopped everything that it started.
    """
    workspace = workspaces.prepare(settings, plan.scenario)
    staging = Staging(workspace, plan.scenario, plan.seconds, progress)
    watch = Watch(staging, plan.scenario, workspace, plan.seconds)
    keep = False
    try:
        staging.set_up()
        try:
            watch.until_over(progress)
            staging.stop_clients()
            watch.settle()
        except KeyboardInterrupt:
            progress.detail("[yellow]interrupted[/yellow]")
            _print_measures(progress, watch.measures())
            raise
        measures = watch.measures()
        looked_up = failing_request.look_up(workspace, measures.load_end_ms) if measures.agrees else None
        keep = plan.keep
    finally:
        if not keep:
            staging.take_down()
    _print_measures(progress, measures)
    _print_request(progress, looked_up)
    for line in where_to_look(workspace, staging, plan.scenario, plan.keep):
        progress.console.print(line, soft_wrap=True)
    return measures


def verdict(measures: Measures) -> None:
    """Raises DemoFailed if the counted requests differ from the sent ones, or a limit didn't follow."""
    if measures.whole and not measures.agrees:
        raise DemoFailed(
            "the requests that tidegate counted differ from those that the clients sent; see the table above"
        )
    for one in measures.overdue:
        moved = one.moved
        raise DemoFailed(
            f"{moved.replicas} replicas of {moved.task} {moved.what}, and the limit did not follow; see the logs of "
            "watcher, controller and flink-taskmanager"
        )


def where_to_look(workspace: Workspace, staging: Staging, scenario: Scenario, kept: bool) -> list[str]:
    """Suggestions for the user's next steps."""
    command = workspace.shown_command()
    if not kept:
        return [
            "",
            "[bold]Next steps[/bold]",
            f"  the logs of every component: {workspace.folder / 'logs'}",
            f"  the gateway's access log: {workspace.access_log}",
            "  to explore a running demo: tidegate demo --keep",
            f"  to remove the demo's files: {command} down --purge",
        ]
    settings = staging.settings
    task = scenario.tasks[0].name
    indexed = contract_of(SERVICE_METRICS_1S.name).alias(settings.elasticsearch.index_prefix)
    return [
        "",
        "[bold]Everything except the clients is still running[/bold]",
        f"  the newest minute of each task: {command} windows --span 1m --level task",
        f"  new seconds as they arrive: {command} windows --level task --follow",
        f"  a page with all metrics, logs and requests: {command} ui",
        f"  warnings and errors of the last minutes: {command} logs --severity warn --since 5m",
        *_about_limits(workspace, scenario, command),
        f"  Flink: http://{settings.flink.rest_address}",
        f"  Elasticsearch: curl '{settings.elasticsearch.url}/{indexed}/_search?size=1&pretty'",
        "  your own requests (a second's rows appear after later requests): "
        f"while sleep 0.1; do curl -s -o /dev/null -w '%{{http_code}} ' -H 'taskid: {task}' -d hello "
        f"http://127.0.0.1:{staging.gateway_port}/v1/infer; done",
        f"  the components: {command} status",
        f"  to stop everything: {command} down",
    ]


def _about_limits(workspace: Workspace, scenario: Scenario, command: str) -> list[str]:
    """Suggestions for the first task whose limit tidegate sets."""
    tasks = scenario.limited_tasks()
    if not tasks:
        return []
    name, replica = tasks[0].name, list(tasks[0].replicas())[-1].name
    unready = Replicas.unready_file(workspace.folder / Replicas.name)
    return [
        f"  the explanation of a limit: {command} limit --explain {name}",
        f"  requests, limit and replicas in one timeline: {command} limits --task {name}",
        "  to make a replica unready, and see the limit follow: "
        + escape(f"echo '[\"{replica}\"]' > {unready}"),
    ]


def _print_request(progress: Progress, looked_up: LookedUp | None) -> None:
    if looked_up is not None:
        progress.console.print("\n[bold]One failed request, and the log of its model[/bold]")
        progress.console.print(
            f"$ {looked_up.command}\n{looked_up.output}", markup=False, highlight=False, soft_wrap=True
        )


def _print_measures(progress: Progress, measures: Measures) -> None:
    progress.console.print(measuring.render(measures))
