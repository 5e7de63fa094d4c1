"""What groups of settings have in common: their base, and types of values."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s]+$")]


def _compiled(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a valid regular expression: {error}") from error
    return text


Pattern = Annotated[str, AfterValidator(_compiled)]
"""A regular expression."""


class Group(BaseModel):
    """Base of every group: immutable, and an unknown name is an error.

    Its docstring's first line and every field's description stand in `tidegate settings` and docs/settings.md.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
