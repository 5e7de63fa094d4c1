"""`tidegate up`, `down` and `status`: the local servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli.app_context import CommandFailed, Options

if TYPE_CHECKING:
    from tidegate.stack.local import LocalStack, ServerStatus

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SERVER]...",
        help="kafka, elasticsearch, flink (or one of its two processes), envoy; default: all",
    ),
]
GROUPS = {"flink": ("flink-jobmanager", "flink-taskmanager")}


def up(context: typer.Context, servers: Names = None) -> None:
    """Start the local servers and wait until each is ready. A running server stays as it is."""
    console = Console()
    console.print("Starting the local servers. The first start downloads them, which takes a few minutes.")
    _do(context, console, lambda stack: stack.up(_each(servers)))
    console.print("All servers are ready. `tidegate status` shows them, `tidegate down` stops them.")


def down(
    context: typer.Context,
    servers: Names = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="also remove their data, including topics and indices")
    ] = False,
) -> None:
    """Stop the servers that `up` started, and nothing else. Keeps their data unless --purge is given."""
    from tidegate.stack.errors import UnknownServer

    console = Console()

    def end(stack: LocalStack) -> None:
        names = _each(servers)
        for name in names or ():
            if name not in stack.names:
                raise UnknownServer(f"{name!r} is not a server; the servers are {', '.join(stack.names)}")
        stack.down(names, purge=purge)

    _do(context, console, end)
    console.print("All servers are stopped." if not servers else f"Stopped: {', '.join(servers)}.")


def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON list of all servers")] = False,
) -> None:
    """Show each server's state, process, memory and addresses. Exits with 1 if one has died or doesn't answer."""
    from tidegate.stack import local_stack
    from tidegate.stack.errors import StackError
    from tidegate.stack.local import State

    options: Options = context.obj
    stack = local_stack(options.load())
    try:
        found = stack.status()
    except StackError as error:
        raise CommandFailed(str(error)) from error
    if as_json:
        typer.echo(json.dumps([_plain(server) for server in found], indent=2))
    else:
        Console().print(_table(found))
    if any(server.state in {State.DEAD, State.NOT_ANSWERING} for server in found):
        raise typer.Exit(1)


def _each(names: Sequence[str] | None) -> list[str] | None:
    """The processes of these names; None for all."""
    return [each for name in names for each in GROUPS.get(name, (name,))] if names else None


def _do(context: typer.Context, console: Console, action: Callable[[LocalStack], None]) -> None:
    from tidegate.artifacts.maven import ArtifactUnavailable
    from tidegate.cli.local.stack_display import Display
    from tidegate.stack import local_stack
    from tidegate.stack.errors import StackError, UnknownServer

    options: Options = context.obj
    display = Display(console)
    try:
        with display.shown():
            action(local_stack(options.load(), display.update))
    except (StackError, ArtifactUnavailable) as error:
        raise CommandFailed(str(error)) from error
    except UnknownServer as error:
        raise typer.BadParameter(str(error)) from error


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
