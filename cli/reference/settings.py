"""`tidegate settings`: every setting with its value, where the value comes from, and what it means."""

from __future__ import annotations

from typing import Annotated

import typer

from tidegate.cli.app_context import Options


def settings(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="a group, a setting, or the beginning of one: kafka, kafka.sasl"
        ),
    ] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="only settings that differ from the default")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="a reference page of all settings, without current values")
    ] = False,
) -> None:
    """Show every setting: its value, where the value comes from, and its meaning.

    Secrets are masked: passwords and tokens, also inside URLs and Flink options.
    """
    from tidegate.cli.reference import settings_display
    from tidegate.schemas.settings import listing as settings_listing

    if markdown and (changed or json):
        raise typer.BadParameter("--markdown shows no values; leave out --changed and --json")
    wanted = tuple(names or ())
    known = settings_listing.all_settings()
    for name in wanted:
        if not any(_matches(one.name, name) for one in known):
            raise typer.BadParameter(
                f"{name}: no setting's name starts with it; the groups are {', '.join(settings_listing.groups())}"
            )

    def chosen(name: str) -> bool:
        return not wanted or any(_matches(name, prefix) for prefix in wanted)

    if markdown:
        page = settings_display.markdown(
            [one for one in known if chosen(one.name)], settings_listing.groups()
        )
        typer.echo(page, nl=False)
        return
    options: Options = context.obj
    values = [
        one
        for one in settings_listing.current(*options.load_layers())
        if chosen(one.setting.name) and (one.changed or not changed)
    ]
    if json:
        import orjson

        for one in values:
            typer.echo(orjson.dumps(one.as_json()).decode())
        return
    from rich.console import Console

    console = Console(highlight=False)
    for line in settings_display.lines(values, settings_listing.groups()):
        console.print(line, soft_wrap=True)
    if not values:
        typer.echo("no setting differs from its default", err=True)


def _matches(name: str, prefix: str) -> bool:
    """A whole group, a whole name, or the beginning of a name within a group."""
    group, dot, _ = prefix.partition(".")
    return name.startswith(prefix) if dot else name.partition(".")[0].startswith(group)
