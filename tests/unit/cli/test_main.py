"""The command line as a whole: the panels of `--help`."""

from __future__ import annotations

import typer
from typer.testing import CliRunner

from tidegate.cli.main import PANELS, app


def package_of(command: object) -> str:
    """The package of `cli` that defines a command."""
    if isinstance(command, typer.Typer):
        first = (command.registered_callback or command.registered_commands[0]).callback
        command = first
    module: str = getattr(command, "__module__", "")
    return module.split(".")[2]


def test_each_panel_of_the_help_mirrors_one_package() -> None:
    packages = [{package_of(command) for command in commands.values()} for commands in PANELS.values()]
    assert packages == [
        {"local"},
        {"ingest"},
        {"jobs"},
        {"elasticsearch"},
        {"limits"},
        {"signals"},
        {"queries"},
        {"reference"},
    ]


def test_the_help_shows_every_command_in_its_panel() -> None:
    shown = CliRunner().invoke(app, ["--help"], standalone_mode=False, env={"COLUMNS": "200"}).output
    places = [shown.index(f" {panel} ") for panel in PANELS]
    assert places == sorted(places)
    for (panel, commands), end in zip(PANELS.items(), [*places[1:], len(shown)], strict=True):
        part = shown[shown.index(f" {panel} ") : end]
        assert [name for name in commands if f"│ {name} " not in part] == []
