"""Hints of a row's field for its index, where its Python type isn't enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FieldType = Literal["keyword", "text", "long", "double", "date", "boolean", "stored"]
"""Elasticsearch's names, and `stored`: an object that is kept in the document and can't be searched."""


@dataclass(frozen=True)
class IndexAs:
    """Elasticsearch's type of a field: `Annotated[str, IndexAs("text")]`."""

    type: FieldType
