"""What every command shares: the settings from the common options, and errors turned into exit codes."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from tidegate.schemas.settings import Layer, Settings, SettingsError, load, load_layers

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

errors = Console(stderr=True, highlight=False)

_WrongUse: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")
"""What typer raises for wrong use. From 0.29 on typer carries its own click, so click's name would miss it."""


class CommandFailed(Exception):
    """A command could not do its work. The message is for the user: what is wrong, where, what to do."""


@dataclass(frozen=True)
class Options:
    """The options before the command's name."""

    config: Path | None = None
    assignments: tuple[str, ...] = ()

    def load(self, overrides: Mapping[str, Any] | None = None) -> Settings:
        """The settings; `overrides` are those of the command's own options, None values left out.

        Raises SettingsError.
        """
        return load(self.config, self._set(overrides))

    def load_layers(self) -> tuple[Settings, tuple[Layer, ...]]:
        """The settings, and the layers that they come from. Raises SettingsError."""
        return load_layers(self.config, self._set())

    def _set(self, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for assignment in self.assignments:
            name, equals, value = assignment.partition("=")
            if not equals:
                raise SettingsError(f"--set {assignment}: write GROUP.NAME=VALUE")
            merged[name] = _value(value)
        return merged | {name: value for name, value in (overrides or {}).items() if value is not None}


def _value(text: str) -> Any:
    """A list or a table is written as JSON, as in the environment; anything else is the text itself."""
    if text.startswith(("{", "[")):
        with contextlib.suppress(json.JSONDecodeError):
            return json.loads(text)
    return text


def run(app: typer.Typer) -> int:
    """Run the app; returns the exit code. Known errors become text on stderr, without a stack trace."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Beam, which comes with PyFlink, logs each optional part that it doesn't find.
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    # Whoever makes a request reports its failure.
    logging.getLogger("elastic_transport").setLevel(logging.ERROR)
    try:
        result = app(standalone_mode=False)
    except SettingsError as error:
        errors.print(f"[red]settings[/red]\n{escape(str(error))}", soft_wrap=True)
        return WRONG_USE
    except _WrongUse as error:
        error.show()
        return WRONG_USE
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except CommandFailed as error:
        errors.print(f"[red]failed[/red] {escape(str(error))}", soft_wrap=True)
        return FAILED
    return result if isinstance(result, int) else DONE
