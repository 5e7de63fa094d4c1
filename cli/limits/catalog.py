"""`tidegate catalog`: checks the catalog file, publishes it to its topic, and shows what the topic holds."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.app_context import DONE, CommandFailed, Options
from tidegate.cli.failures import failures
from tidegate.cli.limits.display import catalog_line, catalog_table, print_table

if TYPE_CHECKING:
    from tidegate.schemas.catalog import Catalog

catalog = typer.Typer(no_args_is_help=True, help="Check, publish or show the task catalog.")
_File = Annotated[Path, typer.Argument(metavar="FILE", help="the catalog, YAML")]


@catalog.command()
def check(file: _File) -> int:
    """Show the tasks of a file, or every mistake in it."""
    _print(found := _load(file))
    typer.echo(f"{file}: {catalog_line(found)}", err=True)
    return DONE


@catalog.command()
def publish(
    context: typer.Context,
    file: _File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what would change")] = False,
) -> int:
    """Publish this file to the topic tidegate.tasks, and show what changes.

    A file with a mistake changes nothing. Tasks that aren't in the file are removed from the topic; their limits stay.
    """
    from tidegate.adapters.catalog.topic import differences, plan, read
    from tidegate.adapters.catalog.topic import publish as write

    options: Options = context.obj
    settings = options.load()
    wanted = _load(file)
    with failures(settings):
        steps = plan(read(settings.kafka).rows, wanted, datetime.now(UTC))
        if steps and not dry_run:
            write(settings.kafka, steps)
        for line in differences(steps):
            typer.echo(line)
        done = "would be published" if dry_run else "published"
        typer.echo(f"{catalog_line(wanted)}; {done if steps else 'nothing has changed'}", err=True)
    return DONE


@catalog.command()
def show(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> int:
    """Show what the topic tidegate.tasks holds."""
    from tidegate.adapters.catalog.topic import read

    options: Options = context.obj
    settings = options.load()
    with failures(settings):
        held = read(settings.kafka)
        if json:
            for _, row in sorted(held.rows.items()):
                if row is not None:
                    typer.echo(row.model_dump_json())
        elif held.catalog.tasks:
            _print(held.catalog)
        typer.echo(f"{settings.kafka.topic_prefix}tidegate.tasks: {catalog_line(held.catalog)}", err=True)
        if wrong := [key for key, row in sorted(held.rows.items()) if row is None]:
            typer.echo(
                f"the rows of {', '.join(wrong)} are not valid, and no component uses them; publish the catalog again",
                err=True,
            )
    return DONE


def _load(file: Path) -> Catalog:
    from tidegate.schemas.catalog import CatalogError, load

    try:
        return load(file)
    except CatalogError as error:
        raise CommandFailed(f"the task catalog can't be used:\n{error}") from error


def _print(found: Catalog) -> None:
    if found.tasks:
        print_table(catalog_table(found))
