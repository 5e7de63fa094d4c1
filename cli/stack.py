"""`tidegate up`, `down` and `status`: the local servers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from tidegate.cli.app_context import CommandFailed, Options

if TYPE_CHECKING:
    from tidegate.stack.local import LocalStack, Progress, ServerStatus

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[SERVER]...", help="only these; default: all servers")
]


def up(context: typer.Context, servers: Names = None) -> None:
    """Start the local servers and wait until each is ready. What runs already stays as it is."""
    console = Console()
    console.print(
        "Starting the local servers; the first time they are downloaded, which takes a minute or two."
    )
    _do(context, console, lambda stack: stack.up(servers or None))
    console.print("All ready. `tidegate status` shows them, `tidegate down` ends them.")


def down(
    context: typer.Context,
    servers: Names = None,
    purge: Annotated[bool, typer.Option("--purge", help="also remove their data")] = False,
) -> None:
    """End what `up` started, and nothing else. Data stays, unless --purge."""
    console = Console()
    _do(context, console, lambda stack: stack.down(servers or None, purge=purge))
    console.print("Nothing of it runs any more." if not servers else f"Ended: {', '.join(servers)}.")


def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Each server's state, process, memory and addresses. Exit code 1 when one has died or doesn't answer."""
    from tidegate.stack.local import State

    options: Options = context.obj
    stack = _stack(options, Console(quiet=True))
    found = stack.status()
    if as_json:
        typer.echo(json.dumps([_plain(server) for server in found], indent=2))
    else:
        Console().print(_table(found))
    if any(server.state in {State.DEAD, State.NOT_ANSWERING} for server in found):
        raise typer.Exit(1)


def _do(context: typer.Context, console: Console, action: Any) -> None:
    from tidegate.artifacts.maven import ArtifactUnavailable
    from tidegate.stack.errors import StackError

    options: Options = context.obj
    try:
        action(_stack(options, console))
    except (StackError, ArtifactUnavailable) as error:
        raise CommandFailed(str(error)) from error
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _stack(options: Options, console: Console) -> LocalStack:
    from tidegate.stack import local_stack

    return local_stack(options.load(), lambda progress: _tell(console, progress))


def _tell(console: Console, progress: Progress) -> None:
    from tidegate.stack.local import Step

    style = {Step.READY: "green", Step.FAILED: "red", Step.KILLED: "yellow"}.get(progress.step, "")
    console.print(
        f"  {progress.server or 'all':18} [{style or 'default'}]{progress.step.value:16}[/] {progress.detail}",
        highlight=False,
        soft_wrap=True,
    )


def _table(found: list[ServerStatus]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("server", "state", "pid", "memory", "answers at"):
        table.add_column(column)
    for server in found:
        table.add_row(
            server.name,
            server.state.value,
            str(server.pid or ""),
            f"{server.memory_bytes / 2**20:.0f} MiB" if server.memory_bytes else "",
            server.problem or ", ".join((server.addresses or {}).values()),
        )
    return table


def _plain(server: ServerStatus) -> dict[str, Any]:
    return {
        "name": server.name,
        "state": server.state.value,
        "pid": server.pid,
        "started_at": server.started_at.isoformat() if server.started_at else None,
        "memory_bytes": server.memory_bytes,
        "addresses": server.addresses or {},
        "log": str(server.log) if server.log else None,
        "problem": server.problem,
    }
