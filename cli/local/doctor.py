"""`tidegate doctor`: reports what works, what doesn't, and how to fix it."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.app_context import DONE, FAILED, Options

if TYPE_CHECKING:
    from tidegate.cli.local.doctor_findings import Finding

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="one JSON object with all findings")] = False,
) -> int:
    """Check this machine and the servers of the settings, and suggest a fix for each problem.

    Changes nothing. Exits with 1 if a check fails.
    """
    from tidegate.cli.local.doctor_machine import check_machine
    from tidegate.cli.local.doctor_servers import check_servers

    options: Options = context.obj
    settings = options.load()
    logging.getLogger("elastic_transport").setLevel(logging.CRITICAL)  # the findings report it
    findings = check_machine(settings) + check_servers(settings)
    failed = any(finding.state == "fail" for finding in findings)
    if json:
        import orjson

        report = {"ok": not failed, "findings": [asdict(finding) for finding in findings]}
        typer.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(findings)
    return FAILED if failed else DONE


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        line = Text.assemble((f"{finding.state:<4}", _STYLES[finding.state]), f"  {finding.check:<{width}}  ")
        console.print(line.append(finding.found), soft_wrap=True)
        if finding.todo:
            console.print(Text(f"{'':{width + 6}}  {finding.todo}", style="dim"), soft_wrap=True)
