"""Durations of options: what is read, and what is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
import typer

from tidegate.cli.ages import age


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86_400), ("0s", 0)]
)
def test_an_age_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert age("--since", text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5x", "1.5h", "9999999s"])
def test_any_other_age_is_wrong_use(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 5m"):
        age("--since", text)


def test_a_wrong_age_names_its_option() -> None:
    assert age("--for", "30m") == timedelta(minutes=30)
    with pytest.raises(typer.BadParameter, match="--for soon is not a duration; write a number"):
        age("--for", "soon")
