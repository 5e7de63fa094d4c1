"""`tidegate alerts`: checks and tests rules, sends alerts, and lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.app_context import DONE, FAILED, Options
from tidegate.cli.failures import failures
from tidegate.cli.stopping import stopping
from tidegate.schemas.alert_rules import SHIPPED, RulesError, RulesFile
from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.settings import SettingsError

alerts = typer.Typer(no_args_is_help=True, help="Check and test alert rules, send alerts, and list them.")

Rules = Annotated[Path, typer.Argument(metavar="RULES", help="the YAML file with the rules")]


@alerts.command()
def check(
    rules: Annotated[
        Path | None, typer.Argument(metavar="[RULES]", help="default: the rules that tidegate ships")
    ] = None,
) -> int:
    """Check a file of rules and show every mistake; a file with a mistake is never used."""
    found = _load(rules or SHIPPED)
    counts = (
        (len(found.rules), "rule"),
        (len(found.burn_rates), "burn rate"),
        (len(found.silences), "silence"),
    )
    summary = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
    typer.echo(f"{rules or 'the rules that tidegate ships'}: {summary}; no mistakes")
    return DONE


@alerts.command()
def test(
    rules: Rules,
    fixture: Annotated[
        Path, typer.Argument(metavar="FIXTURE", help="YAML file with rows and expected alerts")
    ],
) -> int:
    """Evaluate rules over the rows of a fixture, and compare the alerts with the expected ones.

    Exits with 1 if they differ.
    """
    from tidegate.jobs.logic.alerts import replay as alert_replay
    from tidegate.schemas import alert_fixture

    loaded = _load(rules)
    try:
        tests = alert_fixture.load(fixture).tests
    except RulesError as error:
        raise SettingsError(str(error)) from error
    if unknown := [line for one in tests for line in alert_replay.unknown_fields(one)]:
        raise SettingsError("\n".join(f"{fixture}: {line}" for line in unknown))
    failed = 0
    for one in tests:
        wrong = alert_replay.differences(loaded, one)
        typer.echo(f"{'FAILED' if wrong else 'ok    '} {one.name}")
        for line in wrong:
            typer.echo(f"       {line}")
        failed += bool(wrong)
    typer.echo(f"{len(tests) - failed} of {len(tests)} as expected")
    return FAILED if failed else DONE


@alerts.command()
def send(context: typer.Context) -> int:
    """Send alerts to alerts.alertmanager_urls and alerts.webhook_url, repeatedly until they resolve.

    Runs until SIGTERM or Ctrl-C. A receiver that was unavailable gets the newest state of each alert when it is back.
    """
    from tidegate.adapters.alerting import sender as alert_sender

    options: Options = context.obj
    settings = options.load()
    targets = alert_sender.targets_of(settings.alerts)
    if not targets:
        raise SettingsError(
            "alerts.alertmanager_urls and alerts.webhook_url: neither is set; set one of them"
        )
    with failures(settings), stopping() as received:
        taken = alert_sender.run(settings.kafka, settings.alerts, targets, received.stop)
    typer.echo(f"{taken} requests accepted")
    return received.exit_code


@alerts.command("list")
def list_(
    context: typer.Context,
    all_: Annotated[bool, typer.Option("--all", help="include resolved alerts")] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> int:
    """List the alerts that are pending or firing now."""
    from tidegate.adapters.alerting import history as alert_history
    from tidegate.adapters.kafka.client import ensure_topics
    from tidegate.schemas.topics import ALERTS

    options: Options = context.obj
    settings = options.load()
    with failures(settings):
        ensure_topics(settings.kafka, [ALERTS])
        rows = sorted(alert_history.newest(settings.kafka).values(), key=lambda row: row.started_at)
    shown = [row for row in rows if all_ or row.state != "resolved"]
    for row in shown:
        typer.echo(row.model_dump_json() if json else _line(row))
    if not shown and not json:
        typer.echo("no alert is pending or firing")
    return DONE


def _line(row: AlertRow) -> str:
    subject = "/".join(part for part in (row.department, row.task, row.replica) if part) or "-"
    silent = " (silenced)" if row.silenced else ""
    return (
        f"{row.started_at:%Y-%m-%d %H:%M:%S}Z  {row.state:8} {row.severity:8} {row.rule:24} {subject:32} "
        f"{row.message}{silent}"
    )


def _load(path: Path) -> RulesFile:
    from tidegate.schemas import alert_rules

    try:
        return alert_rules.load(path)
    except RulesError as error:
        raise SettingsError(str(error)) from error
