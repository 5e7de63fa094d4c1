"""Durations as options take them: a number and s, m, h or d."""

from __future__ import annotations

import re
from datetime import timedelta

import typer

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def age(option: str, text: str) -> timedelta:
    """The duration in an option's text: `30s`, `5m`, `2h` or `1d`. Raises typer.BadParameter for another form."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None:
        raise typer.BadParameter(
            f"{option} {text} is not a duration; write a number and s, m, h or d, such as 5m"
        )
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])
